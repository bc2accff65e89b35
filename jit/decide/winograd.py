"""Which convolutions Winograd may compute, how they are blocked, and what that should cost.

The model: the products as `jit.decide.schedule` counts any others; the transforms' operations,
loads and stores; and the bytes that do not stay in L2: transformed tiles and products of a block
are written and read once, and every launch of products reads the transformed weight.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import product
from math import ceil, inf, prod

from jit.decide.problem import Candidate
from jit.decide.schedule import product_schedule
from jit.kernels.sums import Sums
from jit.kernels.winograd import input_sums, output_sums
from jit.target import Target
from refimpl.graph import Shape
from refimpl.plan import Winograd
from refimpl.plan.winograd import points, tile_counts

WINOGRAD = "winograd"
"""The family; "winograd F(2,4)" asks for these outputs of a tile alone."""

_OUTPUTS = (1, 2, 4)
_LONGEST = 6
"""Inputs of a tile along an axis, unless it is asked for by name: from 8 on float32 loses a digit
more, and results are no longer within 1e-4 of the largest output."""
_REBLOCKED = 2  # sizes of a block that are listed besides the best
_TILES = (16, 32, 64, 128, 256, 512, 1024)
"""Tiles of a block that are tried."""
_NEAR, _FAR = 8.0, 4.0
"""Bytes that one core reads in a cycle one after another from beyond L2, and beyond any cache."""
_SCATTERED = 3.0
"""The same where every point of a tile is a stream of its own, too many to be prefetched."""
_LARGE = 30 * 2**20
"""Bytes from which a weight is not found in any cache when it is next read."""
_LAUNCH = 300.0
"""Cycles to start a launch."""


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
    tilings = _tilings(weight, output, algorithms)
    return [way for outputs in tilings for way in _blocked(weight, output, outputs, target)]


def _tilings(weight: Shape, output: Shape, algorithms: Collection[str]) -> Iterator[Shape]:
    """Outputs of a tile along every axis: the usual ones, and those asked for."""
    kernel, positions = weight[2:], output[1:]
    wanted = {_parsed(name) for name in algorithms} - {()}
    if WINOGRAD in algorithms:
        usual = [[m for m in _OUTPUTS if m + r - 1 <= _LONGEST or m == 1] for r in kernel]
        wanted |= set(product(*usual))
    for outputs in sorted(wanted):
        axes = list(zip(outputs, kernel, positions, strict=False))
        legal = all(m <= o and (r > 1 or m == 1) and m + r - 1 <= 8 for m, r, o in axes)
        if len(outputs) == len(kernel) and legal and max(outputs, default=1) > 1:
            yield outputs


def _parsed(name: str) -> Shape:
    """The outputs that a name asks for; none where it names a family."""
    found = re.match(r"winograd F\((\d+(?:,\d+)*)\)(?: by |$)", name)
    return tuple(map(int, found[1].split(","))) if found else ()


def named_tile(name: str) -> bool:
    """Whether the name asks for certain outputs of a tile."""
    return bool(_parsed(name))


def _blocked(weight: Shape, output: Shape, outputs: Shape, target: Target) -> Iterator[Candidate]:
    """The best blocks of tiles; the runners-up are named by their size."""
    counts = (output[0], *tile_counts(outputs, output[1:]))
    blocks = {_block(counts, most) for most in _TILES}
    found = [_way(weight, counts, Winograd(outputs, block), target) for block in sorted(blocks)]
    best, *others = sorted(found, key=lambda way: way.cycles)
    yield best
    for way in others[:_REBLOCKED]:
        assert way.winograd is not None
        yield replace(way, name=f"{way.name} by {prod(way.winograd.block)} tiles")


def _block(counts: Shape, most: int) -> Shape:
    """Tiles along images and axes: whole rows, then planes, then images, as long as they fit."""
    result: list[int] = []
    for count in reversed(counts):
        parts = ceil(count / most)
        result.append(ceil(count / parts))
        most = 1 if parts > 1 else most // count
        most = max(most, 1)
    return tuple(reversed(result))


def _way(weight: Shape, counts: Shape, way: Winograd, target: Target) -> Candidate:
    filters, channels, *kernel = weight
    lanes, tiles, in_block = target.lanes, prod(counts), prod(way.block)
    blocks = prod(ceil(c / b) for c, b in zip(counts, way.block, strict=True))
    slots = [ceil(n / lanes) for n in (channels, filters)]
    count = points(way.outputs, kernel)
    scratch, weights = 4 * lanes * count * sum(slots) * in_block, 4 * lanes**2 * count * prod(slots)
    rate = inf
    if scratch + weights > target.l2_bytes // 2:
        rate = _NEAR if weights <= _LARGE else _FAR
    multiplied, schedule = product_schedule(filters, channels, in_block, rate, target)
    cycles = blocks * (count * multiplied + 4 * _LAUNCH)
    for vectors, axes in zip(slots, _steps(way.outputs, tuple(kernel)), strict=True):
        cycles += tiles * vectors * _transform_cycles(axes, target)
    if scratch > target.l2_bytes // 2:
        cycles += blocks * 2 * scratch / _SCATTERED
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
