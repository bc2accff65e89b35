"""Convolutions by Winograd in a Plan: their transforms, their tiles, and what must hold of them.

A step with `winograd` passes over blocks of tiles.  Of a block its scratch holds two values, in
the blocks of channels of its input and output, the points of a tile before the channels:

    transformed  (1, points * channels, tiles)   the input's tiles
    products     (1, points * filters, tiles)    their sums over all channels

where channels and filters are rounded up to whole blocks, and tiles to those of a whole block.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import prod

from refimpl.graph import Shape
from refimpl.plan.form import Plan, Step, Winograd, require
from refimpl.winograd import Transform, cook_toom

_LONGEST_TILE = 8  # inputs of a tile along an axis: kernels hold them in registers
_FIVE = tuple(map(Fraction, ("0", "1/2", "-1/2", "2", "-2")))
"""Points of F(4, 3) and others that take five.  Beside 0, 1, -1, 2, -2 they amplify rounding by 7
instead of 16 along each axis, and most of their products, by powers of two, do not round at all."""


def transforms(outputs: Sequence[int], kernel: Sequence[int]) -> tuple[Transform, ...]:
    """F(m, r) of every axis."""
    return tuple(
        cook_toom(m, r, _FIVE if m + r == 7 and min(m, r) > 1 else None)
        for m, r in zip(outputs, kernel, strict=True)
    )


def points(outputs: Sequence[int], kernel: Sequence[int]) -> int:
    """Points of a transformed tile."""
    return prod(m + r - 1 for m, r in zip(outputs, kernel, strict=True))


def tile_counts(outputs: Sequence[int], positions: Sequence[int]) -> Shape:
    """Tiles along every axis; the last one may overlap the one before it."""
    return tuple(-(-o // m) for m, o in zip(outputs, positions, strict=True))


def scratch_shapes(way: Winograd, weight: Shape, block: int) -> tuple[Shape, Shape]:
    """Shapes of the transformed tiles and of the products, for a weight (F, C, *K)."""
    filters, channels, *kernel = weight
    count, tiles = points(way.outputs, kernel), prod(way.block)
    return tuple((1, count * -(-n // block) * block, tiles) for n in (channels, filters))  # type: ignore[return-value]


def check_winograd(plan: Plan, step: Step, way: Winograd) -> None:
    """Raise PlanError unless a sound convolution can run tile by tile as said."""
    weight = plan.weights[step.weight].shape
    x, y = plan.places[step.inputs[0]], plan.places[step.name]
    rank, attributes = len(weight) - 2, dict(step.attributes)
    require(rank >= 1 and len(y.shape) == rank + 2, step.name, "it has no positions to tile")
    steady = set(attributes["stride"]) == set(attributes["dilation"]) == {1}
    require(steady, step.name, "Winograd has no strides and no dilation")
    sizes = (*way.outputs, *way.block)
    sound = len(way.outputs) == rank and len(way.block) == rank + 1 and min(sizes) >= 1
    require(sound, step.name, f"no tiles {way.outputs} in blocks {way.block} of {rank} axes")
    for m, r, o in zip(way.outputs, weight[2:], y.shape[2:], strict=True):
        fits = m <= o and m + r - 1 <= _LONGEST_TILE and (r > 1 or m == 1)
        require(fits, step.name, f"no tiles of {m} outputs along an axis of {o} with {r} taps")
    counts = (x.shape[0], *tile_counts(way.outputs, y.shape[2:]))
    within = all(b <= c for b, c in zip(way.block, counts, strict=True))
    require(within, step.name, f"blocks of {way.block} tiles of {counts}")
    _check_blocks(plan, step, way)


def _check_blocks(plan: Plan, step: Step, way: Winograd) -> None:
    """Vectors are whole blocks of channels, in the input, the output and the scratch."""
    block, schedule = plan.places[step.name].layout.block, step.schedule
    require(
        schedule is not None and schedule.lanes == block and schedule.tile[0] == 1,
        step.name,
        f"tiles lie in one row, and vectors of filters are blocks of {block}",
    )
    wanted = scratch_shapes(way, plan.weights[step.weight].shape, block)
    require(len(step.scratch) == 2, step.name, "its scratch is not two values")
    places = [plan.places[name] for name in (*step.scratch, step.inputs[0])]
    found = tuple(place.shape for place in places[:2])
    require(found == wanted, step.name, f"its scratch is {found}, not {wanted}")
    same = all(p.layout.block == block and p.dtype == "f32" for p in places)
    require(same, step.name, f"not all its values lie in blocks of {block} channels")
