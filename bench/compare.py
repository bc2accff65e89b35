"""The driver: contestants side by side in one run, checked before they are timed.

Every contestant first computes the output of its own inputs; only one that is right is timed.
Then come a warm-up round and the rounds that count.  In each round every contestant has its turn,
the first one changing from round to round: some calls to warm caches and clock, then as many
timed calls as fill a twentieth of a second.  A speed-up is the quotient of two medians of the same
round; its median and spread over all rounds are reported.  Contestants that wait do not run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import ceil, floor, log10
from typing import Any, Literal, Protocol, Self

import numpy as np
from rich.box import SIMPLE
from rich.table import Table

from bench.errors import BenchError
from bench.peers import PeerError

Unit = Literal["ns", "guest instructions"]

TOLERANCE = 1e-4
"""Largest error of an output, relative to its largest value, that a time is believed with."""

_WARM_NS = 10e6  # a core's clock settles within about this
_TIMED_NS = 50e6
_MOST_CALLS = 1000
_SPREAD = (10, 50, 90)


class Contestant(Protocol):
    """Something that runs a network: a compiled one of ours, or a peer."""

    def output(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """Run on the inputs, which stay there to be measured on."""
        ...

    def measure(self, calls: int, warmup: int) -> tuple[float, ...]:
        """What each of `calls` runs costs, after `warmup` more that do not count."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


@dataclass(frozen=True)
class Work:
    """Multiply-accumulates of one run: of the dense network, kept by masks, and performed.

    `stored` counts explicit zeros and padding rows too; for a peer it is the dense count.
    """

    dense: int
    kept: int
    stored: int


@dataclass(frozen=True)
class Entry:
    """A contestant to be opened, what it is given, and what it must answer (float64)."""

    label: str
    open: Callable[[], Contestant]
    inputs: tuple[np.ndarray, ...]
    expected: tuple[np.ndarray, ...]
    work: Work
    how: str = ""


@dataclass(frozen=True)
class Row:
    """What came of one contestant.

    Attributes:
        label: what it is called.
        how: how it computes, in a few words: a schedule, a version.
        work: of one run.
        error: largest error relative to the output's largest value; None if it did not answer.
        rounds: the cost of every call, by round, in the comparison's unit.
        refusal: why there are no costs, "" where there are.
    """

    label: str
    how: str
    work: Work
    error: float | None = None
    rounds: tuple[tuple[float, ...], ...] = ()
    refusal: str = ""

    def cost(self, q: float) -> float:
        """The q-th percentile of the cost of a call."""
        return float(np.percentile([call for calls in self.rounds for call in calls], q))


@dataclass(frozen=True)
class Comparison:
    """Contestants measured in one run."""

    unit: Unit
    baseline: str
    rows: tuple[Row, ...]

    def row(self, label: str) -> Row:
        """The row of that contestant. Raises KeyError if there is none."""
        return {row.label: row for row in self.rows}[label]

    def speedup(self, label: str, over: str, q: float = 50) -> float | None:
        """How many times cheaper a call is than one of `over`, q-th percentile over the rounds.

        None where one of them was refused.
        """
        mine, theirs = self.row(label), self.row(over)
        if not (mine.rounds and theirs.rounds):
            return None
        pairs = zip(theirs.rounds, mine.rounds, strict=True)
        return float(np.percentile([np.median(b) / np.median(a) for b, a in pairs], q))

    def table(self, title: str = "", notes: Sequence[str] = ()) -> Table:
        """For people: 80 columns wide; what does not fit a row is said below it."""
        timed = self.unit == "ns"
        table = Table(
            title=title or None,
            box=SIMPLE,
            title_justify="left",
            caption_justify="left",
            padding=(0, 1, 0, 0),
            min_width=78,
        )
        table.add_column("contestant", no_wrap=True)
        spread = ("p10-p90",) if timed else ()
        costs = ("ms", *spread, "GFLOP/s") if timed else ("Minstr",)
        for name in (*costs, "speed-up", *spread, "error"):
            table.add_column(name, justify="right", no_wrap=True)
        for row in self.rows:
            table.add_row(*(self._cells(row, timed)))
        lines = [f"speed-up is over {self.baseline}, error relative to the largest output"]
        lines += ["GFLOP/s count kept multiply-accumulates"] if timed else []
        table.caption = "\n".join([*lines, *(_said(row) for row in self.rows), *notes])
        return table

    def _cells(self, row: Row, timed: bool) -> list[str]:
        error = "-" if row.error is None else f"{row.error:.0e}"
        if not row.rounds:
            return [row.label, *["-"] * (5 if timed else 2), error]
        low, middle, high = (_figures(row.cost(q) / 1e6) for q in _SPREAD)
        cells = [row.label, middle]
        if timed:
            cells += [f"{low}-{high}", f"{2 * row.work.kept / row.cost(50):.1f}"]
        found = [self.speedup(row.label, self.baseline, q) for q in _SPREAD]
        low, middle, high = ("-" if value is None else f"{value:.2f}" for value in found)
        return [*cells, middle, *([f"{low}-{high}"] if timed else []), error]

    def json(self) -> dict[str, Any]:
        """For machines: plain values; costs in `unit`, percentiles by name."""
        return {
            "unit": self.unit,
            "baseline": self.baseline,
            "contestants": [self._row_json(row) for row in self.rows],
        }

    def _row_json(self, row: Row) -> dict[str, Any]:
        cost = {f"p{q}": row.cost(q) for q in _SPREAD} if row.rounds else None
        speedup = {f"p{q}": self.speedup(row.label, self.baseline, q) for q in _SPREAD}
        return {
            "label": row.label,
            "how": row.how,
            "refusal": row.refusal or None,
            "error": row.error,
            "macs": {"dense": row.work.dense, "kept": row.work.kept, "performed": row.work.stored},
            "calls": sum(map(len, row.rounds)),
            "cost": cost,
            "speedup": speedup if speedup["p50"] is not None else None,
        }


def _figures(value: float) -> str:
    """A positive number to three figures, without an exponent."""
    return f"{value:.{max(0, 2 - floor(log10(value)))}f}"


def _said(row: Row) -> str:
    """What the caption of a table says of a contestant."""
    if row.refusal:
        return f"{row.label}: NOT MEASURED: {row.refusal.removeprefix(row.label + ': ')}"
    kept, performed = (f"{count / 1e6:.1f}" for count in (row.work.kept, row.work.stored))
    more = f" kept, {performed} performed" if performed != kept else ""
    return f"{row.label}: {kept} MMAC{more}; {row.how}"


def compare(
    entries: Sequence[Entry], *, baseline: str, rounds: int = 15, unit: Unit = "ns"
) -> Comparison:
    """Check and measure the contestants against each other.

    A contestant that is missing, wrong or dies is a row that says so; the others go on.
    Instructions are counted once: they do not vary.

    Args:
        entries: in the order of the table; labels differ.
        baseline: the label that speed-ups are relative to.
        rounds: that count, after the warm-up round.
        unit: of the costs.

    Raises:
        BenchError: no entry is the baseline, two have one label, or `rounds` is below 1.
    """
    labels = [entry.label for entry in entries]
    if len(set(labels)) != len(labels) or baseline not in labels or rounds < 1:
        raise BenchError(f"cannot compare {labels} with {baseline!r} in {rounds} rounds")
    with ExitStack() as stack:
        field = [_enter(stack, entry) for entry in entries]
        if unit == "ns":
            _race(field, rounds)
        else:
            for runner in field:
                runner.measure(1, 0)
        return Comparison(unit, baseline, tuple(runner.finished() for runner in field))


class _Runner:
    """One contestant and its row as it grows."""

    def __init__(self, row: Row, contestant: Contestant | None) -> None:
        self.row, self.contestant = row, contestant
        self.calls = self.warmup = 1

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
        """From the warm-up round: how many calls a turn has. Its costs are forgotten."""
        if self.row.rounds:
            call = self.row.cost(50)
            self.calls = min(max(1, round(_TIMED_NS / call)), _MOST_CALLS)
            self.warmup = min(ceil(_WARM_NS / call), _MOST_CALLS)
            self.row = replace(self.row, rounds=())

    def finished(self) -> Row:
        return replace(self.row, rounds=()) if self.row.refusal else self.row


def _race(field: list[_Runner], rounds: int) -> None:
    for runner in field:
        runner.measure(3, 1)
    for runner in field:
        runner.calibrate()
    for turn in range(rounds):
        first = turn % len(field)
        for runner in field[first:] + field[:first]:
            runner.measure(runner.calls, runner.warmup)


def _enter(stack: ExitStack, entry: Entry) -> _Runner:
    """Open a contestant and hold its output to what is expected."""
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
