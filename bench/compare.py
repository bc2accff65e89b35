"""The driver: contestants side by side in one run, checked before they are timed.

Every contestant first computes the output of its own inputs; only one that is right is timed.
Then come a warm-up round and the rounds that count.  In each round every contestant has its turn,
the first one changing from round to round: some calls to warm caches and clock, then as many
timed calls as fill a twentieth of a second.  A speed-up is the quotient of two medians of the same
round; its median and spread over all rounds are reported.  Contestants that wait do not run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from math import ceil
from typing import Protocol

import numpy as np

from bench.comparison import Comparison, Row, Unit, Work
from bench.errors import BenchError
from bench.peers import PeerError

__all__ = ["Comparison", "Contestant", "Entry", "Row", "Unit", "Work", "compare", "judge"]

TOLERANCE = 1e-4
"""Largest error of an output, relative to its largest value, that a time is believed with."""

_WARM_NS = 10e6  # a core's clock settles within about this
_TIMED_NS = 50e6
_PATIENT_NS = 400e6  # a call that takes longer is measured once in the warm-up
_MOST_CALLS = 1000
_HOPELESS = 20  # times the baseline


class Contestant(Protocol):
    """Something that runs a network: a compiled one of ours, or a peer."""

    def output(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """Run on the inputs, which stay there to be measured on."""
        ...

    def measure(self, calls: int, warmup: int) -> tuple[float, ...]:
        """What each of `calls` runs costs, after `warmup` more that do not count."""
        ...


@dataclass(frozen=True)
class Entry:
    """A contestant to be opened, what it is given, and what it must answer (float64)."""

    label: str
    open: Callable[[], AbstractContextManager[Contestant]]
    inputs: tuple[np.ndarray, ...]
    expected: tuple[np.ndarray, ...]
    work: Work
    how: str = ""


def compare(
    entries: Sequence[Entry],
    *,
    baseline: str,
    rounds: int = 15,
    unit: Unit = "ns",
    joining: Callable[[Mapping[str, float]], Sequence[Entry]] = lambda _: (),
    tell: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """Check and measure the contestants against each other.

    A contestant that is missing, wrong, dies or is hopelessly slow is a row that says so; the
    others go on.  Instructions are counted once: they do not vary.

    Args:
        entries: in the order of the table; labels differ.
        baseline: the label that speed-ups are relative to.
        rounds: that count, after the warm-up round.
        unit: of the costs.
        joining: given the cost of a call in the warm-up round by label, who else takes part;
            not asked where instructions are counted.
        tell: told what is being done, in a few words.

    Raises:
        BenchError: no entry is the baseline, two have one label, or `rounds` is below 1.
    """
    labels = [entry.label for entry in entries]
    if len(set(labels)) != len(labels) or baseline not in labels or rounds < 1:
        raise BenchError(f"cannot compare {labels} with {baseline!r} in {rounds} rounds")
    with ExitStack() as stack:
        field = [_enter(stack, entry, tell) for entry in entries]
        if unit == "ns":
            _warm_up(field, tell)
            known = {runner.row.label: runner.call for runner in field if runner.call}
            late = [_enter(stack, entry, tell) for entry in joining(known)]
            _warm_up(late, tell)
            field += late
            _drop_hopeless(field, baseline)
            _race(field, rounds, tell)
        else:
            for runner in field:
                runner.measure(1, 0)
        return Comparison(unit, baseline, tuple(runner.finished() for runner in field))


class _Runner:
    """One contestant and its row as it grows; `call` is the cost of a call, 0 if not known."""

    def __init__(self, row: Row, contestant: Contestant | None) -> None:
        self.row, self.contestant = row, contestant
        self.call = 0.0

    def measure(self, calls: int, warmup: int) -> None:
        if self.contestant is None or self.row.refusal:
            return
        try:
            costs = tuple(self.contestant.measure(calls, warmup))
        except PeerError as error:
            self.row = replace(self.row, refusal=str(error))
        else:
            self.row = replace(self.row, rounds=(*self.row.rounds, costs))

    def calibrate(self) -> None:
        """Learn what a call costs; what was measured for it does not count."""
        self.measure(1, 0)
        if self.row.rounds and self.row.cost(50) < _PATIENT_NS:
            self.measure(3, 1)
        if self.row.rounds:
            self.call = float(np.median(self.row.rounds[-1]))
            self.row = replace(self.row, rounds=())

    def take_turn(self) -> None:
        if self.call:
            calls = min(max(1, round(_TIMED_NS / self.call)), _MOST_CALLS)
            self.measure(calls, min(ceil(_WARM_NS / self.call), _MOST_CALLS))

    def finished(self) -> Row:
        return replace(self.row, rounds=()) if self.row.refusal else self.row


def _warm_up(field: list[_Runner], tell: Callable[[str], None]) -> None:
    for runner in field:
        tell(f"warming up {runner.row.label}")
        runner.calibrate()


def _drop_hopeless(field: list[_Runner], baseline: str) -> None:
    """Refuse who would make the rounds last for hours."""
    (base,) = (runner.call for runner in field if runner.row.label == baseline)
    for runner in field:
        slower = runner.call / base if base else 0.0
        if slower > _HOPELESS and runner.call > _TIMED_NS:
            refusal = f"a call takes {slower:.0f} times as long as that of {baseline}"
            runner.row, runner.call = replace(runner.row, refusal=refusal), 0.0


def _race(field: list[_Runner], rounds: int, tell: Callable[[str], None]) -> None:
    for turn in range(rounds):
        first = turn % len(field)
        for runner in field[first:] + field[:first]:
            tell(f"round {turn + 1} of {rounds}: {runner.row.label}")
            runner.take_turn()


def _enter(stack: ExitStack, entry: Entry, tell: Callable[[str], None]) -> _Runner:
    """Open a contestant and hold its output to what is expected."""
    tell(f"loading and checking {entry.label}")
    row = Row(entry.label, entry.how, entry.work)
    try:
        contestant = stack.enter_context(entry.open())
        outputs = contestant.output(*entry.inputs)
    except PeerError as error:
        return _Runner(replace(row, refusal=str(error)), None)
    row = replace(row, how=entry.how or getattr(contestant, "version", ""))
    error, complaint = judge(outputs, entry.expected)
    return _Runner(replace(row, error=error, refusal=complaint), contestant)


def judge(
    outputs: Sequence[np.ndarray], expected: Sequence[np.ndarray]
) -> tuple[float | None, str]:
    """(largest error relative to the largest expected value, why it is wrong or "")."""
    shapes, wanted = ([np.shape(y) for y in ys] for ys in (outputs, expected))
    if shapes != wanted:
        return None, f"wrong: outputs of shapes {shapes} instead of {wanted}"
    errors = []
    for y, reference in zip(outputs, expected, strict=True):
        scale = float(np.abs(reference).max()) or 1.0
        errors.append(np.abs(y.astype(np.float64) - reference).max() / scale)
    worst = float(np.max(errors))  # unlike max(), NaN if any is NaN
    if worst <= TOLERANCE:
        return worst, ""
    return worst, f"wrong: off by {worst:.1e} of the largest output, {TOLERANCE:g} is allowed"
