"""Transposition: what changes its layout moves in tiles that are turned over in registers.

A plain array holds neighbouring positions side by side, a blocked one the channels of a block.
Element by element one of the two is a walk in large steps.  A tile of a block of channels by some
positions is read as vectors of the one and written as vectors of the other; registers that are
written along one axis and read across turn it over.  The last tile of a row begins as late as it
can, over positions that the one before it moved: both write the same there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from jit.index import Index, index, minimum
from jit.kernels.channelwise import RelayoutKernel
from jit.program import (
    Block,
    Buffer,
    Const,
    Let,
    Load,
    Program,
    Registers,
    Statement,
    Store,
    loop,
    nest,
)

PIECE = 4
"""Positions of a vector on the plain side: x86 interleaves within 128 bits at no extra cost."""


def transpose(program: Program, kernel: RelayoutKernel) -> Program:
    """The program as tiles of `kernel.width` positions by a block of channels, if it has blocks."""
    start = minimum(index("tile") * kernel.width, index("OW") - kernel.width)
    tiles = (index("OW") + (kernel.width - 1)) // kernel.width
    row = loop("tile", tiles, Let("ow", start), *_tile(kernel))
    blocks = index(1) if kernel.filled else index("C") // kernel.block
    outer = [("cb", blocks), ("n", index("N"))]
    outer += [(f"o{a}", index(f"O{a.upper()}")) for a in kernel.axes[:-1]]
    buffers = tuple(_contiguous(b) for b in program.buffers)
    return replace(program, buffers=buffers, body=(nest(outer, row),))


def _tile(kernel: RelayoutKernel) -> Block:
    if kernel.block == 1:
        v = index("v")
        move = Store("y", _plain(kernel, index(0), v), Load("x", _plain(kernel, index(0), v)))
        return (loop("v", kernel.width, move, kind="vector"),)
    pieces, piece = kernel.width // PIECE, PIECE
    if kernel.x_block == 1:
        return (
            Registers("turned", (pieces, kernel.block, piece)),
            *_plain_side(kernel, pieces),
            _blocked_side(kernel, pieces),
        )
    return (
        Registers("turned", (pieces, piece, kernel.block)),
        _blocked_side(kernel, pieces),
        *_plain_side(kernel, pieces),
    )


def _plain_side(kernel: RelayoutKernel, pieces: int) -> Block:
    """A vector of neighbouring positions of every channel, read or written."""
    q, v = index("q"), index("v")
    moves: list[Statement] = []
    for c in _in_turn(kernel.block):
        place = _plain(kernel, index(c), q * PIECE + v)
        if kernel.x_block > 1:
            move = Store("y", place, Load("turned", (q, v, index(c))))
        else:
            inside = not kernel.filled or c < kernel.filled
            move = Store("turned", (q, index(c), v), Load("x", place) if inside else Const(0.0))
        if kernel.x_block == 1 or not kernel.filled or c < kernel.filled:
            moves.append(loop("q", pieces, loop("v", PIECE, move, kind="vector"), kind="unroll"))
    return tuple(moves)


def _in_turn(block: int) -> Sequence[int]:
    """The channels of a block in the order in which turning over needs them."""
    return [c for first in range(PIECE) for c in range(first, block, PIECE)]


def _blocked_side(kernel: RelayoutKernel, pieces: int) -> Statement:
    """A vector of the channels of every position, written or read."""
    q, i, u = index("q"), index("i"), index("u")
    position = index("ow") + q * PIECE + i
    place = (index("n"), index("cb"), *_outer(kernel), position, u)
    if kernel.x_block > 1:
        move = Store("turned", (q, i, u), Load("x", place))
    else:
        move = Store("y", place, Load("turned", (q, u, i)))
    vectors = loop("u", kernel.block, move, kind="vector")
    return loop("q", pieces, loop("i", PIECE, vectors, kind="unroll"), kind="unroll")


def _plain(kernel: RelayoutKernel, channel: Index, position: Index) -> tuple[Index, ...]:
    """The place of a position of the tile where rows lie side by side."""
    channel = index("cb") * kernel.block + channel
    return (index("n"), channel, *_outer(kernel), index("ow") + position)


def _outer(kernel: RelayoutKernel) -> tuple[Index, ...]:
    return tuple(index(f"o{a}") for a in kernel.axes[:-1])


def _contiguous(buffer: Buffer) -> Buffer:
    """The plain side with positions as its last axis, one element apart."""
    if buffer.shape[-1] != index(1):
        return buffer
    return replace(buffer, shape=buffer.shape[:-1], strides=(*buffer.strides[:-2], index(1)))
