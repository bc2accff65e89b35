"""What came of a comparison: costs and ratios of every contestant, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, log10
from typing import Any, Literal

import numpy as np
from rich.table import Table

from bench.tables import plain_table

Unit = Literal["ns", "guest instructions"]

SPREAD = (10, 50, 90)
"""The percentiles that a cost or a ratio is reported with."""


@dataclass(frozen=True)
class Work:
    """Multiply-accumulates of one run: of the dense network, kept by masks, and performed.

    `stored` counts explicit zeros and padding rows too; for a peer it is the dense count, or the
    kept one if it skips zeros.
    """

    dense: int
    kept: int
    stored: int


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
        spread = ("p10-p90",) if timed else ()
        costs = ("ms", *spread, "GFLOP/s") if timed else ("Minstr",)
        table = plain_table(title, "contestant", *costs, "speed-up", *spread, "error")
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
        low, middle, high = (figures(row.cost(q) / 1e6) for q in SPREAD)
        cells = [row.label, middle]
        if timed:
            cells += [f"{low}-{high}", f"{2 * row.work.kept / row.cost(50):.1f}"]
        found = [self.speedup(row.label, self.baseline, q) for q in SPREAD]
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
        cost = {f"p{q}": row.cost(q) for q in SPREAD} if row.rounds else None
        speedup = {f"p{q}": self.speedup(row.label, self.baseline, q) for q in SPREAD}
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


def figures(value: float) -> str:
    """A positive number to three figures, without an exponent."""
    return f"{value:.{max(0, 2 - floor(log10(value)))}f}"


def _said(row: Row) -> str:
    """What the caption of a table says of a contestant."""
    if row.refusal:
        return f"{row.label}: NOT MEASURED: {row.refusal.removeprefix(row.label + ': ')}"
    kept, performed = (f"{count / 1e6:.1f}" for count in (row.work.kept, row.work.stored))
    more = f" kept, {performed} performed" if performed != kept else ""
    return f"{row.label}: {kept} MMAC{more}; {row.how}"
