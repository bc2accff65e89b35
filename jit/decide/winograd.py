"""Which convolutions Winograd may compute, how they are blocked, and what that should cost.

The model: the products as `jit.decide.schedule` counts any others; the transforms' operations,
loads and stores; and the bytes that do not stay in L2: transformed tiles and products of a block
are written and read once, and every launch of products reads the transformed weight.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import product
from math import ceil, inf, prod

import numpy as np

from jit.decide.problem import Candidate, ConvProblem
from jit.decide.schedule import (
    Strips,
    columns_per_index,
    cut_product,
    heights,
    product_rows,
    product_schedule,
)
from jit.kernels.sums import Sums
from jit.kernels.winograd import input_sums, output_sums
from jit.target import Target
from refimpl.graph import Shape
from refimpl.plan import Schedule, Winograd
from refimpl.winograd import LONGEST, points, taps, tile_counts

WINOGRAD = "winograd"
"""The family; "winograd F(2,4)" asks for these outputs of a tile alone."""

_OUTPUTS = (1, 2, 4)
_LONGEST = 6
"""Inputs of a tile along an axis, unless it is asked for by name: from 8 on float32 loses a digit
more, and results are no longer within 1e-4 of the largest output."""
_REBLOCKED = 2  # sizes of a block that are listed besides the best
_TILES = (16, 32, 64, 128, 256, 512, 1024)
"""Tiles of a block that are tried."""
_FEW_TILES = (8, 16, 32, 64)
"""The same where little is left of the weight: to read it again costs less than tiles that leave
the caches (measured on C3D's layers; with 200 tiles they took up to 1.4 times as long)."""
_NEAR, _FAR = 8.0, 4.0
"""Bytes that one core reads in a cycle one after another from beyond L2, and beyond any cache."""
_LISTED = 15.0
"""The same of a weight of points from beyond L2, whose products are few for its bytes."""
_SCATTERED, _SCATTERED_FAR = 3.0, 2.0
"""The same where every point of a tile is a stream of its own, too many to be prefetched."""
_CROWDED = 32 * 2**20
"""Bytes of tiles and products from which they go beyond any cache (measured on C3D's conv2)."""
_LARGE = 30 * 2**20
"""Bytes from which a weight is not found in any cache when it is next read."""
_LAUNCH = 300.0
"""Cycles to start a launch."""


@dataclass(frozen=True)
class _Product:
    """The products between the transforms: (F, C, *K), bytes of all points' weights, how many of
    these a cycle reads from near, and (tiles, bytes of weight read in a cycle) to the average
    (cycles, schedule) of a point."""

    weight: Shape
    nbytes: int
    near: float
    cut: Callable[[int, float], tuple[float, Schedule]]


def ways(
    weight: Shape, output: Shape, target: Target, algorithms: Collection[str]
) -> list[Candidate]:
    """Every way to compute a convolution of stride 1 by Winograd, and the runners-up in blocking.

    How many tiles to work on at a time is a matter of caches, which the model hardly knows.

    Args:
        weight: (F, C, *K).
        output: (N, *O).
        target: a CPU; there are none for a grid of work items, whose kernels share no scratch.
        algorithms: those allowed.

    Returns:
        The ways, for every tile the best first; none where no axis can be tiled.
    """
    if target.grid:
        return []
    lanes, found = target.lanes, []
    whole = lanes**2 * ceil(weight[0] / lanes) * ceil(weight[1] / lanes)
    for outputs in _tilings(weight, output, algorithms):
        nbytes = 4 * whole * points(outputs, weight[2:])
        cut = partial(_dense_cut, weight, target)
        blocked = _blocked(_Product(weight, nbytes, _NEAR, cut), output, outputs, target)
        found += blocked[: 1 + _REBLOCKED]
    return found


def _dense_cut(weight: Shape, target: Target, tiles: int, rate: float) -> tuple[float, Schedule]:
    return product_schedule(*weight[:2], tiles, rate, target)


def point_ways(problem: ConvProblem, target: Target) -> list[Candidate]:
    """The ways to compute a `winograd_conv`, which differ in how many tiles are worked on at once.

    Args:
        problem: its stored weights are points of transformed kernels.
        target: a CPU.
    """
    filters, channels, *tile = problem.stored.shape
    strips = {rows: _point_strips(problem, rows, target) for rows in product_rows(filters, target)}
    run = columns_per_index(problem, target)

    def cut(tiles: int, rate: float) -> tuple[float, Schedule]:
        return cut_product(strips, channels, tiles, rate, run, target)

    weight = (filters, channels, *taps(problem.outputs, tile))
    made = _Product(weight, 4 * int(problem.stored.sum()), _LISTED, cut)
    return _blocked(made, problem.output, problem.outputs, target, _FEW_TILES)


def _point_strips(problem: ConvProblem, rows: int, target: Target) -> Strips:
    """(columns stored for a point on average, rows) of every strip of filters."""
    cut = heights(len(problem.stored), rows, target.lanes)
    begins = np.cumsum([0, *cut[:-1]])
    held = np.logical_or.reduceat(problem.columns, begins, axis=0).sum(axis=1)
    count = prod(problem.stored.shape[2:])
    return [(columns / count, height) for columns, height in zip(held, cut, strict=True)]


def _tilings(weight: Shape, output: Shape, algorithms: Collection[str]) -> Iterator[Shape]:
    """Outputs of a tile along every axis: the usual ones, and those asked for."""
    kernel, positions = weight[2:], output[1:]
    wanted = {_parsed(name) for name in algorithms} - {()}
    if WINOGRAD in algorithms:
        usual = [[m for m in _OUTPUTS if m + r - 1 <= _LONGEST or m == 1] for r in kernel]
        wanted |= set(product(*usual))
    for outputs in sorted(wanted):
        axes = list(zip(outputs, kernel, positions, strict=False))
        legal = all(m <= o and (r > 1 or m == 1) and m + r - 1 <= LONGEST for m, r, o in axes)
        if len(outputs) == len(kernel) and legal and max(outputs, default=1) > 1:
            yield outputs


def _parsed(name: str) -> Shape:
    """The outputs that a name asks for; none where it names a family."""
    found = re.match(r"winograd F\((\d+(?:,\d+)*)\)(?: by |$)", name)
    return tuple(map(int, found[1].split(","))) if found else ()


def named_tile(name: str) -> bool:
    """Whether the name asks for certain outputs of a tile."""
    return bool(_parsed(name))


def _blocked(
    made: _Product,
    output: Shape,
    outputs: Shape,
    target: Target,
    tiles: Sequence[int] = _TILES,
) -> list[Candidate]:
    """The best block of tiles, and the runners-up, which are named by their size."""
    counts = (output[0], *tile_counts(outputs, output[1:]))
    blocks = {block_of(counts, most) for most in tiles}
    found = [_way(made, counts, Winograd(outputs, block), target) for block in sorted(blocks)]
    best, *others = sorted(found, key=lambda way: way.cycles)
    sizes = ((way, prod(way.winograd.block)) for way in others if way.winograd is not None)
    return [best, *(replace(way, name=f"{way.name} by {size} tiles") for way, size in sizes)]


def block_of(counts: Shape, most: int) -> Shape:
    """Tiles along images and axes: whole rows, then planes, then images, as long as they fit."""
    result: list[int] = []
    for count in reversed(counts):
        parts = ceil(count / most)
        result.append(ceil(count / parts))
        most = 1 if parts > 1 else most // count
        most = max(most, 1)
    return tuple(reversed(result))


def _way(made: _Product, counts: Shape, way: Winograd, target: Target) -> Candidate:
    filters, channels, *kernel = made.weight
    lanes, tiles, in_block = target.lanes, prod(counts), prod(way.block)
    blocks = prod(ceil(c / b) for c, b in zip(counts, way.block, strict=True))
    slots = [ceil(n / lanes) for n in (channels, filters)]
    count = points(way.outputs, kernel)
    scratch, rate = 4 * lanes * count * sum(slots) * in_block, inf
    if scratch + made.nbytes > target.l2_bytes // 2:
        rate = made.near if made.nbytes <= _LARGE else _FAR
    multiplied, schedule = made.cut(in_block, rate)
    cycles = blocks * (count * multiplied + 4 * _LAUNCH)
    for vectors, axes in zip(slots, _steps(way.outputs, tuple(kernel)), strict=True):
        cycles += tiles * vectors * _transform_cycles(axes, target)
    if scratch > target.l2_bytes // 2:
        rate = _SCATTERED if scratch <= _CROWDED else _SCATTERED_FAR
        cycles += blocks * 2 * scratch / rate
    return Candidate(f"{WINOGRAD} {way}", cycles, schedule, way)


@lru_cache(maxsize=256)
def _steps(outputs: Shape, kernel: Shape) -> tuple[Sequence[Sums], Sequence[Sums]]:
    return input_sums(outputs, kernel), output_sums(outputs, kernel)


def _transform_cycles(axes: Sequence[Sums], target: Target) -> float:
    """Cycles to transform one tile of one vector of channels: issue at twice the loads' rate."""
    done, operations = 1, 0
    for i, axis in enumerate(axes):
        rest = prod(a.inputs for a in axes[i + 1 :])
        operations += done * rest * (axis.operations + axis.inputs)
        done *= len(axis.rows)
    return (operations + 3 * done) / (2 * target.loads)
