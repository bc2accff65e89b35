"""Convolutions by Winograd in a Plan: their transforms, their tiles, and what must hold of them.

A step with `winograd` passes over blocks of tiles.  Of a block its scratch holds two values, in
the blocks of channels of its input and output, the points of a tile before the channels:

    transformed  (1, points * channels, tiles)   the input's tiles
    products     (1, points * filters, tiles)    their sums over all channels

where channels and filters are rounded up to whole blocks, and tiles to those of a whole block.
The packed weight is of the kernel's taps, to be transformed, or of a `winograd_conv`'s points.
"""

from __future__ import annotations

from math import prod

from refimpl.graph import Shape
from refimpl.plan.form import Plan, Step, Winograd, require
from refimpl.winograd import LONGEST, points, taps, tile_counts


def kernel_shape(step: Step, weight: Shape) -> Shape:
    """(F, C, *K): the weight of a step as one of taps, whether it is that or one of points."""
    if step.op != "winograd_conv":
        return weight
    return (*weight[:2], *taps(dict(step.attributes)["outputs"], weight[2:]))


def scratch_shapes(way: Winograd, weight: Shape, block: int) -> tuple[Shape, Shape]:
    """Shapes of the transformed tiles and of the products, for a weight (F, C, *K)."""
    filters, channels, *kernel = weight
    count, tiles = points(way.outputs, kernel), prod(way.block)
    return tuple((1, count * -(-n // block) * block, tiles) for n in (channels, filters))  # type: ignore[return-value]


def check_winograd(plan: Plan, step: Step, way: Winograd) -> None:
    """Raise PlanError unless a sound convolution can run tile by tile as said."""
    weight = kernel_shape(step, plan.weights[step.weight].shape)
    x, y = plan.places[step.inputs[0]], plan.places[step.name]
    rank, attributes = len(weight) - 2, dict(step.attributes)
    require(rank >= 1 and len(y.shape) == rank + 2, step.name, "it has no positions to tile")
    if step.op == "winograd_conv":
        meant = attributes["outputs"]
        require(way.outputs == meant, step.name, f"it means tiles of {meant}, not {way.outputs}")
    else:
        steady = set(attributes["stride"]) == set(attributes["dilation"]) == {1}
        require(steady, step.name, "Winograd has no strides and no dilation")
    sizes = (*way.outputs, *way.block)
    sound = len(way.outputs) == rank and len(way.block) == rank + 1 and min(sizes) >= 1
    require(sound, step.name, f"no tiles {way.outputs} in blocks {way.block} of {rank} axes")
    for m, r, o in zip(way.outputs, weight[2:], y.shape[2:], strict=True):
        fits = m <= o and m + r - 1 <= LONGEST and (r > 1 or m == 1)
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
    weight = kernel_shape(step, plan.weights[step.weight].shape)
    wanted = scratch_shapes(way, weight, block)
    require(len(step.scratch) == 2, step.name, "its scratch is not two values")
    places = [plan.places[name] for name in (*step.scratch, step.inputs[0])]
    found = tuple(place.shape for place in places[:2])
    require(found == wanted, step.name, f"its scratch is {found}, not {wanted}")
    same = all(p.layout.block == block and p.dtype == "f32" for p in places)
    require(same, step.name, f"not all its values lie in blocks of {block} channels")
