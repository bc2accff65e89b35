"""A Plan with one of its contractions cut, or blocked, otherwise than the planner would."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from jit.decide.arena import lay_out
from jit.decide.packing import pack_as
from refimpl.graph import Shape
from refimpl.plan import Plan, PlanError, Schedule, output_positions
from refimpl.plan.packing import stored_order
from refimpl.plan.panels import panels_of
from refimpl.plan.turned import own_scratch, turned_places
from refimpl.plan.winograd import kernel_shape, scratch_shapes
from refimpl.tiles import narrowed, unpack


def repacked(
    plan: Plan,
    name: str,
    schedule: Schedule,
    order: np.ndarray | None = None,
    stored: np.ndarray | None = None,
) -> Plan:
    """The plan with the weight of a step packed, and its scratch laid out, for that schedule.

    Args:
        plan: any.
        name: of a convolution, linear layer or recurrence.
        schedule: how it is to be cut.
        order: of its filters, a permutation, where strips may hold them in any order; a format
            has its own.
        stored: which weights are stored at least, bool (F, C, *K); None is what the plan stores,
            zeros that only filled its strips included.

    Raises:
        PlanError: no step of that name has a packed weight, or it cannot be cut so.
        StorageError: the format cannot hold the weight.
    """
    step = next((s for s in plan.steps if s.name == name and s.schedule is not None), None)
    if step is None:
        raise PlanError(f"{name}: no step of that name has a packed weight")
    old = plan.weights[step.weight]
    weight, held = unpack(old)
    stored = held if stored is None else stored
    if schedule.storage:
        order = stored_order(schedule.storage, weight, stored)
    tiles = pack_as(schedule, weight, stored, order)
    if old.dtype == np.float16:
        tiles = narrowed(tiles)  # exact: these weights were rounded before
    places = dict(plan.places)
    new = replace(step, schedule=schedule)
    own = () if step.op == "conv" else own_scratch(step)
    for scratch in step.scratch[len(own) :]:
        del places[scratch]
    made = turned_places(name, schedule, weight.shape)
    if schedule.panel or schedule.storage:
        output = (places[step.inputs[0]].shape[0], *output_positions(plan, step))
        made = panels_of(new, weight.shape, output, plan.threads).places(name)
    places, new = places | made, replace(new, scratch=(*own, *made))
    steps = tuple(new if s is step else s for s in plan.steps)
    weights = {**plan.weights, step.weight: tiles}
    return lay_out(replace(plan, steps=steps, places=places, weights=weights))


def reblocked(plan: Plan, name: str, block: Shape) -> Plan:
    """The plan with a convolution by Winograd that works on blocks of other sizes.

    Args:
        plan: any.
        name: of the step.
        block: images, and tiles along every spatial axis.

    Raises:
        PlanError: no step of that name is computed by Winograd.
    """
    step = next((s for s in plan.steps if s.name == name and s.winograd is not None), None)
    if step is None or step.winograd is None:
        raise PlanError(f"{name}: no step of that name is computed by Winograd")
    way = replace(step.winograd, block=block)
    weight = kernel_shape(step, plan.weights[step.weight].shape)
    shapes = scratch_shapes(way, weight, plan.places[name].layout.block)
    scratch = zip(step.scratch, shapes, strict=True)
    places = {n: replace(plan.places[n], shape=shape) for n, shape in scratch}
    steps = tuple(replace(s, winograd=way) if s is step else s for s in plan.steps)
    return lay_out(replace(plan, steps=steps, places={**plan.places, **places}))
