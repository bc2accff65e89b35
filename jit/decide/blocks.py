"""Strips of several tiles for products without positions: where rows differ from block to block.

BCR keeps some rows and some columns of every block, so no strip has columns that all its filters
keep: with one tile a strip most of what is stored would be zeros.  The model counts, per column of
a tile, its loads and products, and per tile the sums that are added to y one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from math import ceil

import numpy as np

from jit.decide.panels import union_columns
from jit.decide.problem import Candidate, ConvProblem
from jit.decide.schedule import streamed
from jit.target import Target
from refimpl.plan import Schedule
from refimpl.storage.blocks import pack_blocks
from refimpl.tiles import Tiles, in_heights

_STRIPS = (16, 64)
_PER_TILE = 20.0  # cycles of a tile's addresses and loops
_WAYS = 8  # rows of x whose like columns stay in L1 side by side
_PER_SUM = 2.0  # a sum that is added to y
_PER_LONE_SUM = 0.5  # where y has one row, which stays in L1
_PER_TURNED = 0.5  # a value that is turned


def block_schedules(problem: ConvProblem, target: Target) -> Iterator[Candidate]:
    """Strips of either height, if any suit; turned, also where a vector of rows of x is full."""
    filters = problem.stored.shape[0]
    if target.grid or problem.stored.ndim != 2 or not problem.reorder:
        return
    differ, full = _differ(problem), problem.output[0] >= target.lanes
    ways = [("", _schedule, _cycles)] if differ else []
    ways += [(", turned", _turned, _turned_cycles)] if differ or full else []
    for name, cut, cycles_of in ways:
        for strip in (height for height in _STRIPS if height < 2 * filters):
            schedule = cut(problem, target, strip)
            tiles = packed(np.zeros(problem.stored.shape, np.float32), problem.stored, schedule)
            cycles = cycles_of(problem, target, schedule, tiles)
            cycles = streamed(cycles, problem.stored_bytes, target)
            yield Candidate(f"blocks of {strip}{name}", cycles, schedule)


def packed(weight: np.ndarray, stored: np.ndarray, schedule: Schedule) -> Tiles:
    """The weight, what is stored and few zeros, in tiles that a schedule's kernels take."""
    exact = pack_blocks(weight, stored, height=schedule.strip)
    return in_heights(exact, tile_heights(schedule.rows), schedule.strip)


def _differ(problem: ConvProblem) -> bool:
    """Whether one tile a strip would store many zeros."""
    columns = union_columns(problem.columns, np.arange(problem.stored.shape[0]), _STRIPS[0])
    return int(columns.sum()) * _STRIPS[0] > 1.2 * int(problem.stored.sum())


@cache
def tile_heights(most: int) -> tuple[int, ...]:
    """The powers of two from `most` down to 1."""
    return tuple(most >> i for i in range(most.bit_length()))


def _schedule(problem: ConvProblem, target: Target, strip: int) -> Schedule:
    batch, lanes = problem.output[0], target.lanes
    rows = lanes * 2 if batch <= 4 else lanes
    # Sums for every row of x, the weights, an input.
    most = max(1, (target.registers - 4) // (rows // lanes))
    tile = ceil(batch / ceil(batch / most))
    channels = problem.stored.shape[1]
    return Schedule(rows, lanes, (1, tile), 1, channels, False, strip=strip)


def _cycles(problem: ConvProblem, target: Target, s: Schedule, tiles: Tiles) -> float:
    batch, groups = problem.output[0], ceil(problem.output[0] / s.tile[1])
    heights = np.array([tile.rows.size for tile in tiles])
    columns = np.array([tile.columns.size for tile in tiles])
    vectors = np.maximum(heights // s.lanes, 1)
    inputs = s.tile[1] * (1 if s.tile[1] <= _WAYS else 2)
    fetched = (vectors + inputs + 1) / target.loads
    column = np.maximum(vectors * s.tile[1] / target.pipes, fetched)
    products = groups * float((columns * column).sum())
    added = batch * (_PER_SUM if batch > 1 else _PER_LONE_SUM) * float(heights.sum())
    return products + groups * _PER_TILE * len(columns) + added


# -- vectors of rows of x ----------------------------------------------------------------------


def by_lane(target: Target) -> bool:
    """Whether weights are best loaded as vectors whose lanes are used one by one."""
    return target.arch == "aarch64"


def _turned(problem: ConvProblem, target: Target, strip: int) -> Schedule:
    """Panels of up to four vectors; tiles of as many rows as the registers hold sums of."""
    vectors = ceil(problem.output[0] / target.lanes)
    wide = min(range(1, 5), key=lambda n: (ceil(vectors / n) * n, abs(n - 2)))
    # Sums, the panel's inputs, a weight.
    rows = 1 << (((target.registers - wide - 2) // wide).bit_length() - 1)
    tile = (1, wide * target.lanes)
    channels = problem.stored.shape[1]
    return Schedule(rows, target.lanes, tile, 1, channels, False, strip=strip, turned=True)


def _turned_cycles(problem: ConvProblem, target: Target, s: Schedule, tiles: Tiles) -> float:
    vectors, panels = s.tile[1] // s.lanes, ceil(problem.output[0] / s.tile[1])
    heights = np.array([tile.rows.size for tile in tiles])
    columns = np.array([tile.columns.size for tile in tiles])
    fetched = (vectors + heights / (4 if by_lane(target) else 1) + 1) / target.loads
    column = np.maximum(np.maximum(heights * vectors / target.pipes, fetched), target.latency)
    held = 2 * heights * vectors / target.loads + heights
    each = float((columns * column).sum() + held.sum()) + _PER_TILE * len(columns)
    return panels * (each + s.tile[1] * sum(problem.stored.shape) * _PER_TURNED)
