"""Compaction to tiles over panels of x: strip by strip, tile by tile, its sums held in registers
while its columns pass."""

from __future__ import annotations

from dataclasses import replace

from jit.index import Index, at, index
from jit.kernels.batch import BatchKernel
from jit.kernels.conv import multiply_add
from jit.program import (
    For,
    Let,
    Load,
    Param,
    Program,
    Registers,
    Statement,
    Store,
    Value,
    loop,
    read,
)
from jit.stages.blocks import packed_buffers


def batch(program: Program, kernel: BatchKernel) -> Program:
    """The program over packed tiles: `values`, `column`, `row` take the place of w."""
    sums = (kernel.rows, kernel.vectors, kernel.lanes)
    i, j = index(_row(kernel)), index("j")
    row = at("row", index("b") * kernel.rows + i)
    y = Load("y", (row, _lane(kernel)))
    held = Load("acc", (i, index("fv"), index("v")))
    weight = read(kernel.weights, "values", (j, i))
    x = Load("t", (at("column", j), _lane(kernel)))
    product = multiply_add(kernel.fused, weight, x, held)
    tile = (
        Let("begin", at("first", "b")),
        Let("end", at("first", index("b") + 1)),
        Registers("acc", sums),
        _around(kernel, held, y),
        For("j", index("begin"), index("end"), (_around(kernel, held, product),)),
        _around(kernel, y, held),
    )
    tiles = For("b", at("strip", "s"), at("strip", index("s") + 1), tile)
    params = (*program.params, *(Param(name, 1) for name in ("S", "TILES")), Param("J"))
    buffers = packed_buffers(program, kernel.rows, kernel.weights)
    return replace(program, params=params, buffers=buffers, body=(loop("s", "S", tiles),))


def _row(kernel: BatchKernel) -> str:
    """The loop over the rows of a tile: `l` where their weights are one vector (see `reuse`)."""
    return "l" if kernel.by_lane else "r"


def _lane(kernel: BatchKernel) -> Index:
    return index("fv") * kernel.lanes + index("v")


def _around(kernel: BatchKernel, place: Load, value: Value) -> Statement:
    """place = value for all rows of the tile and of the panel."""
    store = Store(place.buffer, place.subscript, value)
    vectors = loop("fv", kernel.vectors, loop("v", kernel.lanes, store, kind="vector"))
    return loop(_row(kernel), kernel.rows, replace(vectors, kind="unroll"), kind="unroll")
