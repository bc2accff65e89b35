"""Schedules from CSR and FKW: candidates that are chosen where they are asked for by name alone.

They are what the papers compare with: a filter at a time, x read where it lies.  The model is that
of `jit.decide.panels` without packing, and with the loads of every group's index.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from math import ceil, prod

import numpy as np

from jit.decide.problem import Candidate, ConvProblem
from jit.target import Target
from refimpl.plan import Schedule
from refimpl.plan.packing import STORAGES
from refimpl.storage import FKW, StorageError

# Cycles, as in `jit.decide.panels`.
_PER_RESULT, _PER_INPUT, _PER_LIST = 2.5, 0.7, 20.0
_SPLIT = 2.0  # loads of a vector that lies in two cache lines, as most of them do here


def listed_schedules(
    problem: ConvProblem, target: Target, wanted: Collection[str]
) -> Iterator[Candidate]:
    """The best tile of every format that is asked for, where it can hold the weight."""
    if target.grid or not problem.panels:
        return
    for storage in reversed(STORAGES):  # of equals FKW comes first: it has fewer indices
        entries = _entries(problem.stored, storage) if storage in wanted else 0
        if entries:
            found = _tiles(problem, target, storage)
            priced = ((_cycles(problem, target, s, entries), s) for s in found)
            cycles, schedule = min(priced, key=lambda pair: pair[0])
            yield Candidate(storage, cycles, schedule)


def _entries(stored: np.ndarray, storage: str) -> int:
    """Weights that an index serves; 0 where the format cannot hold the weight."""
    if storage == "csr":
        return 1
    try:
        fkw = FKW.pack(np.zeros(stored.shape, np.float32), stored)
    except StorageError:
        return 0
    return max(1, fkw.patterns.shape[1])


def _tiles(problem: ConvProblem, target: Target, storage: str) -> Iterator[Schedule]:
    """Every number of vectors that the registers hold, beside a weight and what mul makes."""
    total, channels = prod(problem.output), problem.stored.shape[1]
    lanes = target.lanes
    while lanes > total:
        lanes //= 2
    spare = 2 if target.has("fma") else 3
    most = min(target.registers - spare, 2 * ceil(total / lanes))
    for vectors in range(1, most + 1):
        tile = (1, vectors * lanes)
        yield Schedule(1, lanes, tile, 1, channels, False, storage=storage)


def _cycles(problem: ConvProblem, target: Target, s: Schedule, entries: int) -> float:
    vectors, total = s.tile[1] // s.lanes, prod(problem.output)
    weight = max(vectors / target.pipes, (_SPLIT * vectors + 1 + 1 / entries) / target.loads)
    filters, channels = problem.stored.shape[:2]
    one = int(problem.stored.sum()) * max(weight, target.latency) + filters * _PER_LIST
    return _tile_count(problem, s.tile[1]) * one + total * (
        filters * _PER_RESULT + channels * _PER_INPUT
    )


def _tile_count(problem: ConvProblem, reach: int) -> int:
    """Tiles over all positions; a steady kernel's go on from row to row."""
    *outer, width = problem.output
    rows = prod(outer)
    by_row = rows * ceil(width / reach)
    if not (problem.steady or problem.stored.ndim == 2):
        return by_row
    pitch = width + (problem.stored.shape[-1] - 1 if problem.stored.ndim > 2 else 0)
    return min(by_row, ceil(rows * pitch / reach))
