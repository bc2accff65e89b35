"""Optimisations that a plan may be made without, to see what each of them is worth.

They are those of the papers' tables (GRIM, PatDNN).  A plan without some of them is a plan like
any other: checked, saved, run, held to its bounds; its steps are only decided otherwise.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from jit.decide.candidates import Layer, Pick, Picked
from jit.decide.problem import Candidate
from jit.target import Target
from refimpl.graph import Graph
from refimpl.plan import Schedule

OPTIMISATIONS: Mapping[str, str] = {
    "compaction": "pruned weights are absent; without it they are zeros that are multiplied",
    "reorder": "strips, and tiles in them, gather filters that keep like columns; without it "
    "filters stay in their order",
    "reuse": "what is loaded serves all filters of a strip, in registers; without it each vector "
    "of filters, or filter, loads its own",
    "tiling": "some positions are summed at once, in registers; without it one, or one vector",
    "tuning": "the cheapest candidate by prediction or measurement; without it strips of four "
    "filters over a packed panel, or of two vectors of filters",
    "fusion": "bias, batch norm, addition and activation join what they follow; without it they "
    "are steps of their own",
}
"""What a plan may be made without, in the order in which tables add them; and what that means."""

_ROWS = 4  # of a strip that is not tuned: what PatDNN's printed example unrolls


def check_optimisations(without: Collection[str]) -> None:
    """Raise ValueError unless every name is an optimisation's."""
    for name in without:
        if name not in OPTIMISATIONS:
            raise ValueError(f"no optimisation {name!r}; there are {', '.join(OPTIMISATIONS)}")


def uncompacted(graph: Graph) -> Graph:
    """The Graph with all weights, the pruned ones zero."""
    return replace(graph, sparsity={})


def picking(pick: Pick, target: Target, without: Collection[str]) -> Pick:
    """Chooses as `pick` does, but for what is left out: of tuning, tiling and reuse."""
    if not {"tuning", "tiling", "reuse"} & set(without):
        return pick

    def choose(layer: Layer, candidates: Sequence[Candidate]) -> Picked:
        if "tuning" in without:
            picked = Picked(min(candidates, key=lambda c: _far_from_usual(c.schedule, target)))
        else:
            picked = pick(layer, candidates)
        old = picked.candidate.schedule
        new = _reduced(old, without)
        if new == old:
            return picked
        return replace(picked, candidate=replace(picked.candidate, schedule=new), seconds={})

    return choose


def _far_from_usual(s: Schedule, target: Target) -> tuple[int, int, int]:
    """How far a schedule is from what everything would be cut to if nothing were compared."""
    if s.panel:
        return (0, abs(s.rows - _ROWS), 0)
    usual = 2 * target.lanes
    return (1 if s.over_filters else 2, target.lanes - s.lanes, abs(s.rows - usual))


def _reduced(s: Schedule, without: Collection[str]) -> Schedule:
    if "tiling" in without:
        s = replace(s, tile=(1, s.lanes if s.panel else 1))
    alone = 1 if s.panel else s.lanes
    if "reuse" in without and s.rows > alone:
        s = replace(s, rows=alone) if s.strip else replace(s, apart=True)
    return s
