"""Check a Plan on a device, step by step, against what it means and a proven error bound.

Every step is judged on the input that the backend itself gave it, so an error is found where it
is made and never blamed on what came before.  Besides the values, every step must leave its halo
zero and every value that is still needed as it was.  The arena and the outputs begin as NaN, so
what a kernel fails to write shows.  The error of the whole network is reported, not judged.

At this level an explicit zero stored in a tile is a weight like any other: an infinity under it
gives NaN, in the reference too.  That pruned weights are absent is a matter of Graph and Plan,
which `decisions` compares.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from jit.primitives import PRIMITIVES
from jit.session import DeviceError
from jit.target import target
from refimpl import graph as graphs
from refimpl.bounds import Arithmetic, bounded_step
from refimpl.graph import Graph
from refimpl.plan import Plan, Step, evaluate, lifetimes
from refimpl.text_table import columns


class Executable(Protocol):
    """What a backend makes of a Plan; `jit.executable.Executable` is one."""

    @property
    def plan(self) -> Plan:
        """The Plan that it runs."""
        ...

    def steps(self, *inputs: np.ndarray, poison: bool = False) -> Iterator[str]:
        """Run step by step, giving each step's name once it is done; `poison` the memory first."""
        ...

    def memory(self, name: str) -> np.ndarray:
        """The flat float32 memory image of a value in its place's layout."""
        ...


@dataclass(frozen=True)
class StepReport:
    """What was found of one step.

    Attributes:
        name, label, op: the step's; label is what the user calls it.
        error: the largest |computed - exact| among the elements that were judged.
        bound: the bound at that element.
        share: the largest share of its bound that any element used; infinity past a bound of 0.
        exact: how many of the `elements` had to be equal; `unjudged` may overflow in float32.
        faults: sentences; none where the step passed.
    """

    name: str
    label: str
    op: str
    error: float = 0.0
    bound: float = 0.0
    share: float = 0.0
    elements: int = 0
    exact: int = 0
    unjudged: int = 0
    faults: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """True if nothing was wrong."""
        return not self.faults


@dataclass(frozen=True)
class CheckReport:
    """What was found of a Plan on a device; `print` it.

    end_to_end: per output, the largest error of the whole network, absolute and as a share of the
    largest exact value.
    """

    plan: str
    target: str
    steps: tuple[StepReport, ...]
    end_to_end: tuple[tuple[str, float, float], ...]

    @property
    def ok(self) -> bool:
        """True if every step passed."""
        return all(step.ok for step in self.steps)

    @property
    def share(self) -> float:
        """The largest share of a bound that was used."""
        return max((step.share for step in self.steps), default=0.0)

    def json(self) -> dict[str, Any]:
        """The report as what JSON can hold."""
        steps = [{**vars(step), "faults": list(step.faults), "ok": step.ok} for step in self.steps]
        ends = [dict(zip(("output", "error", "relative"), end, strict=True))
                for end in self.end_to_end]  # fmt: skip
        whole = {"plan": self.plan, "target": self.target, "ok": self.ok, "share": self.share}
        return {**whole, "steps": steps, "end_to_end": ends}

    def __str__(self) -> str:
        head = ("step", "operation", "max error", "bound", "share", "exact", "verdict")
        lines = [f"{self.plan} for {self.target}"]
        lines += columns([head, *(_row(step) for step in self.steps)])
        lines += [f"  {step.name}: {fault}" for step in self.steps for fault in step.faults]
        for name, error, share in self.end_to_end:
            lines.append(f"end to end {name}: max error {error:.3g}, {share:.2g} of the largest")
        return "\n".join(lines)


def _row(step: StepReport) -> tuple[str, ...]:
    numbers = (f"{step.error:.3g}", f"{step.bound:.3g}", f"{step.share:.1%}")
    equal = f"{step.exact}/{step.elements}"
    name = step.name if step.label == step.name else f"{step.name} ({step.label})"
    return (name, step.op, *numbers, equal, "ok" if step.ok else "FAILED")


def arithmetic(plan: Plan, *, flush: bool = False) -> Arithmetic:
    """The float32 of the Plan's target; `flush` where the device turns denormals to 0."""
    ulps = {name: primitive.ulp for name, primitive in PRIMITIVES.items()}
    return Arithmetic(ulps, fused=target(plan.target).has("fma"), flush=flush)


def check_plan(
    plan: Plan,
    executable: Executable,
    inputs: Sequence[np.ndarray],
    machine: Arithmetic | None = None,
) -> CheckReport:
    """Run the plan step by step on `executable` and judge every step.

    Args:
        plan: what it is held to; usually `executable.plan`.
        executable: of any backend.
        inputs: as the plan takes them, float32; indices of an embedding are whole numbers.
        machine: the float32 of the device; that of the plan's target by default.

    A device that crashes, hangs or is lost fails the step that it ran: no exception is raised.
    """
    return _Check(plan, executable, machine or arithmetic(plan)).run(inputs)


class _Check:
    def __init__(self, plan: Plan, executable: Executable, machine: Arithmetic):
        self.plan, self.executable, self.machine = plan, executable, machine
        self.values: dict[str, np.ndarray] = {}
        self.images: dict[str, np.ndarray] = {}
        lives = lifetimes(plan)
        self.last = {name: lives[name][1] if name in lives else len(plan.steps)
                     for name in plan.places}  # fmt: skip

    def run(self, inputs: Sequence[np.ndarray]) -> CheckReport:
        given = [np.asarray(x, np.float32) for x in inputs]
        for name, x in zip(self.plan.inputs, given, strict=True):
            self.values[name] = x.astype(np.float64)
            place = self.plan.places[name]
            held = x.astype(np.int32).view(np.float32) if place.dtype == "i32" else x
            self.images[name] = place.layout.pack(held)
        reports = self.steps(given)
        ends = self.end_to_end(given) if all(r.ok for r in reports) else ()
        return CheckReport(self.plan.name, self.plan.target, tuple(reports), ends)

    def steps(self, inputs: list[np.ndarray]) -> list[StepReport]:
        reports: list[StepReport] = []
        running = iter(self.executable.steps(*inputs, poison=True))
        for i, step in enumerate(self.plan.steps):
            try:
                done = next(running, "nothing")
                if done != step.name:
                    raise DeviceError(f"the backend ran {done} instead")
                reports.append(self.step(i, step))
            except DeviceError as error:
                fault = f"{error} (kernels: {', '.join(self.kernels(step))})"
                reports.append(StepReport(step.name, step.label, step.op, faults=(fault,)))
                break
        return reports

    def kernels(self, step: Step) -> list[str]:
        """What the step runs, for messages about crashes."""
        launches = getattr(getattr(self.executable, "artifact", None), "launches", ())
        names = [launch.kernel.name for launch in launches if launch.step == step.name]
        return list(dict.fromkeys(names)) or ["unknown"]

    def step(self, i: int, step: Step) -> StepReport:
        place = self.plan.places[step.name]
        image = self.executable.memory(step.name)
        value = place.layout.unpack(image, place.shape).astype(np.float64)
        # A recurrence is judged time by time, each on the states that the backend itself left.
        self.values[step.name], self.images[step.name] = value, image
        exact, bound = bounded_step(self.plan, step, self.values, self.machine)
        report = judge(step, value, exact, bound)
        faults = [*report.faults, *_halo_faults(image, place.layout.halo_mask(place.shape))]
        faults += self.overwritten(i, step)
        return StepReport(**{**vars(report), "faults": tuple(faults)})

    def overwritten(self, i: int, step: Step) -> list[str]:
        """Values that are still needed and that this step changed."""
        faults = []
        for name in [n for n in self.images if self.last[n] <= i]:
            del self.images[name]
        for name, image in list(self.images.items()):
            now = image if name == step.name else self.executable.memory(name)
            if now.tobytes() != image.tobytes():
                faults.append(f"overwrites {name}, which is still needed")
                self.images[name] = now  # later steps are not to blame
        return faults

    def end_to_end(self, inputs: list[np.ndarray]) -> tuple[tuple[str, float, float], ...]:
        exact = evaluate(self.plan, *inputs)
        return tuple((name, *_distance(self.values[name], exact[name]))
                     for name in self.plan.outputs)  # fmt: skip


def judge(step: Step, value: np.ndarray, exact: np.ndarray, bound: np.ndarray) -> StepReport:
    """Hold a step's value (float64) against the exact one and the bound of every element.

    Where the exact value is not finite the value must be the same infinity, or NaN for NaN.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        same = (value == exact) | (np.isnan(value) & np.isnan(exact))
        error = np.where(same, 0.0, np.abs(value - exact))
        judged = np.isfinite(bound)
        wrong = judged & ~same & ~((error <= bound) & np.isfinite(exact))
        share = np.where(judged & ~same, error / bound, 0.0)
    share = np.where(np.isnan(share), np.inf, share)
    shown = np.where(judged, np.where(np.isnan(error), np.inf, error), 0.0)
    worst = np.unravel_index(int(shown.argmax()), shown.shape)
    return StepReport(
        step.name, step.label, step.op, float(shown[worst]), float(bound[worst]),
        float(share.max()), value.size, int((bound == 0).sum()), int((~judged).sum()),
        tuple(_value_faults(value, exact, bound, wrong)),
    )  # fmt: skip


def _value_faults(
    value: np.ndarray, exact: np.ndarray, bound: np.ndarray, wrong: np.ndarray
) -> Iterator[str]:
    if not wrong.any():
        return
    first = tuple(np.argwhere(wrong)[0].tolist())
    yield (
        f"{int(wrong.sum())} of {wrong.size} elements are wrong; the first at {first}: "
        f"{value[first]:.9g} instead of {exact[first]:.9g}, bound {bound[first]:.3g}"
    )
    unwritten = wrong & np.isnan(value)
    if unwritten.any():
        yield f"{int(unwritten.sum())} of them are NaN: never written, or read from what was not"


def _halo_faults(image: np.ndarray, mask: np.ndarray) -> Iterator[str]:
    stray = mask & (image != 0)  # NaN is not 0 either
    if stray.any():
        where = int(np.flatnonzero(stray)[0])
        yield f"{int(stray.sum())} elements of the halo are not zero, the first at {where}"


def _distance(value: np.ndarray, exact: np.ndarray) -> tuple[float, float]:
    """(largest error, that over the largest exact value), of what is finite."""
    finite = np.isfinite(value) & np.isfinite(exact)
    if not finite.any():
        return 0.0, 0.0
    error = float(np.abs(value[finite] - exact[finite]).max())
    return error, error / max(float(np.abs(exact[finite]).max()), 1e-300)


def decisions(graph: Graph, plan: Plan, inputs: Sequence[np.ndarray]) -> list[str]:
    """Where the Plan means something else than the Graph, as sentences; both in float64.

    They must agree but for float64's own rounding, so the Graph's batch norms must fold exactly
    (a scale that is a power of two) and what layers with weights read be finite, or nothing is
    said.  What else is not finite must be the same.
    """
    given = [np.asarray(x, np.float32).astype(np.float64) for x in inputs]
    meant = graphs.evaluate(graph, *given, fast=True)
    planned = evaluate(plan, *given)
    read = [planned[n] for s in plan.steps if s.weight for n in s.inputs if n in planned]
    if not all(np.isfinite(value).all() for value in read):
        return []  # a zero that fills a strip makes NaN of it; the Graph has no such weight
    faults = []
    for name, output, a in zip(graph.outputs, plan.outputs, meant, strict=True):
        b = planned[output]
        if a.shape != b.shape or not _agree(a, b):
            faults.append(f"{output}: the Plan does not compute the Graph's {name}")
    return faults


def _agree(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal but for the rounding of float64."""
    largest = float(np.abs(a[np.isfinite(a)]).max(initial=0))
    with np.errstate(invalid="ignore"):
        near = np.abs(a - b) <= 1e-9 * max(largest, 1e-300)
    return bool((near | (a == b) | (np.isnan(a) & np.isnan(b))).all())
