"""Graphs compiled by us beside the same Graphs in other engines: the contestants of a comparison."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np
from rich.table import Table

from bench.compare import Comparison, Entry, Unit, Work, compare
from bench.errors import BenchError
from bench.peers import PEERS, open_peer
from jit.artifact import Artifact, build
from jit.decide import plan as make_plan
from jit.devices import open_device
from jit.executable import Executable
from jit.session import Session
from refimpl.graph import Graph, evaluate
from refimpl.plan import Plan

HERE = ("host", "host-isolated")
"""Devices that are this machine: only on these can a peer be timed beside us."""

_STEP_TURNS, _STEP_RUNS = 3, 5

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
        steps: by label, then by the Plan's step: the median cost of the step run by itself.
        notes: what a reader of the numbers must know.
    """

    comparison: Comparison
    steps: Mapping[str, Mapping[str, float]]
    notes: tuple[str, ...]

    def shares(self, label: str) -> str:
        """Which steps the cost of one of ours is in, the five largest, in words."""
        steps = self.steps.get(label, {})
        largest = sorted(steps.items(), key=lambda item: -item[1])[:5]
        return ", ".join(f"{name} {cost / sum(steps.values()):.0%}" for name, cost in largest)

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
        steps = {label: dict(costs) for label, costs in self.steps.items()}
        return {
            "correct": self.correct, "notes": list(self.notes), "steps": steps,
            **self.comparison.json(),
        }


class Ours:
    """A compiled network on a device, as a contestant; costs in ns, or guest instructions."""

    def __init__(self, artifact: Artifact, session: Session, unit: Unit) -> None:
        self.executable = Executable(artifact, session)
        self.unit = unit

    def output(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """Run on the inputs; plain arrays in, plain arrays out."""
        return self.executable(*inputs)

    def measure(self, calls: int, warmup: int) -> tuple[float, ...]:
        """Of whole runs: conversion from and to plain arrays included, copying to a device not."""
        if self.unit == "ns":
            return tuple(map(float, self.executable.run(runs=calls, warmup=warmup).nanoseconds))
        counted = self.executable.run(count=True).instructions
        assert counted is not None
        return (float(counted),)

    def __enter__(self) -> Ours:
        return self

    def __exit__(self, *_: object) -> None:
        self.executable.close()


def target_of(device: str) -> str:
    """The target that code for a device of that name is made for, where the name says it.

    Raises:
        BenchError: it does not.
    """
    kind, _, rest = device.partition(":")
    if kind in HERE:
        return "host"
    if kind == "qemu" and rest:
        return rest
    raise BenchError(f"the device {device!r} does not say its processor; name a target as well")


def compiled(graphs: Mapping[str, Graph], target: str) -> list[Variant]:
    """Every graph planned and built for the target, by the label it has here.

    Raises:
        PlanError: a graph that cannot be compiled, by the node's name.
    """
    plans = {label: make_plan(graph, target) for label, graph in graphs.items()}
    return [Variant(label, graphs[label], p, build(p)) for label, p in plans.items()]


def contest(
    variants: Sequence[Variant],
    *,
    device: str = "host",
    peers: Sequence[str] | None = None,
    rounds: int = 15,
    seed: int = 0,
) -> Contest:
    """Our variants beside peers on the first variant's Graph, which is also the baseline.

    Args:
        variants: compiled for that device.
        device: as `jit.devices.open_device` takes it.  An emulator counts instructions, since
            its time means nothing.
        peers: of `bench.peers.PEERS`; None is all where they can be timed, else none.
        rounds: that count.
        seed: of the random inputs.

    Raises:
        BenchError: peers were asked for on a device where they cannot run, or the emulator
            cannot count.
        DeviceError: the device cannot be opened, or was lost.
    """
    if peers and device not in HERE:
        raise BenchError(f"peers run on this machine only, not on {device}; leave them out")
    if unknown := set(peers or ()) - set(PEERS):
        raise BenchError(f"no peer is called {min(unknown)!r}; known are {', '.join(PEERS)}")
    chosen = peers if peers is not None else PEERS if device in HERE else ()
    with ExitStack() as stack:
        session = stack.enter_context(closing(open_device(device, counting=True)))
        unit = _unit(session, device)
        entries = _entries(variants, session, unit, chosen, seed)
        result = compare(entries, baseline=entries[0].label, rounds=rounds, unit=unit)
        good = {row.label for row in result.rows if not row.refusal}
        steps = _steps([v for v in variants if OURS + v.label in good], entries[0].inputs,
                       session, unit)
        return Contest(result, steps, (session.info.description, *_notes(device, unit)))


def _steps(
    variants: Sequence[Variant], inputs: tuple[np.ndarray, ...], session: Session, unit: Unit
) -> dict[str, dict[str, float]]:
    """Every step's median cost by itself, the variants taking turns."""
    found: dict[str, dict[str, list[float]]] = {OURS + v.label: {} for v in variants}
    with ExitStack() as stack:
        loaded = {
            OURS + v.label: stack.enter_context(Executable(v.artifact, session)) for v in variants
        }
        for _ in range(_STEP_TURNS if unit == "ns" else 1):
            for label, executable in loaded.items():
                for step, costs in _step_costs(executable, inputs, unit):
                    found[label].setdefault(step, []).extend(costs)
    return {
        label: {step: float(np.median(costs)) for step, costs in steps.items()}
        for label, steps in found.items()
    }


def _step_costs(
    executable: Executable, inputs: tuple[np.ndarray, ...], unit: Unit
) -> Iterator[tuple[str, Sequence[float]]]:
    if unit == "ns":
        for timed in executable.profile(*inputs, runs=_STEP_RUNS, warmup=1):
            yield timed.step, timed.nanoseconds
        return
    executable(*inputs)
    for step in executable.plan.steps:
        yield step.name, (float(executable.count(step.name) or 0),)


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


def _entries(
    variants: Sequence[Variant], session: Session, unit: Unit, peers: Sequence[str], seed: int
) -> list[Entry]:
    rng = np.random.default_rng([seed, 2])
    first = variants[0].graph
    inputs = tuple(rng.standard_normal(shape).astype(np.float32) for _, shape in first.inputs)
    expected = {v.label: evaluate(v.graph, *inputs, fast=True) for v in variants}
    entries = [
        Entry(OURS + v.label, partial(Ours, v.artifact, session, unit), inputs,
              expected[v.label], work(v.plan), _how(v.plan))
        for v in variants
    ]
    dense = work(variants[0].plan).dense
    return entries + [
        Entry(name, partial(open_peer, name, first), inputs, expected[variants[0].label],
              Work(dense, work(variants[0].plan).kept, dense))
        for name in peers
    ]


def work(plan: Plan) -> Work:
    """Multiply-accumulates of one run of the Plan."""
    steps = [step for step in plan.steps if step.op == "conv"]
    stored = 0
    for step in steps:
        shape = plan.places[step.name].shape
        stored += plan.weights[step.weight].stored * shape[0] * prod(shape[2:])
    return Work(sum(s.dense_macs for s in steps), sum(s.kept_macs for s in steps), stored)


def _how(plan: Plan) -> str:
    steps = [step for step in plan.steps if step.op == "conv"]
    return steps[0].choice.reason if len(steps) == 1 else f"{len(plan.steps)} steps"
