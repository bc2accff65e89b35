"""Every way to compute a convolution on a target, and which one is taken and why."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np

from jit.decide.blocks import block_schedules
from jit.decide.listed import listed_schedules
from jit.decide.panels import panel_schedules, row_order, union_columns
from jit.decide.problem import Candidate, ConvProblem
from jit.decide.schedule import heights, strip_columns, strip_schedules
from jit.decide.winograd import WINOGRAD, named_tile, point_ways, ways
from jit.target import Target
from refimpl.plan import Choice, Schedule
from refimpl.plan.packing import STORAGES, stored_order

DIRECT = "direct"
ALGORITHMS = (DIRECT, WINOGRAD)
"""The families of candidates."""


@dataclass(frozen=True)
class Layer:
    """What a candidate is chosen for.

    Attributes:
        step: its name in the Plan.
        digest: 64 hex digits of all that its time depends on but the candidate and the machine.
    """

    step: str
    digest: str


@dataclass(frozen=True)
class Picked:
    """The candidate that is taken, and the seconds that were measured, by candidates' names."""

    candidate: Candidate
    seconds: Mapping[str, float] = field(default_factory=dict)


Pick = Callable[[Layer, Sequence[Candidate]], Picked]
"""Chooses among the candidates for a layer, of which there is at least one."""


def fewest_cycles(_: Layer, candidates: Sequence[Candidate]) -> Picked:
    """The candidate that is predicted to be the fastest."""
    return Picked(min(candidates, key=lambda candidate: candidate.cycles))


def check_names(algorithms: Collection[str]) -> None:
    """Raise ValueError unless every name is a family's or may be a candidate's."""
    known = (*ALGORITHMS, *STORAGES)
    for name in algorithms:
        if name not in known and not named_tile(name) and not _DIRECT_NAME.match(name):
            raise ValueError(
                f"no algorithm {name!r}; there are {', '.join(map(repr, known))}, {WINOGRAD!r} "
                "with the outputs of a tile, such as 'winograd F(2,4,4)', and the names of "
                "candidates, such as '32x14 v16'"
            )


_DIRECT_NAME = re.compile(r"\d+x\d+ (v\d+|panel)( by \d+ channels)?$|blocks of \d+(, turned)?$")


def candidates(
    problem: ConvProblem, target: Target, algorithms: Collection[str] = ALGORITHMS
) -> list[Candidate]:
    """The ways to compute a convolution that are allowed, the fastest by prediction first.

    Args:
        problem: the convolution.
        target: the machine.
        algorithms: families, or candidates by name. Where they allow none, all direct ones are,
            or all that compute a `winograd_conv`; but none is where formats alone are asked for,
            which no other way stands for.
    """
    found = list(point_ways(problem, target) if problem.outputs else _direct(problem, target))
    listed = [] if problem.outputs else list(listed_schedules(problem, target, algorithms))
    if set(algorithms) <= set(STORAGES):
        return sorted(listed, key=lambda candidate: candidate.cycles)
    tiled = ways(problem.stored.shape, problem.output, target, algorithms) if problem.steady else []
    allowed = [c for c in (*found, *tiled, *listed) if _allowed(c, algorithms)]
    return sorted(allowed or found, key=lambda candidate: candidate.cycles)


def _direct(problem: ConvProblem, target: Target) -> Iterator[Candidate]:
    yield from strip_schedules(problem, target)
    yield from panel_schedules(problem, target)
    yield from block_schedules(problem, target)


def _allowed(candidate: Candidate, algorithms: Collection[str]) -> bool:
    family = DIRECT if candidate.winograd is None else WINOGRAD
    if candidate.schedule.storage:  # no family has it: it is there because it was asked for
        return True
    # A tile's name asks for its blocks as well.
    return family in algorithms or any(
        candidate.name == name or candidate.name.startswith(f"{name} by ") for name in algorithms
    )


def refusal(layer: str, formats: Collection[str]) -> str:
    """Why a layer has no candidate, where formats alone were asked for, and the way out."""
    return (
        f"{layer}: {' or '.join(formats)} cannot hold its weight, or not on this target; fkw takes "
        "kernels that keep equally many weights each, as pattern:4x8 leaves them. Name 'direct' "
        "as well to compute such layers otherwise"
    )


def filter_order(weight: np.ndarray, problem: ConvProblem, s: Schedule) -> np.ndarray:
    """The filters of a weight (F, C, *K) in the order of strips whose vectors hold positions."""
    if s.storage:
        return stored_order(s.storage, weight, problem.stored)
    return row_order(problem, s.rows)


def chosen(
    problem: ConvProblem, found: Sequence[Candidate], picked: Picked, target: Target
) -> Choice:
    """The choice, explained.

    Args:
        problem: the convolution.
        found: its candidates.
        picked: the one that is taken.
        target: the machine.
    """
    reason = _reason(problem, picked, target)
    if picked.seconds:
        reason += f"; the fastest of {len(picked.seconds)} measured"
    return Choice(
        picked.candidate.name,
        reason,
        tuple((c.name, round(c.cycles)) for c in found),
        tuple(sorted(picked.seconds.items(), key=lambda item: item[1])),
    )


def _reason(problem: ConvProblem, picked: Picked, target: Target) -> str:
    way = picked.candidate.winograd
    if way is None:
        how = _cut(problem, picked.candidate.schedule)
        return f"{how}; Winograd is for CPUs so far" if target.grid and problem.steady else how
    how = f"in blocks of {prod(way.block)} tiles"
    if problem.outputs:
        return f"{how}; {problem.stored.mean():.1%} of the points"
    if problem.stored.all():
        return how
    known = "measured to be" if picked.seconds else "predicted"
    return f"{how}; dense, which is {known} faster than the kept weights alone"


def _cut(problem: ConvProblem, s: Schedule) -> str:
    if s.storage:
        return f"one filter by {prod(s.tile)} positions, x read where it lies"
    real = int(problem.stored.sum())
    strips = strip_columns(problem.columns, heights(problem.stored.shape[0], s.rows, s.lanes))
    held = sum(columns * height for columns, height in strips)
    text = f"strips of {s.rows} filters by {prod(s.tile)} positions"
    if s.strip:
        how = f", for {s.tile[1]} rows of the input in vectors" if s.turned else ""
        return f"strips of {s.strip} filters, tiles of rows and columns in each{how}"
    if s.panel:
        order = row_order(problem, s.rows)
        held = int(union_columns(problem.columns, order, s.rows).sum()) * s.rows
        text = f"strips of {s.rows} of {'like' if np.any(np.diff(order) != 1) else 'the'} filters"
        text += f" by {prod(s.tile)} positions of a packed panel"
    fill = held / max(real, 1) - 1
    return f"{text}, {fill:.0%} explicit zeros" if fill > 0.005 else text
