"""Compaction to tiles with rows of their own: strip by strip, tile by tile, row by row into y."""

from __future__ import annotations

from dataclasses import replace

from jit.index import Index, at, index
from jit.kernels.block import BlockKernel
from jit.kernels.conv import multiply_add
from jit.program import (
    Block,
    Buffer,
    Const,
    Floats,
    For,
    Let,
    Load,
    Param,
    Program,
    Registers,
    Statement,
    Store,
    call,
    loop,
    read,
)


def blocks(program: Program, kernel: BlockKernel) -> Program:
    """The program over packed tiles: `values`, `column`, `row` take the place of w."""
    shape = (kernel.batch, kernel.split, kernel.rows // kernel.lanes, kernel.lanes)
    columns = (Let("begin", at("first", "t")), Let("end", at("first", index("t") + 1)))
    tile = (*columns, Registers("acc", shape), *_tile(kernel))
    tiles = For("t", at("strip", "s"), at("strip", index("s") + 1), tile)
    body = loop("m", index("N") // kernel.batch, loop("s", "S", tiles))
    params = (*program.params, *(Param(name, 1) for name in ("S", "TILES")), Param("J"))
    return replace(
        program,
        params=params,
        buffers=packed_buffers(program, kernel.rows, kernel.weights),
        body=(body,),
    )


def _tile(kernel: BlockKernel) -> Block:
    """A tile's sums: from zero, over whole groups of columns, over the rest, into y."""
    groups = (index("end") - index("begin")) // kernel.split
    column = index("begin") + index("q") * kernel.split + index("l")
    apart = _around(kernel, _product(kernel, column, index("l")))
    start = _around(kernel, Store("acc", _sum("l"), Const(0.0)))
    body: list[Statement] = [
        loop("l", kernel.split, start, kind="unroll"),
        loop("q", groups, loop("l", kernel.split, apart, kind="unroll")),
    ]
    if kernel.split > 1:
        rest = _around(kernel, _product(kernel, index("j"), index(0)))
        body.append(For("j", index("begin") + groups * kernel.split, index("end"), (rest,)))
    return (*body, *_joined(kernel), *_added(kernel))


def _sum(apart: Index | str | int) -> tuple[Index, ...]:
    return (index("u"), index(apart), index("fv"), index("v"))


def _around(kernel: BlockKernel, store: Store) -> Statement:
    """The statement for all rows of x and of the tile."""
    lanes = loop("v", kernel.lanes, store, kind="vector")
    vectors = loop("fv", kernel.rows // kernel.lanes, lanes, kind="unroll")
    return loop("u", kernel.batch, vectors, kind="unroll")


def _product(kernel: BlockKernel, column: Index, apart: Index) -> Store:
    row = index("fv") * kernel.lanes + index("v")
    weight = read(kernel.weights, "values", (column, row))
    x = Load("x", (index("m") * kernel.batch + index("u"), at("column", column)))
    place = _sum(apart)
    return Store("acc", place, multiply_add(kernel.fused, weight, x, Load("acc", place)))


def _joined(kernel: BlockKernel) -> list[Statement]:
    """What was summed apart, together."""
    joined = []
    for apart in range(1, kernel.split):
        total = call("add", Load("acc", _sum(0)), Load("acc", _sum(apart)))
        joined.append(_around(kernel, Store("acc", _sum(0), total)))
    return joined


def _added(kernel: BlockKernel) -> list[Statement]:
    """The sums added to the rows of y that they belong to."""
    added: list[Statement] = []
    for i in range(kernel.rows):
        n = index("m") * kernel.batch + index("u")
        place = (n, at("row", index("t") * kernel.rows + i))
        held = (index("u"), index(0), index(i // kernel.lanes), index(i % kernel.lanes))
        total = call("add", Load("y", place), Load("acc", held))
        added.append(loop("u", kernel.batch, Store("y", place, total), kind="unroll"))
    return added


def packed_buffers(program: Program, height: int, weights: Floats) -> tuple[Buffer, ...]:
    """The program's buffers, packed tiles of that height in the place of w."""
    flat, rows = (index(1),), index(height)
    packed = (
        Buffer("values", "read", weights, (index("J"), rows), (rows, index(1))),
        Buffer("column", "read", "i32", (index("J"),), flat),
        Buffer("row", "read", "i32", (index("TILES") * height,), flat),
        Buffer("first", "read", "i32", (index("TILES") + 1,), flat),
        Buffer("strip", "read", "i32", (index("S") + 1,), flat),
    )
    result: list[Buffer] = []
    for old in program.buffers:
        result += packed if old.name == "w" else [old]
    return tuple(result)
