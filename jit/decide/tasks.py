"""Into how many tasks each step is divided: as many as there are threads, if each has enough to do.

A task must be worth the wait for the others at its end, which costs a microsecond or so.  Work is
counted in predicted cycles of one thread; where nothing was predicted, in elements that the step
touches, a cycle each.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

from jit.target import Target
from refimpl.plan import MOST_THREADS, Plan, PlanError, Step

WORTH = 20_000.0
"""Cycles below which a task is not worth a thread: ten times what waiting costs, or more."""


def check_threads(threads: int, target: Target) -> None:
    """Raise PlanError unless code for the target can be run by that many threads."""
    if not 1 <= threads <= MOST_THREADS:
        raise PlanError(f"{threads} threads: a plan is for 1 to {MOST_THREADS}")
    if threads > 1 and target.grid:
        raise PlanError(
            f"{threads} threads: {target.name} divides the work over its device by itself; "
            "plan for it with threads=1"
        )


def divide(plan: Plan, target: Target) -> Plan:
    """The Plan with the tasks of every step."""
    if plan.threads == 1:
        return plan
    return replace(plan, steps=tuple(_divided(plan, step, target) for step in plan.steps))


def _divided(plan: Plan, step: Step, target: Target) -> Step:
    tasks = int(min(plan.threads, work(plan, step, target) // WORTH))
    return replace(step, tasks=max(tasks, 1))


def work(plan: Plan, step: Step, target: Target) -> float:
    """Cycles of one thread for the step; of one time of a recurrence, whose times wait."""
    if step.choice.cycles:
        return step.choice.cycles
    elements = prod(plan.places[step.name].shape)
    touched = elements + sum(prod(plan.places[name].shape) for name in step.reads)
    products = step.kept_macs
    if step.op == "matmul":
        products = elements * plan.places[step.inputs[0]].shape[-1]
    return touched + products / (target.lanes * target.pipes)
