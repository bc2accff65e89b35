"""Schedules over packed panels: vectors of positions, for strips of any height in any order.

Where the rows of a strip keep the same columns, taller strips load less; where they differ, lower
ones store fewer zeros: a strip of one row stores none.  The model is that of `jit.decide.schedule`
with what only panels cost: making x planar, packing, and storing position by position.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, prod

import numpy as np

from jit.decide.problem import HEIGHTS, Candidate, ConvProblem
from jit.decide.schedule import streamed
from jit.target import Target
from refimpl.plan import Schedule

# Cycles, measured on AVX-512 and rounded.
_PER_PIECE = 2.5  # a vector copied to the panel
_PER_RESULT = 1.2  # a sum stored where its filter and position lie
_PER_TURNED = 0.5  # a sum stored together with those of the strip's other filters
_PER_INPUT = 0.7  # a value of x made planar
_FROM_L2 = 1.2  # a vector of the panel where it does not stay in L1
_PER_TILE = 20.0  # a tile's addresses and loop
_MOST_COMPARED = 2**33  # weights that are compared to put filters in order


def panel_schedules(problem: ConvProblem, target: Target) -> Iterator[Candidate]:
    """The best tile of every height."""
    if target.grid or not problem.panels or prod(problem.output) < target.lanes:
        return
    for rows in HEIGHTS:
        if rows > 1 and rows // 2 >= problem.stored.shape[0]:
            return  # a taller strip only adds padding rows
        order = row_order(problem, rows)
        columns = union_columns(problem.columns, order, rows)
        priced = ((_cycles(problem, target, s, columns), s) for s in _tiles(problem, target, rows))
        cycles, schedule = min(priced, key=lambda pair: pair[0])
        together = rows > 1 and len(order) % rows == 0 and bool((np.diff(order) == 1).all())
        results = prod(problem.output) * len(order)
        cycles += results * (_PER_TURNED if together else _PER_RESULT)
        cycles = streamed(cycles, problem.stored_bytes, target)
        yield Candidate(f"{rows}x{schedule.tile[1]} panel", cycles, schedule)


def row_order(problem: ConvProblem, rows: int) -> np.ndarray:
    """The order of the filters in strips of `rows`: as they come, or alike ones together.

    The latter where it may be, saves columns, and the filters are not too many to compare.
    """
    keep = problem.columns
    plain = np.arange(len(keep))
    if not problem.reorder:
        return plain
    stored = int(union_columns(keep, plain, rows).sum()) * rows
    if stored <= 1.02 * int(keep.sum()) or len(keep) * keep.size > _MOST_COMPARED:
        return plain
    fewer = union_columns(keep, problem.alike, rows).sum() * rows < 0.98 * stored
    return problem.alike if fewer else plain


def union_columns(keep: np.ndarray, order: np.ndarray, rows: int) -> np.ndarray:
    """Columns that each strip of `rows` rows, in that order, stores."""
    ragged = -len(order) % rows
    strips = np.pad(keep[order], ((0, ragged), (0, 0))).reshape(-1, rows, keep.shape[1])
    return strips.any(axis=1).sum(axis=1)


def _tiles(problem: ConvProblem, target: Target, rows: int) -> Iterator[Schedule]:
    """Every tile that the registers hold: its sums, its inputs, a weight and what mul makes."""
    lanes, spare = target.lanes, 1 if target.has("fma") else 2
    most = max(1, (target.registers - spare) // (rows + 1))
    for vectors in range(1, min(most, ceil(prod(problem.output) / lanes)) + 1):
        tile = (1, vectors * lanes)
        for cache in (target.l1_bytes // 2, target.l2_bytes // 16):
            block = _channel_block(problem, cache, tile[1])
            yield Schedule(rows, lanes, tile, 1, block, False, panel=_together(problem, target))


def _together(problem: ConvProblem, target: Target) -> int:
    """Tiles that share a panel: two where the weights come from beyond L2 for every one."""
    return 2 if 4 * int(problem.stored.sum()) > target.l2_bytes // 2 else 1


def _channel_block(problem: ConvProblem, cache: int, positions: int) -> int:
    """Channels whose panel, of one tile, takes so many bytes; the channels divided evenly."""
    channels = problem.stored.shape[1]
    fitting = max(1, cache // _panel_bytes(problem, 1, positions))
    return ceil(channels / ceil(channels / fitting))


def _panel_bytes(problem: ConvProblem, channels: int, positions: int) -> int:
    return 4 * positions * channels * prod(problem.stored.shape[2:])


def _cycles(problem: ConvProblem, target: Target, s: Schedule, columns: np.ndarray) -> float:
    """All but storing the results, which costs every tile of a height the same."""
    channels, positions, width = problem.stored.shape[1], s.tile[1], problem.output[-1]
    vectors, total = positions // s.lanes, prod(problem.output)
    tiles, blocks = ceil(total / positions), ceil(channels / s.channel_block)
    arithmetic = s.rows * vectors / target.pipes
    fetched = (vectors + s.rows + 1) / target.loads
    if _panel_bytes(problem, s.channel_block, positions) > target.l1_bytes // 2:
        fetched = max(fetched, vectors * _FROM_L2)
    column = max(arithmetic, fetched, target.latency) + 0.5
    held = 2 * s.rows * vectors / target.loads + _PER_TILE
    strips = columns.sum() * column + len(columns) * blocks * held
    pieces = vectors + positions / width
    pack = prod(problem.stored.shape[1:]) * pieces * _PER_PIECE
    return tiles * (strips + pack) + total * channels * _PER_INPUT
