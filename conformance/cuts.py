"""Other ways to cut the convolutions of a Plan than the planner's: every legal one must be right.

The planner's choices are few for a given layer; a fault in how sums rest in memory between two
blocks of channels, say, would only show on layers too large to draw often.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jit.decide.repack import reblocked, repacked
from jit.decide.schedule import last_strip_fits
from jit.decide.winograd import block_of
from jit.target import Target, target
from refimpl.plan import Plan, Schedule, Step, Winograd
from refimpl.tiles import unpack
from refimpl.winograd import tile_counts


@dataclass(frozen=True)
class Cut:
    """How every convolution of a Plan is cut.

    vectors: of filters in a strip, or filters where vectors are of positions; narrower: how often
    the width of these vectors is halved; tile: output positions along height and width, or vectors
    of positions along the latter; channels: in a block; panel: tiles of positions that share one,
    0 for vectors of filters; strip: filters of a strip of several tiles in products without
    positions, 0 for one tile; tiles: in a block at most of those by Winograd, 0 for as many as the
    planner takes; turned: the vectors of strips of several tiles are of rows of x.
    """

    vectors: int
    narrower: int
    tile: tuple[int, int]
    channels: int
    filters_first: bool
    panel: int = 0
    strip: int = 0
    tiles: int = 0
    turned: bool = False


def recut(plan: Plan, cut: Cut) -> Plan:
    """The plan with every convolution, and product of a recurrence, cut as said, as far as its
    size allows.  Those by Winograd are only blocked otherwise."""
    machine = target(plan.target)
    for step in plan.steps:
        if step.winograd is not None:
            plan = _in_blocks(plan, step, step.winograd, cut)
            continue
        if step.schedule is None:
            continue
        weight, _ = unpack(plan.weights[step.weight])
        whole = plan.weights[step.weight].dtype == np.float32  # panels read no others
        if cut.strip and weight.ndim == 2 and not machine.grid:
            # What is zero is left out here, or every strip would be the one tile that it was.
            schedule = _over_blocks(step.schedule, cut, machine)
            plan = repacked(plan, step.name, schedule, stored=weight != 0)
        elif cut.panel and step.op == "conv" and not machine.grid and whole:
            backwards = np.arange(len(weight))[::-1]  # as far from the order they come in as can be
            plan = repacked(plan, step.name, _over_positions(plan, step, cut, machine), backwards)
        else:
            plan = repacked(plan, step.name, _over_filters(plan, step, step.schedule, cut, machine))
    return plan


def _in_blocks(plan: Plan, step: Step, way: Winograd, cut: Cut) -> Plan:
    if not cut.tiles:
        return plan
    batch, _, *positions = plan.places[step.name].shape
    counts = (batch, *tile_counts(way.outputs, positions))
    return reblocked(plan, step.name, block_of(counts, cut.tiles))


def _over_blocks(old: Schedule, cut: Cut, machine: Target) -> Schedule:
    lanes = max(1, machine.lanes >> cut.narrower)
    rows = lanes * min(cut.vectors, 2)
    channels = old.channel_block
    if cut.turned:
        rows, tile = cut.vectors, (1, (1 + cut.tile[1] % 3) * lanes)
        return Schedule(rows, lanes, tile, 1, channels, False, strip=cut.strip, turned=True)
    return Schedule(rows, lanes, (1, cut.tile[1]), 1, channels, False, strip=cut.strip)


def _over_positions(plan: Plan, step: Step, cut: Cut, machine: Target) -> Schedule:
    lanes = max(1, machine.lanes >> cut.narrower)
    channels = min(cut.channels, plan.weights[step.weight].shape[1])
    tile = (1, cut.tile[1] * lanes)
    return Schedule(cut.vectors, lanes, tile, 1, channels, False, cut.panel)


def _over_filters(plan: Plan, step: Step, old: Schedule, cut: Cut, machine: Target) -> Schedule:
    filters, available, *_ = plan.weights[step.weight].shape
    lanes = max(1, machine.lanes >> cut.narrower)
    # A run reads neighbours in memory, so a block of channels holds whole runs.
    channels = -(-min(cut.channels, available) // old.run) * old.run
    vectors, block = cut.vectors, plan.places[step.name].layout.block
    while not last_strip_fits(filters, vectors * lanes, lanes, block):
        vectors -= 1
    return Schedule(vectors * lanes, lanes, cut.tile, old.run, channels, cut.filters_first)
