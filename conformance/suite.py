"""Hold a backend to strategies of cases, and keep count of what was seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NoReturn
from zlib import crc32

import numpy as np
from hypothesis import HealthCheck, given, seed, settings, target
from hypothesis.strategies import SearchStrategy

from conformance.backend import Backend
from conformance.build import build
from conformance.check import CheckReport, Executable, arithmetic, check_plan, decisions
from conformance.cuts import recut
from conformance.strategies import Case
from conformance.values import EXACT
from jit.decide import plan as make_plan
from jit.session import DeviceError
from refimpl.graph import Graph
from refimpl.plan import Plan, PlanError


@dataclass(frozen=True)
class Profile:
    """How many cases: `share` of what each family of tests asks for; random or the same again."""

    name: str
    share: float
    repeatable: bool


PROFILES = {"quick": Profile("quick", 1.0, True), "exhaustive": Profile("exhaustive", 100.0, False)}


def profile(text: str) -> Profile:
    """The profile of that name, or a multiple of the quick one's cases.

    Raises:
        ValueError: it is neither.
    """
    if text in PROFILES:
        return PROFILES[text]
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share < 1e6:
        known = ", ".join(PROFILES)
        raise ValueError(f"--cases {text}: neither {known} nor a positive multiple of quick's")
    return Profile(f"{text} x quick", share, False)


@dataclass
class Tally:
    """What the suite has seen, for the summary at its end."""

    cases: Counter[str] = field(default_factory=Counter)
    steps: Counter[str] = field(default_factory=Counter)
    elements: Counter[str] = field(default_factory=Counter)
    exact: Counter[str] = field(default_factory=Counter)
    unjudged: Counter[str] = field(default_factory=Counter)
    share: dict[str, float] = field(default_factory=dict)

    def add(self, report: CheckReport) -> None:
        """Count one report's steps by operation."""
        for step in report.steps:
            self.steps[step.op] += 1
            self.elements[step.op] += step.elements
            self.exact[step.op] += step.exact
            self.unjudged[step.op] += step.unjudged
            self.share[step.op] = max(step.share, self.share.get(step.op, 0.0))

    def merge(self, other: Mapping[str, Mapping[str, float]]) -> None:
        """Count what another process has seen, given as `vars` of its tally."""
        for name in ("cases", "steps", "elements", "exact", "unjudged"):
            getattr(self, name).update(other[name])
        for op, share in other["share"].items():
            self.share[op] = max(share, self.share.get(op, 0.0))

    def __str__(self) -> str:
        head = (
            f"{'operation':18}{'steps':>8}{'elements':>12}{'exact':>8}{'unjudged':>10}{'share':>8}"
        )
        lines = [f"{sum(self.cases.values())} cases ({_counts(self.cases)})", head]
        for op, steps in sorted(self.steps.items()):
            n = max(self.elements[op], 1)
            lines.append(
                f"{op:18}{steps:8}{self.elements[op]:12}{self.exact[op] / n:8.0%}"
                f"{self.unjudged[op] / n:10.1%}{self.share[op]:8.1%}"
            )
        return "\n".join(lines)


def _planned(graph: Graph, target_name: str, case: Case) -> Plan:
    """The case's Plan; where no weight can be stored as it says, of those that can."""
    if case.weights != "float32":
        with suppress(PlanError):
            return make_plan(
                graph,
                target_name,
                algorithms=case.algorithms,
                without=case.without,
                weights=case.weights,
            )
    return make_plan(graph, target_name, algorithms=case.algorithms, without=case.without)


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{n} {name}" for name, n in sorted(counter.items()))


class Suite:
    """A backend under test, how many cases it gets, and the tally."""

    def __init__(self, backend: Backend, chosen: Profile):
        self.backend, self.profile = backend, chosen
        self.tally = Tally()

    def hold(self, structures: SearchStrategy[Case], target_name: str, examples: int) -> None:
        """Draw cases and check each; AssertionError, with the smallest case, for a wrong one."""

        @settings(
            max_examples=max(1, round(examples * self.profile.share * self.backend.pace)),
            database=None if self.profile.repeatable else settings().database,
            deadline=None,
            report_multiple_bugs=False,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        )
        @given(structures)
        def holds(case: Case) -> None:
            share = self.check(case, target_name)
            target(share, label="share of the bound used")

        # Every target meets cases of its own.
        (seed(crc32(target_name.encode()))(holds) if self.profile.repeatable else holds)()

    def check(self, case: Case, target_name: str) -> float:
        """Check one case under every placement of buffers; the largest share of a bound used."""
        graph, inputs = build(case.net, case.values)
        plan = _planned(graph, target_name, case)
        if case.cut is not None:
            plan = recut(plan, case.cut)
        rounded = any(step.rounding for step in plan.steps)
        if case.values.kind in EXACT and not rounded:
            faults = decisions(graph, plan, inputs)
            assert not faults, "\n".join(faults)
        self.tally.cases[case.values.kind] += 1
        return self.run(plan, inputs, case.level)

    def run(self, plan: Plan, inputs: Sequence[np.ndarray], level: int) -> float:
        """The share of the bound that a plan used; AssertionError if anything is wrong.

        Judged is the first placement of buffers; under the others memory must come out the same.
        """
        share, expected = 0.0, None
        for executable in self.backend.executables(plan, level):
            if expected is None:
                share = self.judge(plan, executable, inputs)
                expected = self.images(plan, executable, inputs)
            elif self.images(plan, executable, inputs) != expected:
                self.fail("the result depends on where buffers lie")
        return share

    def judge(self, plan: Plan, executable: Executable, inputs: Sequence[np.ndarray]) -> float:
        """Check every step; the share of the bound used."""
        machine = arithmetic(plan, flush=getattr(executable, "flush", False))
        report = check_plan(plan, executable, inputs, machine)
        self.tally.add(report)
        if not report.ok:
            self.fail(str(report))
        return report.share

    def images(
        self, plan: Plan, executable: Executable, inputs: Sequence[np.ndarray]
    ) -> dict[str, bytes]:
        """The values, as bytes, that each step leaves in a run over poisoned memory."""
        found, running = {}, "the first step"
        try:
            for running in executable.steps(*inputs, poison=True):
                place = plan.places[running]
                value = place.layout.unpack(executable.memory(running), place.shape)
                found[running] = value.tobytes()
        except DeviceError as error:
            self.fail(f"after {running}: {error}")
        return found

    def fail(self, why: str) -> NoReturn:
        """Fail the case; the next one meets a fresh session."""
        self.backend.reset()
        raise AssertionError(why)
