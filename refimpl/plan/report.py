"""The small report of a Plan: what `print(plan)` says, and its rows for tables and JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from refimpl.text_table import columns

if TYPE_CHECKING:
    from refimpl.plan.form import Plan, Step

HEADINGS = (
    "layer",
    "how",
    "layout",
    "MACs kept",
    "of dense",
    "weights",
    "cycles",
    "measured",
    "why",
)


@dataclass(frozen=True)
class ReportRow:
    """One step: what it computes, how and why.

    `stored_as` is the type of its packed weights ("" for none), `rounding` as a Step's;
    `dense_macs` counts every weight at every position, `kept_macs` the stored ones; `weight_bytes`
    are packed values, lists and bias; `tasks` is how many threads share it, `cycles` are predicted
    for the one that takes longest, 0 where nothing was.  `seconds` were measured when the plan was
    made, of the candidates that were tried.
    """

    step: str
    layer: str
    op: str
    how: str
    shape: tuple[int, ...]
    layout: str
    dense_macs: int
    kept_macs: int
    weight_bytes: int
    stored_as: str
    rounding: float
    tasks: int
    cycles: float
    reason: str
    covers: tuple[str, ...]
    candidates: tuple[tuple[str, float], ...]
    seconds: tuple[tuple[str, float], ...]

    @property
    def cells(self) -> tuple[str, ...]:
        """The row as texts, one for each of HEADINGS."""
        share = f"{self.kept_macs / self.dense_macs:.0%}" if self.dense_macs else ""
        numbers = (self.kept_macs, share, self.weight_bytes, self.cycles)
        shown = (n if isinstance(n, str) else short(n) for n in numbers)
        taken = dict(self.seconds).get(self.how)
        time = "" if taken is None else duration(taken)
        how = f"{self.how} float16" if self.stored_as == "float16" else self.how
        return (self.layer, shared(how, self.tasks), self.layout, *shown, time, self.why)

    @property
    def why(self) -> str:
        """The reason, and what 16 bits have done to the weights."""
        rounded = f"; weights rounded by {self.rounding:.1e} of the largest"
        return self.reason + (rounded if self.stored_as == "float16" else "")


def shared(how: str, tasks: int) -> str:
    """How a step is computed, and by how many tasks where it is divided."""
    return how if tasks == 1 else f"{how}, {tasks} tasks"


def counted_threads(threads: int) -> str:
    """`1 thread`, `2 threads`."""
    return "1 thread" if threads == 1 else f"{threads} threads"


def rows(plan: Plan) -> list[ReportRow]:
    """One row for every step, in order."""
    return [_row(plan, step) for step in plan.steps]


def _row(plan: Plan, step: Step) -> ReportRow:
    place = plan.places[step.name]
    return ReportRow(
        step.name,
        step.label,
        step.op,
        step.choice.winner or step.op,
        place.shape,
        str(place.layout),
        step.dense_macs,
        step.kept_macs,
        _weight_bytes(plan, step),
        str(plan.weights[step.weight].dtype) if step.weight in plan.weights else "",
        step.rounding,
        step.tasks,
        step.choice.cycles / step.tasks,
        step.choice.reason,
        step.covers,
        step.choice.candidates,
        step.choice.seconds,
    )


def _weight_bytes(plan: Plan, step: Step) -> int:
    tiles = plan.weights.get(step.weight)
    packed = tiles.nbytes if tiles else 0
    names = {step.weight, step.bias} & plan.constants.keys()
    return packed + sum(plan.constants[name].array.nbytes for name in names)


def summary(plan: Plan) -> str:
    """Two lines: what the Plan is for, and its totals."""
    layers = [s for s in plan.steps if s.dense_macs]
    sparse = sum(s.kept_macs < s.dense_macs for s in layers)
    dense, kept = (sum(getattr(s, f"{k}_macs") for s in layers) for k in ("dense", "kept"))
    fewer = f", {dense / kept:.2f}x fewer than {short(dense)}" if 0 < kept < dense else ""
    slack = plan.arena_bytes / plan.liveness_bound if plan.liveness_bound else 1.0
    threads = counted_threads(plan.threads)
    return (
        f"plan {plan.name} for {plan.target}, {threads}: {len(plan.steps)} steps; "
        f"{sparse} of {len(layers)} layers with weights are sparse\n"
        f"{short(kept)} MACs{fewer}; {short(plan.weight_bytes)}B of weights; "
        f"arena {short(plan.arena_bytes)}B, {slack:.2f}x the liveness bound"
    )


def show(plan: Plan) -> str:
    """The report as plain text."""
    table = [HEADINGS, *(row.cells for row in rows(plan))]
    return "\n".join([summary(plan), "", *columns(table, right=range(3, 8))])


def duration(seconds: float) -> str:
    """Seconds in three digits and a unit: 0.00123 is "1.23 ms"."""
    for unit in ("s", "ms", "us"):
        if seconds >= 1:
            return f"{seconds:.3g} {unit}"
        seconds *= 1000
    return f"{seconds:.3g} ns"


def short(number: float) -> str:
    """A count in three digits and a letter: 1234567 is "1.23M"; 0 is empty."""
    if number == 0:
        return ""
    for letter in ("", "k", "M", "G"):
        if number < 999.5:
            return f"{number:.3g}{letter}"
        number /= 1000
    return f"{number:.3g}T"
