"""Ratios that are to be reached, beside what was measured.

An aim compares one contestant with another of the same run.  A speed is to be at least its limit,
a time at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rich.table import Table

from bench.comparison import SPREAD, Comparison
from bench.rivals import FEWER_FILTERS, fastest
from bench.tables import plain_table

FASTEST = "the fastest peer"
"""In place of a label: whoever of the peers is fastest on the dense network."""
FEWER = "a peer with fewer filters"
"""In place of a label: the peer that runs a filter-pruned network."""


@dataclass(frozen=True)
class Aim:
    """`ours` over `theirs`, by label; theirs may be `FASTEST` or `FEWER`; a limit if one is set."""

    ours: str
    theirs: str
    limit: float | None = None
    of: Literal["speed", "time"] = "speed"
    stretch: bool = False


@dataclass(frozen=True)
class Finding:
    """What came of an aim: the median ratio over the rounds, its spread, and whether it is met.

    Attributes:
        subject: the network or layer.
        promise: who over whom, in words.
        ratio, low, high: None where one of them was not measured.
        aim: the limit in words, "" where there is none.
        met: None where there is no ratio or no limit.
    """

    subject: str
    promise: str
    ratio: float | None
    low: float | None
    high: float | None
    aim: str
    met: bool | None


def find(subject: str, aim: Aim, comparison: Comparison) -> Finding:
    """Hold an aim against a comparison; a contestant that was not measured leaves no ratio."""
    theirs = _label(aim.theirs, comparison)
    promise = f"{aim.ours} / {theirs or aim.theirs}, {aim.of}"
    first, second = (theirs, aim.ours) if aim.of == "time" else (aim.ours, theirs)
    ratios: list[float | None] = [None] * len(SPREAD)
    if first is not None and second is not None:
        ratios = [comparison.speedup(first, second, q) for q in SPREAD]
    low, ratio, high = ratios
    met = None
    if ratio is not None and aim.limit is not None:
        met = ratio >= aim.limit if aim.of == "speed" else ratio <= aim.limit
    return Finding(subject, promise, ratio, low, high, _words(aim), met)


def _label(name: str, comparison: Comparison) -> str | None:
    """The contestant that a name stands for, None if there is none."""
    labels = [row.label for row in comparison.rows]
    if name == FASTEST:
        return fastest(comparison)
    if name == FEWER:
        return next((label for label in labels if label.endswith(FEWER_FILTERS)), None)
    return name if name in labels else None


def _words(aim: Aim) -> str:
    if aim.limit is None:
        return ""
    side = "at least" if aim.of == "speed" else "at most"
    return f"{side} {aim.limit:.3g}" + (" (stretch)" if aim.stretch else "")


def aims_table(findings: Sequence[Finding], title: str = "aims") -> Table:
    """For people: each ratio beside its aim, met or not."""
    table = plain_table(title, "of", "promise", "median", "p10-p90", "aim", "", left=2)
    for f in findings:
        middle = "not measured" if f.ratio is None else f"{f.ratio:.2f}"
        spread = "" if f.low is None or f.high is None else f"{f.low:.2f}-{f.high:.2f}"
        verdict = {True: "met", False: "NOT MET", None: ""}[f.met]
        table.add_row(f.subject, f.promise, middle, spread, f.aim, verdict)
    return table


def aims_json(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """For machines."""
    return [asdict(finding) for finding in findings]
