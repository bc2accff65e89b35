"""What compiled networks do on a device: how many clips are right, what they cost, how true."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial

import numpy as np

from bench.compare import Comparison, Entry, compare
from bench.contest import Ours, work
from bench.peers import open_peer
from conformance.check import check_plan
from gossamer.demo.results import DENSE, Spread
from jit.artifact import Artifact
from jit.executable import Executable
from jit.session import Session
from refimpl.graph import Graph, evaluate
from refimpl.plan import Plan

TORCH_LAYOUTS = {"torch": "default layout", "torch-channels-last": "channels_last_3d"}
"""The peers of the latency comparison, and what is said of them."""


@contextmanager
def loaded(artifacts: Mapping[str, Artifact], session: Session) -> Iterator[dict[str, Executable]]:
    """The networks on one device, by name; their memory there is freed at the end."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(Executable(artifact, session))
            for name, artifact in artifacts.items()
        }


def predict(executable: Executable, frames: np.ndarray, tick: Callable[[], None]) -> np.ndarray:
    """The class of every clip, int64 (n,), one inference each; `tick` is called after each."""
    named = np.empty(len(frames), np.int64)
    for i in range(len(frames)):
        (logits,) = executable(frames[i : i + 1])
        named[i] = logits[0].argmax()
        tick()
    return named


def layer_instructions(executable: Executable, clip: np.ndarray) -> dict[str, int]:
    """Guest instructions of one inference by the steps' labels, on a session that counts."""
    labels = step_labels(executable.plan)
    return {labels[step]: count for step, count in executable.instructions(clip).items()}


def step_labels(plan: Plan) -> dict[str, str]:
    """What people know the steps by, by the steps' names."""
    return {step.name: step.label for step in plan.steps}


def race(
    graphs: Mapping[str, Graph],
    artifacts: Mapping[str, Artifact],
    session: Session,
    clip: np.ndarray,
    rounds: int,
) -> tuple[Comparison, dict[str, dict[str, float]]]:
    """Latency on this machine, one thread: ours and torch's of each network, in turns.

    Torch runs in processes of its own, which sleep while the others are measured.  The rows are
    called "ours dense", "torch dense", "torch-channels-last dense" and so on.

    Returns:
        The comparison, and of ours the median microseconds of every step by itself: by network,
        then by the step's label.
    """
    with ExitStack() as stack:
        ours = {name: Ours(artifact, session) for name, artifact in artifacts.items()}
        for contestant in ours.values():
            stack.callback(contestant.executable.close)
        entries = [
            entry for name in graphs for entry in _entries(name, graphs[name], ours[name], clip)
        ]
        comparison = compare(entries, baseline=f"ours {DENSE}", rounds=rounds)
        for _ in range(rounds):
            for contestant in ours.values():
                contestant.time_steps()
        return comparison, {name: _step_times(contestant) for name, contestant in ours.items()}


def _entries(name: str, graph: Graph, ours: Ours, clip: np.ndarray) -> Iterator[Entry]:
    """The contestants that run one network."""
    expected = evaluate(graph, clip, fast=True)
    amount = work(ours.executable.plan)
    yield Entry(f"ours {name}", lambda: ours, (clip,), expected, amount)
    for peer in TORCH_LAYOUTS:
        start = partial(open_peer, peer, graph)
        yield Entry(f"{peer} {name}", start, (clip,), expected, amount)


def _step_times(ours: Ours) -> dict[str, float]:
    labels = step_labels(ours.executable.plan)
    return {labels[step]: float(np.median(times)) / 1e3 for step, times in ours.steps.items()}


def spread_ms(comparison: Comparison, label: str) -> Spread | None:
    """Latency of a contestant in milliseconds; None if it could not be measured."""
    row = comparison.row(label)
    if not row.rounds:
        return None
    low, middle, high = (row.cost(q) / 1e6 for q in (10, 50, 90))
    return low, middle, high


def check(executable: Executable, clip: np.ndarray) -> tuple[float, list[str]]:
    """Hold every layer to the reference: the largest share of its error bound, what is wrong."""
    report = check_plan(executable.plan, executable, (clip,))
    faults = [f"{step.label}: {fault}" for step in report.steps for fault in step.faults]
    return report.share, faults
