"""A profile: how long every layer takes, with its spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gossamer.errors import ModelError
from jit.executable import Executable, StepTime
from refimpl.plan.report import counted_threads, shared, short
from refimpl.text_table import columns

UNSTEADY = 0.05
"""A spread (p90 - p10) / p50 past which a time is marked."""

HEADINGS = ("layer", "how", "p10 us", "p50 us", "p90 us", "share", "GMAC/s", "")


@dataclass(frozen=True)
class ProfileRow:
    """One step: microseconds at the 10th, 50th and 90th percentile, and kept MACs per run."""

    step: str
    layer: str
    how: str
    p10: float
    p50: float
    p90: float
    kept_macs: int

    @property
    def unsteady(self) -> bool:
        """True where the spread is too wide to compare by."""
        return (self.p90 - self.p10) > UNSTEADY * self.p50

    def cells(self, total: float) -> tuple[str, ...]:
        """The row as texts, one for each of HEADINGS; `total` is the sum of all p50."""
        rate = f"{self.kept_macs / self.p50 / 1000:.1f}" if self.kept_macs else ""
        times = (f"{t:.1f}" for t in (self.p10, self.p50, self.p90))
        mark = "unsteady" if self.unsteady else ""
        return (self.layer, self.how, *times, f"{self.p50 / total:.0%}", rate, mark)


@dataclass(frozen=True)
class Profile:
    """Every step in order; then the network as a whole, run in one call."""

    network: str
    device: str
    threads: int
    runs: int
    rows: tuple[ProfileRow, ...]
    whole: ProfileRow

    @property
    def summary(self) -> str:
        """One line about the whole network."""
        w = self.whole
        on = f"{self.device}, {counted_threads(self.threads)}"
        return (
            f"{self.network} on {on}: p50 {w.p50 / 1000:.3f} ms (p10 {w.p10 / 1000:.3f}, "
            f"p90 {w.p90 / 1000:.3f}) of {self.runs} runs, {short(w.kept_macs) or '0'} MACs"
        )

    @property
    def table(self) -> list[tuple[str, ...]]:
        """A row of texts for every step."""
        total = sum(row.p50 for row in self.rows)
        return [row.cells(total) for row in self.rows]

    def __str__(self) -> str:
        lines = columns([HEADINGS, *self.table], right=range(2, len(HEADINGS)))
        return "\n".join([self.summary, "", *lines])


def profile_of(executable: Executable, inputs: Sequence[np.ndarray], runs: int) -> Profile:
    """Time every step by itself, then the network as a whole.

    Raises:
        ModelError: `runs` is not at least 1.
    """
    if runs < 1:
        raise ModelError(f"a profile takes 1 run or more, not {runs}")
    plan = executable.plan
    steps = {step.name: step for step in plan.steps}
    rows = []
    for time in executable.profile(*inputs, runs=runs):
        step = steps[time.step]
        how = step.choice.winner or step.op
        rows.append(_row(step.name, step.label, shared(how, step.tasks), time, step.kept_macs))
    times = StepTime(plan.name, executable.run(runs=runs, warmup=1).nanoseconds)
    kept = sum(step.kept_macs for step in plan.steps)
    whole = _row(plan.name, plan.name, "whole", times, kept)
    return Profile(plan.name, executable.session.name, plan.threads, runs, tuple(rows), whole)


def _row(name: str, layer: str, how: str, time: StepTime, macs: int) -> ProfileRow:
    p10, p50, p90 = (time.percentile(q) for q in (10, 50, 90))
    return ProfileRow(name, layer, how, p10, p50, p90, macs)
