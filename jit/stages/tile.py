"""Loop tiling: which part of the layer is worked on at a time.

Strips of filters outermost, then blocks of channels, so that a block's weights stay in cache
while all positions pass; then tiles of output positions; then the kept columns of the block, plane
by plane of the kernel; and innermost the tile itself: `rows` filters by th x tw positions.

On a grid of work items every tile passes over all blocks of channels by itself: blocks come
inside the tiles, not around them.
"""

from __future__ import annotations

from dataclasses import replace

from jit.kernels.conv import ConvKernel
from jit.program import Program, Statement
from jit.rewrite import map_indices, perfect_nest, reorder, simplify, split


def tile(program: Program, kernel: ConvKernel) -> Program:
    """The program with positions split into tiles and all nests in the order above."""
    return replace(program, body=tuple(_tile(nest, kernel) for nest in program.body))


def _tile(nest: Statement, kernel: ConvKernel) -> Statement:
    th, tw = kernel.tile
    if kernel.rank >= 1:
        nest = split(nest, "ow", tw, "owt", "tw")
    if kernel.rank >= 2:
        nest = split(nest, "oh", th, "oht", "th")
    (nest,) = map_indices((nest,), lambda i: simplify(i, {"th": th, "tw": tw}))
    present = {loop.var for loop in perfect_nest(nest)[0]}
    inner = ["th", "tw", "r"]
    tiles = ["n", "od", "oht", "owt"]
    outer = ["s", *tiles, "b"] if kernel.grid else ["s", "b", *tiles]
    order = [*outer, "kd", "j", "l", *inner]
    return reorder(nest, [var for var in order if var in present])
