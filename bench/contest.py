"""Graphs compiled by us beside the same Graphs in other engines: who competes, and on what."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from rich.table import Table

from bench.compare import Comparison, Entry, Unit, Work, compare
from bench.errors import BenchError
from bench.peers import PeerProcesses
from bench.rivals import FEWER_FILTERS, HERE, Ring, Rival
from jit.artifact import Artifact, build
from jit.cache import CodeCache
from jit.decide import plan as make_plan
from jit.decide.candidates import ALGORITHMS
from jit.devices import open_device, target_for
from jit.executable import Executable
from jit.session import Session
from jit.tune import tune
from refimpl.graph import Graph
from refimpl.plan import CONVOLUTIONS, Plan, stored_macs

_STEP_TURNS, _STEP_RUNS = 5, 3

OURS = "ours "
"""What the labels of our own contestants begin with."""


@dataclass(frozen=True)
class Variant:
    """A network to compile, how it is called in tables, and its plan for the device's target."""

    label: str
    graph: Graph
    plan: Plan
    artifact: Artifact


@dataclass(frozen=True)
class Contest:
    """A comparison, and what our own contestants consist of.

    Attributes:
        comparison: of whole runs.
        steps: by label, then by the Plan's step: the costs of the step run by itself, ours
            taking turns, one cost a turn; those that were refused are not in it.
        notes: what a reader of the numbers must know.
    """

    comparison: Comparison
    steps: Mapping[str, Mapping[str, Sequence[float]]]
    notes: tuple[str, ...]

    def step_costs(self, label: str) -> dict[str, float]:
        """The median cost of every step of one of ours."""
        return {name: float(np.median(costs)) for name, costs in self.steps[label].items()}

    def shares(self, label: str) -> str:
        """Which steps the cost of one of ours is in, the five largest, in words."""
        costs = self.step_costs(label)
        largest = sorted(costs.items(), key=lambda item: -item[1])[:5]
        return ", ".join(f"{name} {cost / sum(costs.values()):.0%}" for name, cost in largest)

    @property
    def correct(self) -> bool:
        """Whether all of ours computed what they should."""
        rows = self.comparison.rows
        return not any(row.refusal for row in rows if row.label.startswith(OURS))

    def table(self, title: str) -> Table:
        """For people."""
        shares = [f"{label}: {self.shares(label)}" for label in self.steps]
        return self.comparison.table(title, (*shares, *self.notes))

    def json(self) -> dict[str, Any]:
        """For machines."""
        steps = {label: self.step_costs(label) for label in self.steps}
        return {
            "correct": self.correct,
            "notes": list(self.notes),
            "steps": steps,
            **self.comparison.json(),
        }


class Ours:
    """A compiled network on a device, as a contestant: plain arrays in, plain arrays out.

    Attributes:
        steps: the cost of every step run by itself, by name, once for every `time_steps`.
    """

    def __init__(self, artifact: Artifact, session: Session) -> None:
        self.executable = Executable(artifact, session)
        self.steps: dict[str, list[float]] = {}
        self._inputs: tuple[np.ndarray, ...] = ()

    def output(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """Run on the inputs."""
        self._inputs = inputs
        return self.executable(*inputs)

    def measure(self, calls: int, warmup: int) -> tuple[float, ...]:
        """Nanoseconds of whole runs, conversions included, copying to the device not."""
        return tuple(map(float, self.executable.run(runs=calls, warmup=warmup).nanoseconds))

    def time_steps(self) -> None:
        """Add median nanoseconds to `steps`."""
        for timed in self.executable.profile(*self._inputs, runs=_STEP_RUNS, warmup=1):
            median = float(np.median(timed.nanoseconds))
            self.steps.setdefault(timed.step, []).append(median)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing: whoever made it closes it, once its steps are timed."""


class Counted(Ours):
    """The same on an emulator: costs are guest instructions, known from a single run."""

    def output(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """Run on the inputs, step by step, counting."""
        counts = self.executable.instructions(*inputs)
        self.steps = {step: [float(count)] for step, count in counts.items()}
        return self.executable.results()

    def measure(self, calls: int, warmup: int) -> tuple[float, ...]:  # noqa: ARG002
        """Instructions of the whole run; they do not vary."""
        return (sum(counts[0] for counts in self.steps.values()),)

    def time_steps(self) -> None:
        """Nothing: they were counted."""


def target_of(device: str) -> str:
    """The target that code for a device of that name is made for, where the name says it.

    Raises:
        BenchError: it does not.
    """
    target = target_for(device)
    if target is None:
        raise BenchError(f"the device {device!r} does not say its processor; name a target as well")
    return target


def compiled(
    graphs: Mapping[str, Graph],
    target: str,
    *,
    direct: bool = False,
    formats: Sequence[str] = (),
    threads: int = 1,
    tuned_on: str | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> list[Variant]:
    """Every graph planned and built for the target, by the label it has here.

    Args:
        graphs: by label.
        target: as `jit.target.target` knows it.
        direct: whether one that is computed by Winograd has a variant beside it, `LABEL direct`,
            that is not: how gains of sparse kernels are told from those of Winograd.
        formats: of `refimpl.storage` that pruned graphs are computed from as well, in variants
            beside them called after these.
        threads: that run each.
        tuned_on: the device on which candidates are measured; None takes the planner's word.
        tell: told what is being done, in a few words.

    Raises:
        PlanError: a graph that cannot be compiled, or a weight that a format cannot hold, by the
            node's name.
        DeviceError, TableError: it cannot be tuned.
    """

    def variant(label: str, graph: Graph, algorithms: Sequence[str] = ALGORITHMS) -> Variant:
        def progress(known: int, wanted: int) -> None:
            tell(f"tuning {label}: {known} of {wanted} candidates are known")

        if tuned_on is None:
            plan = make_plan(graph, target, threads, algorithms)
        else:
            options = {"threads": threads, "algorithms": algorithms, "cache": CodeCache.of_user()}
            plan = tune(graph, tuned_on, target, tell=progress, **options)
        return Variant(label, graph, plan, build(plan))

    made = []
    for label, graph in graphs.items():
        made.append(variant(label, graph))
        tiled = any(step.winograd for step in made[-1].plan.steps)
        others = [*(["direct"] if direct and tiled else []), *(formats if graph.sparsity else ())]
        made += [variant(f"{label} {other}", graph, (other,)) for other in others]
    return made


def contest(
    variants: Sequence[Variant],
    rivals: Sequence[Rival] = (),
    *,
    device: str = "host",
    fewer_filters: Callable[[], Graph] | None = None,
    processes: PeerProcesses | None = None,
    threads: int = 1,
    rounds: int = 15,
    seed: int = 0,
    tell: Callable[[str], None] = lambda _: None,
) -> Contest:
    """Our variants beside peers, each checked against its own Graph; the first is the baseline.

    Args:
        variants: compiled for that device.
        rivals: who else takes part; their Graphs have the first variant's inputs.
        device: as `jit.devices.open_device` takes it.  An emulator counts instructions, since
            its time means nothing.
        fewer_filters: makes a smaller network that takes the same inputs, which then runs in
            the rival that proves fastest on the network as it is.
        processes: of peers; None starts them for this contest alone, each with so many `threads`.
        rounds: that count.
        seed: of the random inputs.
        tell: told what is being done, in a few words.

    Raises:
        BenchError: the emulator cannot count.
        DeviceError: the device cannot be opened, or was lost.
    """
    with ExitStack() as stack:
        session = stack.enter_context(closing(open_device(device, counting=True)))
        unit = _unit(session, device)
        ours = [(Ours if unit == "ns" else Counted)(v.artifact, session) for v in variants]
        for mine in ours:
            stack.callback(mine.executable.close)
        kept = processes or stack.enter_context(PeerProcesses(threads))
        ring = Ring(variants[0].graph, kept, seed)
        entries = [_entry(v, mine, ring) for v, mine in zip(variants, ours, strict=True)]
        entries += [ring.rival(rival) for rival in rivals]

        def joining(calls: Mapping[str, float]) -> list[Entry]:
            dense = [r.engine for r in rivals if r.label == r.engine and r.label in calls]
            if fewer_filters is None or not dense:
                return []
            best = min(dense, key=calls.__getitem__)
            return [ring.rival(Rival(best + FEWER_FILTERS, best, fewer_filters()))]

        result = compare(
            entries,
            baseline=entries[0].label,
            rounds=rounds,
            unit=unit,
            joining=joining,
            tell=tell,
        )
        right = {row.label for row in result.rows if not row.refusal}
        labels = [OURS + v.label for v in variants]
        timed = {name: o for name, o in zip(labels, ours, strict=True) if name in right}
        tell("timing our steps one by one")
        for _ in range(_STEP_TURNS):
            for mine in timed.values():
                mine.time_steps()
        steps = {label: mine.steps for label, mine in timed.items()}
        return Contest(result, steps, (session.info.description, *_notes(device, unit)))


def _unit(session: Session, device: str) -> Unit:
    if not device.startswith("qemu"):
        return "ns"
    if session.counting is not None:
        raise BenchError(f"time on an emulator means nothing, and {session.counting}")
    return "guest instructions"


def _notes(device: str, unit: Unit) -> tuple[str, ...]:
    notes = []
    if unit == "guest instructions":
        notes.append("Costs are guest instructions, not time.")
    if device not in HERE:
        notes.append("Peers are timed on this machine only.")
    return tuple(notes)


def _entry(variant: Variant, mine: Ours, ring: Ring) -> Entry:
    done, how = work(variant.plan), _how(variant.plan)
    expected = ring.answer(variant.graph)
    return Entry(OURS + variant.label, lambda: mine, ring.inputs, expected, done, how)


def work(plan: Plan) -> Work:
    """Multiply-accumulates of one run of the Plan."""
    steps = [step for step in plan.steps if step.dense_macs]
    stored = sum(stored_macs(plan, s) if s.op in CONVOLUTIONS else s.kept_macs for s in steps)
    return Work(sum(s.dense_macs for s in steps), sum(s.kept_macs for s in steps), stored)


def _how(plan: Plan) -> str:
    steps = [step for step in plan.steps if step.dense_macs]
    return steps[0].choice.reason if len(steps) == 1 else f"{len(plan.steps)} steps"
