"""Other ways to cut the convolutions of a Plan than the planner's: every legal one must be right.

The planner's choices are few for a given layer; a fault in how sums rest in memory between two
blocks of channels, say, would only show on layers too large to draw often.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from jit.decide.schedule import heights, last_strip_fits
from jit.target import target
from refimpl.plan import Plan, Schedule, Step
from refimpl.tiles import Tiles, pack, unpack


@dataclass(frozen=True)
class Cut:
    """How every convolution of a Plan is cut.

    vectors: of filters in a strip; narrower: how often the width of these vectors is halved;
    tile: output positions along height and width; channels: in a block.
    """

    vectors: int
    narrower: int
    tile: tuple[int, int]
    channels: int
    filters_first: bool


def recut(plan: Plan, cut: Cut) -> Plan:
    """The plan with every convolution, and product of a recurrence, cut as said, as far as its
    size allows.  Convolutions by Winograd stay as they are."""
    steps, weights = [], dict(plan.weights)
    for step in plan.steps:
        if step.schedule is not None and step.winograd is None:
            step, weights[step.weight] = _recut(plan, step, step.schedule, cut)
        steps.append(step)
    return replace(plan, steps=tuple(steps), weights=weights)


def _recut(plan: Plan, step: Step, old: Schedule, cut: Cut) -> tuple[Step, Tiles]:
    weight, stored = unpack(plan.weights[step.weight])
    lanes = max(1, target(plan.target).lanes >> cut.narrower)
    # A run reads neighbours in memory, so a block of channels holds whole runs.
    channels = -(-min(cut.channels, weight.shape[1]) // old.run) * old.run
    filters, block = weight.shape[0], plan.places[step.name].layout.block
    vectors = cut.vectors
    while not last_strip_fits(filters, vectors * lanes, lanes, block):
        vectors -= 1
    schedule = Schedule(vectors * lanes, lanes, cut.tile, old.run, channels, cut.filters_first)
    strips = heights(filters, schedule.rows, lanes)
    return replace(step, schedule=schedule), pack(weight, stored, strips, channels)
