"""Tuning: every layer's promising candidates, timed where the network will run.

Candidates are timed inside the network, as they will run: in each round every layer takes one of
its candidates that is not known yet, and that network takes turns with the network of the best
candidates so far, layer by layer timed.  So a clock that drifts changes both.  What is found is
kept after every round; tuning that was cut short goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from jit.artifact import build
from jit.cache import CodeCache
from jit.decide import plan
from jit.decide.candidates import ALGORITHMS, Candidate, Layer, Pick, Picked
from jit.decide.halved import Weights
from jit.devices import in_real_time, open_device, target_for
from jit.executable import Executable
from jit.inputs import random_inputs
from jit.session import DeviceError, Session
from jit.target import target as target_named
from jit.tune.table import LatencyTable
from refimpl.graph import Graph
from refimpl.plan import Plan
from refimpl.plan.packing import STORAGES

TRIED = (*ALGORITHMS, *STORAGES)
"""What is tried unless it is restricted."""
_WITHIN = 2.5
"""Times the predicted cycles of the best within which a candidate may still win."""
_KINDS_WITHIN = 6.0
"""The same for the best of a kind, since the model may be wrong about a kind as a whole."""
_MOST = 10
"""Candidates of a layer that are timed."""
_TURNS = 3
"""Turns that two networks take in a round."""
_PASSES = (2, 20)
"""Passes over a network in a turn, at least and at most."""
_ENOUGH_NS = 200_000_000
"""Nanoseconds in all turns that are enough."""

Tell = Callable[[int, int], None]
"""Is told how many candidates of all layers are known, and of how many."""


def tune(
    graph: Graph,
    device: str = "host",
    target: str | None = None,
    *,
    threads: int = 1,
    algorithms: Collection[str] = TRIED,
    weights: Weights = "float32",
    table: Path | None = None,
    cache: CodeCache | None = None,
    tell: Tell = lambda *_: None,
) -> Plan:
    """The Plan of the candidates that are the fastest by measurement.

    Args:
        graph: of the network.
        device: as `jit.devices.open_device` takes it.
        target: that it runs code for; None is what the device's name says.
        threads, weights: as `jit.decide.plan` takes them.
        algorithms: as well; formats that the planner takes by name alone are among them, since
            measurement needs no model.
        table: file in which times are found and kept; None is the one in the user's folder.
        cache: of compiled code.
        tell: is told of the progress.

    Raises:
        GraphError, PlanError, TargetError: as `jit.decide.plan`.
        DeviceError: the device fails, does not run in real time, or does not say its target.
        TableError: the table cannot be read or written.
    """
    name = target or target_for(device)
    if not in_real_time(device):
        raise DeviceError(f"time on {device} says nothing; tune on a machine, such as host")
    if name is None:  # only unknown devices do not say it, and opening one says which are known
        open_device(device).close()
        raise DeviceError(f"{device} does not say its target; name one with target=")
    machine = target_named(name)

    def planned(pick: Pick) -> Plan:
        return plan(graph, machine, threads, algorithms, pick, weights=weights)

    with closing(open_device(device)) as session:
        known = LatencyTable.of_user(session.info, machine)
        contests = _Contests(known if table is None else replace(known, path=table))
        return _tuned(planned, contests, session, cache, tell)


def _tuned(
    planned: Callable[[Pick], Plan],
    contests: _Contests,
    session: Session,
    cache: CodeCache | None,
    tell: Tell,
) -> Plan:
    best = planned(contests.enter)
    while (left := contests.line_up()) > 0:
        tell(contests.candidates - left, contests.candidates)
        _time(best, planned(contests.challenger), contests, session, cache)
        best = planned(contests.best)
    tell(contests.candidates, contests.candidates)
    return best


@dataclass
class _Contest:
    """A layer's candidates by rank, the seconds of those that are known, and who waits."""

    names: tuple[str, ...]
    seconds: dict[str, float]
    waiting: list[str] = field(default_factory=list)

    @property
    def best(self) -> str:
        """The fastest known candidate, or the one that is predicted to be."""
        known = [name for name in self.names if name in self.seconds]
        return min(known, key=self.seconds.__getitem__) if known else self.names[0]


class _Contests:
    """The contests of all layers, by digest, and who runs for which step of a network."""

    def __init__(self, table: LatencyTable):
        self.table = table
        self.contests: dict[str, _Contest] = {}
        self.layers: dict[str, str] = {}

    @property
    def candidates(self) -> int:
        """Of all layers."""
        return sum(len(contest.names) for contest in self.contests.values())

    def line_up(self) -> int:
        """Begin a round; how many candidates are still to be timed against the best."""
        for contest in self.contests.values():
            unknown = [name for name in contest.names if name not in contest.seconds]
            contest.waiting = [name for name in unknown if name != contest.best]
        return sum(len(contest.waiting) for contest in self.contests.values())

    # -- picks -----------------------------------------------------------------------------------

    def enter(self, layer: Layer, candidates: Sequence[Candidate]) -> Picked:
        """Take note of a layer."""
        self.layers[layer.step] = layer.digest
        if layer.digest not in self.contests:
            names = promising(candidates)
            known = self.table.seconds(layer.digest)
            seconds = {name: known[name] for name in names if name in known}
            self.contests[layer.digest] = _Contest(names, seconds)
        return self.best(layer, candidates)

    def best(self, layer: Layer, candidates: Sequence[Candidate]) -> Picked:
        """The best so far."""
        contest = self.contests[layer.digest]
        return Picked(_named(candidates, contest.best), contest.seconds)

    def challenger(self, layer: Layer, candidates: Sequence[Candidate]) -> Picked:
        """The next that is not known; the best where all are.

        Of equal layers each takes another one.
        """
        contest = self.contests[layer.digest]
        name = contest.waiting.pop(0) if contest.waiting else contest.best
        return Picked(_named(candidates, name), contest.seconds)

    # -- results ---------------------------------------------------------------------------------

    def settle(self, step: str, best: tuple[str, float], other: tuple[str, float]) -> None:
        """Take in that two candidates (name, seconds) ran for a step, in turns.

        The first keeps the seconds that it has; the other's are in proportion.
        """
        digest = self.layers[step]
        contest = self.contests[digest]
        known = contest.seconds.setdefault(*best)
        if other[0] not in contest.seconds:
            contest.seconds[other[0]] = known * other[1] / best[1]
        self.table.put(digest, contest.seconds)


def promising(candidates: Sequence[Candidate]) -> tuple[str, ...]:
    """The names of the candidates that are worth timing, the best by prediction first."""
    ranked = sorted(candidates, key=lambda candidate: candidate.cycles)
    least = ranked[0].cycles
    kinds = {_kind(c): c.name for c in reversed(ranked) if c.cycles <= _KINDS_WITHIN * least}
    near = [c.name for c in ranked if c.cycles <= _WITHIN * least][:_MOST]
    wanted = {*near, *kinds.values()}
    return tuple(candidate.name for candidate in ranked if candidate.name in wanted)


def _kind(candidate: Candidate) -> str:
    schedule = candidate.schedule
    if candidate.winograd is not None:
        return "winograd"
    return schedule.storage or (
        "panel" if schedule.panel else "blocks" if schedule.strip else "strips"
    )


def _named(candidates: Sequence[Candidate], name: str) -> Candidate:
    return next(candidate for candidate in candidates if candidate.name == name)


def _time(
    best: Plan, other: Plan, contests: _Contests, session: Session, cache: CodeCache | None
) -> None:
    """Let two plans of one network take turns, and settle every step in which they differ."""
    with (
        Executable(build(best, cache=cache), session) as first,
        Executable(build(other, cache=cache), session) as second,
    ):
        usual, tried = _fastest(first, second, random_inputs(best))
    for old, new in zip(best.steps, other.steps, strict=True):
        if old.choice.winner != new.choice.winner:
            contests.settle(
                old.name,
                (old.choice.winner, usual[old.name]),
                (new.choice.winner, tried[new.name]),
            )


def _fastest(
    first: Executable, second: Executable, inputs: Sequence[np.ndarray]
) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds of every step of each, the fastest of all passes: noise only ever adds."""
    first.feed(*inputs)
    (once,) = first.run().nanoseconds
    passes = min(max(_ENOUGH_NS // (_TURNS * max(once, 1)), _PASSES[0]), _PASSES[1])
    found: tuple[dict[str, float], dict[str, float]] = ({}, {})
    for _ in range(_TURNS):
        for executable, fastest in zip((first, second), found, strict=True):
            for time in executable.profile(*inputs, runs=passes, warmup=1):
                seconds = min(time.nanoseconds) / 1e9
                fastest[time.step] = min(seconds, fastest.get(time.step, seconds))
    return found
