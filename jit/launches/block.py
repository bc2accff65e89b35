"""Launches of products over strips of several tiles: the bias, tiles height by height, the end."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from jit.decide.schedule import cuts
from jit.kernels.block import BlockKernel
from jit.launches.contraction import Contraction
from jit.launches.form import Launch, Lowering, Operand, launch
from jit.launches.plain import copy, strides_of, walk
from refimpl.layout import plain
from refimpl.plan import Place
from refimpl.tiles import Tile


def block_product(to: Lowering, work: Contraction) -> Iterator[Launch]:
    """y = bias, y += tiles of one height after those of another, y = act(y + residual)."""
    step, y = work.step, work.y
    bias = to.plan.constants[step.bias].array
    place = Place((1, bias.size), plain((1, bias.size)), "constant")
    start = Operand(place, to.constants.add(bias), bias.size)
    yield from copy(to, step, start, y, y.place.shape, (0, 1), strides_of(y))
    strips = to.plan.weights[step.weight].strips
    for height in sorted({tile.rows.size for strip in strips for tile in strip}, reverse=True):
        same = [[tile for tile in strip if tile.rows.size == height] for strip in strips]
        yield from _tiles(to, work, height, same)
    if work.residual or step.activation:
        operands = {"x": y, "z": work.residual, "y": y} if work.residual else {"x": y, "y": y}
        steps = {letter: strides_of(o) for letter, o in operands.items()}
        op = "add" if work.residual else "copy"
        yield from walk(to, step, op, y.place.shape, operands, steps, activation=step.activation)


def _tiles(
    to: Lowering, work: Contraction, height: int, strips: list[list[Tile]]
) -> Iterator[Launch]:
    """All tiles of one height, for whole groups of rows of x, then for what is left."""
    tables = _tables(strips)
    refs = {name: to.constants.add(table) for name, table in tables.items()}
    filters, channels = to.plan.weights[work.step.weight].shape
    sizes = {
        "F": filters,
        "C": channels,
        "S": len(strips),
        "TILES": tables["first"].size - 1,
        "J": tables["column"].size,
        "VALUESL": tables["values"].size,
        "XN": work.x.place.layout.strides(work.x.place.shape)[0],
        "YN": work.y.place.layout.strides(work.y.place.shape)[0],
    }
    lanes = min(height, work.schedule.lanes)
    for begin, end, batch in cuts(work.x.place.shape[0], work.schedule.tile[1]):
        vectors = height // lanes * batch
        kernel = BlockKernel(height, lanes, batch, max(1, 4 // vectors), to.target.has("fma"))
        here = {
            "x": work.x.skip(begin * sizes["XN"]),
            "y": work.y.skip(begin * sizes["YN"]),
        }
        yield launch(work.step, kernel, here, {**sizes, "N": end - begin}, refs)


def _tables(strips: list[list[Tile]]) -> dict[str, np.ndarray]:
    """values, column and row of every tile; its first column; every strip's first tile."""
    tiles = [tile for strip in strips for tile in strip]
    ends = np.cumsum([0, *(tile.columns.size for tile in tiles)])
    return {
        "values": np.concatenate([tile.values.reshape(-1) for tile in tiles]),
        "column": np.concatenate([tile.columns for tile in tiles]),
        "row": np.concatenate([tile.rows for tile in tiles]),
        "first": ends.astype(np.int32),
        "strip": np.cumsum([0, *map(len, strips)]).astype(np.int32),
    }
