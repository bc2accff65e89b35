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
    Statement,
    Store,
    loop,
    nest,
)

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
    rows: list[Statement] = []
    stores: list[Statement] = []
    for r in range(kernel.rows):
        row = index("u") * kernel.rows + r
        for buffer in "yz" if kernel.residual else "y":
            rows.append(Let(f"{buffer}{r}", distance(kernel, buffer, row)))
        y = Load("sums", (index("part"), index("t"), row, index("q") - first))
        value = epilogue(kernel, y, Load("z", _at("z", r))) if kernel.residual else y
        stores.append(Store("y", _at("y", r), value))
    end = minimum(first + kernel.positions, "Q")
    return loop("u", "S", *rows, For("q", first, end, tuple(stores)))


def _at(buffer: str, row: int) -> tuple[Index]:
    return (at(POSITIONS[buffer], "q") + index(f"{buffer}{row}"),)


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
