"""Turning a matrix over in registers, as LLVM's shuffles of two vectors.

Rows of the matrix are cut into pieces, and a piece's bits are exchanged with those of a row's
number by interleaving: log2 rounds of two-register shuffles, each one instruction on NEON (`zip`)
and on x86 (`unpck`), where pieces of four do not cross the 128 bits that it works on.
"""

from __future__ import annotations

from collections.abc import Sequence

from jit.llvm_primitives import Lines, vector_type


def transposed(out: Lines, rows: Sequence[str], lanes: int) -> list[str]:
    """The columns of a matrix: `lanes` vectors of len(rows) lanes, both powers of two above 1.

    The shorter side is the length of a piece.  Many short rows become few vectors, a piece from
    each of several rows; few long rows fall apart into their pieces in the end.
    """
    height = len(rows)
    piece, width = min(height, lanes), max(height, lanes)
    held = list(rows)
    if height > lanes:
        held = [_joined(out, rows[r::piece], piece) for r in range(piece)]
    held = _interleaved(out, held, piece, width)
    if height < lanes:
        held = [_cut(out, held[k % piece], k // piece * piece, piece, width) for k in range(lanes)]
    return held


def _interleaved(out: Lines, held: list[str], piece: int, width: int) -> list[str]:
    """As many vectors as a piece has lanes: lane j of every piece of vector i goes to lane i of
    the same piece of vector j."""
    half = piece // 2
    low, high = (
        [p + begin + i // 2 + i % 2 * width for p in range(0, width, piece) for i in range(piece)]
        for begin in (0, half)
    )
    for _ in range(piece.bit_length() - 1):
        pairs = list(zip(held[:half], held[half:], strict=True))
        held = [_shuffle(out, a, b, width, mask) for a, b in pairs for mask in (low, high)]
    return held


def _joined(out: Lines, parts: Sequence[str], lanes: int) -> str:
    """One vector of all lanes of the parts."""
    held = list(parts)
    while len(held) > 1:
        every = range(2 * lanes)
        pairs = zip(held[::2], held[1::2], strict=True)
        held = [_shuffle(out, a, b, lanes, every) for a, b in pairs]
        lanes *= 2
    return held[0]


def _cut(out: Lines, vector: str, begin: int, count: int, lanes: int) -> str:
    """Some lanes of a vector."""
    return _shuffle(out, vector, "poison", lanes, range(begin, begin + count))


def _shuffle(out: Lines, a: str, b: str, lanes: int, mask: Sequence[int]) -> str:
    """The lanes of two vectors that the mask names; those of b are counted on from those of a."""
    t, places = vector_type(lanes), vector_type(len(mask), "i32")
    chosen = ", ".join(f"i32 {place}" for place in mask)
    return out.op(f"shufflevector {t} {a}, {t} {b}, {places} <{chosen}>")
