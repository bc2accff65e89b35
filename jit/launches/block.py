"""Launches of products over strips of several tiles: the bias, tiles height by height, the end."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from jit.decide.schedule import cuts
from jit.kernels.block import BlockKernel
from jit.launches.contraction import Contraction, stored_floats
from jit.launches.form import Launch, Lowering, Operand, Ref, launch
from jit.launches.plain import copy, strides_of, walk
from refimpl.layout import plain
from refimpl.plan import Place
from refimpl.tiles import Tile, Tiles


def block_product(to: Lowering, work: Contraction) -> Iterator[Launch]:
    """y = bias, y += tiles of one height after those of another, y = act(y + residual)."""
    steps = strides_of(work.y)
    yield from copy(to, work.step, bias_of(to, work), work.y, work.y.place.shape, (0, 1), steps)
    for height, strips in of_heights(to.plan.weights[work.step.weight]):
        yield from _tiles(to, work, height, strips)
    yield from finished(to, work)


def bias_of(to: Lowering, work: Contraction) -> Operand:
    """The bias as a value of one row."""
    bias = to.plan.constants[work.step.bias].array
    place = Place((1, bias.size), plain((1, bias.size)), "constant")
    return Operand(place, to.constants.add(bias), bias.size)


def of_heights(weight: Tiles) -> Iterator[tuple[int, list[list[Tile]]]]:
    """Every height, tallest first, with the tiles of it in each strip."""
    for height in sorted({tile.rows.size for tile in weight}, reverse=True):
        yield height, [[t for t in strip if t.rows.size == height] for strip in weight.strips]


def finished(to: Lowering, work: Contraction) -> Iterator[Launch]:
    """y = act(y + residual), where there is either."""
    step, y = work.step, work.y
    if work.residual or step.activation:
        operands = {"x": y, "z": work.residual, "y": y} if work.residual else {"x": y, "y": y}
        steps = {letter: strides_of(o) for letter, o in operands.items()}
        op = "add" if work.residual else "copy"
        yield from walk(to, step, op, y.place.shape, operands, steps, activation=step.activation)


def _tiles(
    to: Lowering, work: Contraction, height: int, strips: list[list[Tile]]
) -> Iterator[Launch]:
    """All tiles of one height, for whole groups of rows of x, then for what is left."""
    sizes, refs = tile_tables(to, strips)
    filters, channels = to.plan.weights[work.step.weight].shape
    sizes |= {
        "F": filters,
        "C": channels,
        "XN": work.x.place.layout.strides(work.x.place.shape)[0],
        "YN": work.y.place.layout.strides(work.y.place.shape)[0],
    }
    lanes, fused = min(height, work.schedule.lanes), to.target.has("fma")
    floats = stored_floats(to.plan.weights[work.step.weight])
    for begin, end, batch in cuts(work.x.place.shape[0], work.schedule.tile[1]):
        vectors = height // lanes * batch
        kernel = BlockKernel(height, lanes, batch, max(1, 4 // vectors), fused, floats)
        here = {
            "x": work.x.skip(begin * sizes["XN"]),
            "y": work.y.skip(begin * sizes["YN"]),
        }
        yield launch(work.step, kernel, here, {**sizes, "N": end - begin}, refs)


def tile_tables(to: Lowering, strips: list[list[Tile]]) -> tuple[dict[str, int], dict[str, Ref]]:
    """(S, TILES, J and VALUESL, the tables): values, column and row of every tile; its first
    column; every strip's first tile."""
    tiles = [tile for strip in strips for tile in strip]
    ends = np.cumsum([0, *(tile.columns.size for tile in tiles)])
    tables = {
        "values": np.concatenate([tile.values.reshape(-1) for tile in tiles]),
        "column": np.concatenate([tile.columns for tile in tiles]),
        "row": np.concatenate([tile.rows for tile in tiles]),
        "first": ends.astype(np.int32),
        "strip": np.cumsum([0, *map(len, strips)]).astype(np.int32),
    }
    sizes = {"S": len(strips), "TILES": len(tiles), "J": int(ends[-1])}
    sizes["VALUESL"] = tables["values"].size
    return sizes, {name: to.constants.add(table) for name, table in tables.items()}
