"""A Plan with one of its contractions cut otherwise than the planner would."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from jit.decide.arena import lay_out
from jit.decide.packing import pack_as
from refimpl.plan import Plan, PlanError, Schedule, output_positions
from refimpl.plan.packing import stored_order
from refimpl.plan.panels import panels_of
from refimpl.tiles import unpack


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
    weight, held = unpack(plan.weights[step.weight])
    stored = held if stored is None else stored
    if schedule.storage:
        order = stored_order(schedule.storage, weight, stored)
    tiles = pack_as(schedule, weight, stored, order)
    places = dict(plan.places)
    new = replace(step, schedule=schedule)
    if step.op == "conv":
        for scratch in step.scratch:
            del places[scratch]
        output = (places[step.inputs[0]].shape[0], *output_positions(plan, step))
        panels = panels_of(new, weight.shape, output, plan.threads)
        made = {} if schedule.over_filters or schedule.strip else panels.places(name)
        places, new = places | made, replace(new, scratch=tuple(made))
    steps = tuple(new if s is step else s for s in plan.steps)
    weights = {**plan.weights, step.weight: tiles}
    return lay_out(replace(plan, steps=steps, places=places, weights=weights))
