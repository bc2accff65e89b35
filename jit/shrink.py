"""Shrink a layer: the same decisions on so few filters, channels and positions that loops in
Python can run it, for `explain` and for tests of the stages."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from jit.decide.arena import lay_out
from jit.decide.schedule import heights
from refimpl.graph import Constant
from refimpl.layout import Layout
from refimpl.plan import Choice, Place, Plan, PlanError, Step, Winograd, output_positions
from refimpl.plan.packing import stored_order
from refimpl.plan.panels import panels_of
from refimpl.plan.winograd import scratch_shapes
from refimpl.tiles import narrowed, pack, unpack
from refimpl.winograd import points, tile_counts

_MACS = 100_000


def shrink(plan: Plan, name: str) -> Plan:
    """A Plan of one convolution of `plan`, cut as that one is, of at most about 10^5 MACs.

    Kept are strides, padding, dilation, activation, residual, layouts, rows and tile; there are
    two strips (the second ragged), two blocks of channels and a ragged edge of positions, as far
    as the budget allows.  Raises PlanError if the step is not a convolution.
    """
    step = next((s for s in plan.steps if s.name == name), None)
    if step is None or step.op != "conv" or step.schedule is None:
        convs = ", ".join(s.name for s in plan.steps if s.op == "conv")
        raise PlanError(f"{name} is not a convolution of this plan; they are {convs}")
    weight, stored = unpack(plan.weights[step.weight])
    filters, channels, spatial = _sizes(plan, step, stored)
    weight, stored = weight[:filters, :channels], stored[:filters, :channels]
    block = max(1, -(-channels // 2))
    schedule = replace(step.schedule, channel_block=_aligned(block, step.schedule.run))
    small = replace(
        step,
        name="y",
        inputs=("x:in",),
        residual="r:in" if step.residual else "",
        weight="weight",
        bias="bias",
        schedule=schedule,
        winograd=_tiled(step.winograd, spatial),
        scratch=("tiles", "products") if step.winograd else (),
        covers=(),
        choice=Choice("shrunk", f"{name} with fewer filters, channels, positions"),
    )
    strips, order = heights(filters, schedule.rows, schedule.grain), None
    if schedule.storage:
        order = stored_order(schedule.storage, weight, stored)
    tiles = pack(weight, stored, strips, schedule.channel_block, order)
    if plan.weights[step.weight].dtype == np.float16:
        tiles = narrowed(tiles)
    bias = plan.constants[step.bias].array[:filters]
    return _assemble(
        plan,
        small,
        spatial,
        replace_weights={"weight": tiles},
        bias=bias,
        x_layout=plan.places[step.inputs[0]].layout,
        y_layout=plan.places[step.name].layout,
        shape=(filters, channels),
    )


def _tiled(way: Winograd | None, spatial: tuple[int, ...]) -> Winograd | None:
    """The same tiles, all in one block."""
    return way and replace(way, block=(1, *tile_counts(way.outputs, spatial)))


def _aligned(block: int, run: int) -> int:
    return -(-block // run) * run


def _sizes(plan: Plan, step: Step, stored: np.ndarray) -> tuple[int, int, tuple[int, ...]]:
    """(filters, channels, output positions per axis) within the budget."""
    s = step.schedule
    assert s is not None
    rank = stored.ndim - 2
    f, c = stored.shape[:2]
    if step.winograd is not None:
        *outer, last = step.winograd.outputs
        work = points(step.winograd.outputs, stored.shape[2:]) * s.rows * 2
        channels = _aligned(max(1, min(c, _MACS // work)), s.run)
        longest = plan.places[step.name].shape[-1]
        return min(f, s.rows), min(c, channels), (*outer, min(last + 1, longest))
    filters = min(f, s.rows + max(1, 1 if s.panel or s.storage else s.lanes - 1))
    taps = prod(stored.shape[2:])
    output = output_positions(plan, step)
    spatial = list(output)
    if rank:
        spatial[-1] = min(output[-1], s.tile[1] + 1)
    if rank > 1:
        spatial[-2] = min(output[-2], s.tile[0] + (1 if s.tile[0] > 1 else 0))
    if rank > 2:
        spatial[0] = min(output[0], 2)
    padded = sum(heights(filters, s.rows, s.grain))
    channels = max(1, min(c, _MACS // max(1, padded * prod(spatial) * taps)))
    if channels > s.run:
        channels = channels // s.run * s.run
    return filters, min(c, max(channels, s.run)), tuple(spatial)


def _assemble(
    plan: Plan,
    step: Step,
    spatial: tuple[int, ...],
    *,
    replace_weights: dict,
    bias: np.ndarray,
    x_layout: Layout,
    y_layout: Layout,
    shape: tuple[int, int],
) -> Plan:
    filters, channels = shape
    attributes = dict(step.attributes)
    kernel = replace_weights["weight"].shape[2:]
    inputs = []
    for i, o in enumerate(spatial):
        lo, hi = attributes["padding"][i]
        reach = (o - 1) * attributes["stride"][i] + (kernel[i] - 1) * attributes["dilation"][i] + 1
        inputs.append(max(1, reach - lo - hi))
    halo = tuple(attributes.get("padding", ()))
    plain = ((0, 0),) * len(spatial)
    x_shape, y_shape = (1, channels, *inputs), (1, filters, *spatial)
    places = {
        "x": Place(x_shape, Layout(1, plain), "input"),
        "x:in": Place(x_shape, Layout(x_layout.block, halo), "arena"),
        "y": Place(y_shape, Layout(y_layout.block, plain), "arena"),
        "y:out": Place(y_shape, Layout(1, plain), "output"),
    }
    if step.winograd:
        shapes = scratch_shapes(step.winograd, replace_weights["weight"].shape, y_layout.block)
        lies = Layout(y_layout.block, ((0, 0),))
        places |= {n: Place(s, lies, "arena") for n, s in zip(step.scratch, shapes, strict=True)}
    move = Choice("relayout", "")
    steps = [Step("x:in", "relayout", ("x",), choice=move)]
    names = ("x",)
    if step.residual:
        places["r"] = Place(y_shape, Layout(1, plain), "input")
        places["r:in"] = Place(y_shape, Layout(y_layout.block, plain), "arena")
        steps.append(Step("r:in", "relayout", ("r",), choice=move))
        names = ("x", "r")
    if step.schedule is not None and (step.schedule.panel or step.schedule.storage):
        weight = replace_weights["weight"].shape
        scratch = panels_of(step, weight, (1, *spatial), 1).places(step.name)
        places |= scratch
        step = replace(step, scratch=tuple(scratch))
    steps += [step, Step("y:out", "relayout", ("y",), choice=move)]
    result = Plan(
        plan.name,
        plan.target,
        1,
        names,
        ("y:out",),
        places,
        tuple(steps),
        replace_weights,
        {"bias": Constant(bias)},
        0,
    )
    return lay_out(result)
