"""Panel packing (implicit im2col): pack what a block of columns reads, then let strips sum it.

The columns that any strip keeps are laid side by side, a tile of positions each, once for every
group of tiles and block of columns; all strips then read whole aligned vectors from a panel that
stays in cache, at the rows that their lists of kept columns name.  Sums rest in `sums` between
blocks of columns, and leave it position by position, to the filters that the rows stand for.

    panel [part][tile in group][column of the block, position]      and room for one vector more
    sums  [part][tile in group][row][position]

A vector copied to the panel may reach past its run of positions: what it overwrites is packed
afterwards, and the room at the end takes the last one's.
"""

from __future__ import annotations

from dataclasses import replace

from jit.index import Index, at, index, minimum
from jit.kernels.activation import activate
from jit.kernels.conv import multiply_add
from jit.kernels.panel import POSITIONS, PanelKernel, distance, epilogue
from jit.program import (
    Block,
    Buffer,
    For,
    If,
    Let,
    Load,
    Param,
    Program,
    Registers,
    Statement,
    Store,
    loop,
    nest,
)
from jit.stages.transpose import PIECE

_TILE = index("g") * "T" + index("t")


def panel(program: Program, kernel: PanelKernel) -> Program:
    """The program over packed weights and panels; its parts share neither panel nor sums."""
    begin, end = index("part") * "G" // index("PARTS"), (index("part") + 1) * "G" // index("PARTS")
    tiles = minimum("T", index("TILES") - index("g") * "T")
    group = (
        loop(
            "b",
            "NB",
            loop("t", tiles, *_pack(kernel)),
            loop("s", "S", loop("t", tiles, *_sum(kernel))),
        ),
        loop("t", tiles, _store(kernel)),
    )
    body = loop("part", "PARTS", For("g", begin, end, group))
    return replace(
        program, params=_params(program), buffers=_buffers(program, kernel), body=(body,)
    )


def _pack(kernel: PanelKernel) -> Block:
    """A block's columns of one tile, piece by piece: where pieces lie is the same for all."""
    row = (index("k") - at("block", "b")) * kernel.positions
    places: list[Statement] = []
    copies: list[Statement] = []
    for c in range(kernel.pieces):
        piece = _TILE * kernel.pieces + c
        places += [
            Let(f"to{c}", at("to", piece)),
            Let(f"from{c}", at("corner", at("start", piece))),
        ]
        to = row + index(f"to{c}") + index("e")
        source = at("column", at("used", "k")) + index(f"from{c}") + index("e")
        copy = Store("panel", (index("part"), index("t"), to), Load("x", (source,)))
        copies.append(loop("e", kernel.lanes, copy, kind="vector"))
    columns = For("k", at("block", "b"), at("block", index("b") + 1), tuple(copies))
    return (*places, columns)


def _sum(kernel: PanelKernel) -> Block:
    """A strip's sums over one tile and block of columns."""
    row = index("s") * kernel.rows + index("r")
    y = Load("sums", (index("part"), index("t"), row, index("p")))
    x = Load("panel", (index("part"), index("t"), at("offset", "j") + index("p")))
    tile = [("r", index(kernel.rows)), ("p", index(kernel.positions))]
    start = nest(tile, Store("sums", y.subscript, Load("bias", (row,))))
    product = multiply_add(kernel.fused, Load("values", (index("j"), index("r"))), x, y)
    strip = index("s") * "NB" + index("b")
    total = For(
        "j",
        at("first", strip),
        at("first", strip + 1),
        (nest(tile, Store("sums", y.subscript, product)),),
    )
    block: list[Statement] = [If(index("b"), index(0), (start,)), total]
    if kernel.activation and not kernel.residual:
        end = nest(tile, Store("sums", y.subscript, activate(kernel.activation, y)))
        block.append(If(index("b"), index("NB") - 1, (end,)))
    return tuple(block)


def _store(kernel: PanelKernel) -> Statement:
    """The sums of one tile to the filters and positions they stand for, a strip at a time."""
    first = _TILE * kernel.positions
    end = minimum(first + kernel.positions, "Q")
    places = [
        Let(f"{buffer}{r}", distance(kernel, buffer, index("u") * kernel.rows + r))
        for r in range(1 if kernel.turned else kernel.rows)
        for buffer in ("yz" if kernel.residual else "y")
    ]
    single = tuple(_one(kernel, r, first) for r in range(kernel.rows))
    if not kernel.turned:
        return loop("u", "S", *places, For("q", first, end, single))
    groups = (end - first) // PIECE
    turned = loop("m", groups, *_turned(kernel, first))
    return loop("u", "S", *places, turned, For("q", first + groups * PIECE, end, single))


def _one(kernel: PanelKernel, r: int, first: Index) -> Store:
    """Row r of the sums at position q."""
    y = Load("sums", (index("part"), index("t"), index("u") * kernel.rows + r, index("q") - first))
    return _result(kernel, y, index("q"), *((0, index(r)) if kernel.turned else (r, index(0))))


def _turned(kernel: PanelKernel, first: Index) -> Block:
    """All rows of the sums at some positions, read along positions and written along rows."""
    begin, v = index("m") * PIECE, index("v")
    moves: list[Statement] = [Registers("turned", (kernel.rows, PIECE))]
    for r in range(kernel.rows):
        row = index("u") * kernel.rows + r
        sums = Load("sums", (index("part"), index("t"), row, begin + v))
        moves.append(loop("v", PIECE, Store("turned", (index(r), v), sums), kind="vector"))
    for i in range(PIECE):
        y = Load("turned", (index("f"), index(i)))
        stored = _result(kernel, y, first + begin + i, 0, index("f"))
        moves.append(loop("f", kernel.rows, stored, kind="vector"))
    return tuple(moves)


def _result(kernel: PanelKernel, y: Load, q: Index, row: int, beyond: Index) -> Store:
    """What becomes of the sum y at position q, stored so many filters beyond that of a row."""

    def place(buffer: str) -> tuple[Index]:
        return (at(POSITIONS[buffer], q) + index(f"{buffer}{row}") + beyond,)

    value = epilogue(kernel, y, Load("z", place("z"))) if kernel.residual else y
    return Store("y", place("y"), value)


def _params(program: Program) -> tuple[Param, ...]:
    counts = ["S", "NB", "TILES", "T", "G", "PARTS", "U", "ROOM"]
    return (*program.params, *(Param(name, 1) for name in counts), Param("J", 0))


def _buffers(program: Program, kernel: PanelKernel) -> tuple[Buffer, ...]:
    flat, rows = (index(1),), index("S") * kernel.rows
    pieces = index("TILES") * kernel.pieces
    tables = {
        "offset": index("J"),
        "first": index("S") * "NB" + 1,
        "used": index("U"),
        "block": index("NB") + 1,
        "start": pieces,
        "to": pieces,
    }
    packed = [
        Buffer(
            "values",
            "read",
            "f32",
            (index("J"), index(kernel.rows)),
            (index(kernel.rows), index(1)),
        ),
        *(Buffer(name, "read", "i32", (size,), flat) for name, size in tables.items()),
        scratch("panel", [index("PARTS"), index("T"), index("ROOM")]),
        scratch("sums", [index("PARTS"), index("T"), rows, index(kernel.positions)]),
    ]
    result: list[Buffer] = []
    for old in program.buffers:
        if old.name in ("bias", "filter"):  # so have the rows that only fill the last strip
            old = replace(old, shape=(rows,))
        result += packed if old.name == "w" else [old]
    return tuple(result)


def scratch(name: str, shape: list[Index]) -> Buffer:
    """Memory of the step's own, row-major."""
    strides = [index(1)]
    for extent in reversed(shape[1:]):
        strides.append(strides[-1] * extent)
    return Buffer(name, "update", "f32", tuple(shape), tuple(reversed(strides)))
