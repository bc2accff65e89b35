"""Plan: a Graph with every decision made; its form, its checker, its meaning, its report."""

from refimpl.plan.check import DEEPEST, LARGEST_VALUE, check
from refimpl.plan.form import (
    ALIGNMENT,
    CHANNELWISE,
    ELEMENTWISE,
    MOST_THREADS,
    PLAIN,
    STEP_OPS,
    Choice,
    Place,
    Plan,
    PlanError,
    Schedule,
    Step,
    Winograd,
    lifetimes,
    output_positions,
    stored_macs,
)
from refimpl.plan.meaning import activate, evaluate, evaluate_step, read_values, states

__all__ = [
    "ALIGNMENT",
    "CHANNELWISE",
    "DEEPEST",
    "ELEMENTWISE",
    "LARGEST_VALUE",
    "MOST_THREADS",
    "PLAIN",
    "STEP_OPS",
    "Choice",
    "Place",
    "Plan",
    "PlanError",
    "Schedule",
    "Step",
    "Winograd",
    "activate",
    "check",
    "evaluate",
    "evaluate_step",
    "lifetimes",
    "output_positions",
    "read_values",
    "states",
    "stored_macs",
]
