"""Planted faults: the suite must catch mistakes of the kind that people make."""

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from conformance import primitives
from conformance.backend import DeviceBackend
from conformance.faults import FAULTS, Fault, planted
from conformance.strategies import (
    Case,
    cases,
    compared_cases,
    conv_layers,
    patterned_layers,
    tiled_cases,
    tiled_layers,
)
from conformance.suite import PROFILES, Suite
from conformance.test_layers import FAMILIES
from jit.session import DeviceError
from jit.target import llvm_target

COMPARED = (compared_cases(st.one_of(conv_layers(), patterned_layers())), 100)
"""Layers from CSR and FKW, and without optimisations, and how many of them."""
TILED = (tiled_cases(tiled_layers()), 80)
"""Layers by Winograd, and how many of them."""


def drawn(structures: SearchStrategy[Case], examples: int) -> list[Case]:
    """As many cases as the quick profile draws."""
    found: list[Case] = []

    @settings(max_examples=examples, database=None, phases=[Phase.generate],
              deadline=None, suppress_health_check=list(HealthCheck))  # fmt: skip
    @seed(1)
    @given(structures)
    def collect(case: Case) -> None:
        found.append(case)

    collect()
    return found


@pytest.fixture(scope="module")
def pool() -> list[Case]:
    """Cases of every family in turn."""
    families = [(cases(structures()), examples) for structures, examples in FAMILIES.values()]
    rows = itertools.zip_longest(*(drawn(*family) for family in (*families, COMPARED, TILED)))
    return [case for row in rows for case in row if case is not None]


@pytest.fixture(scope="module", params=["host-isolated", "qemu:cortex-a76"])
def suite(request):
    try:
        backend = DeviceBackend(request.param)
    except DeviceError as error:
        pytest.skip(str(error))
    yield Suite(backend, PROFILES["quick"])
    backend.close()


def target_of(suite: Suite) -> str:
    return next(t for t in suite.backend.targets if suite.backend.lacks(t) is None)


def how_caught(fault: Fault, suite: Suite, pool: list[Case]) -> str | None:
    """What noticed the fault: how many cases it took, or the compiler's own checks."""
    name = target_of(suite)
    with planted(fault):
        if fault.subtle:
            found = primitives.faults(suite.backend.session, llvm_target(name), 0, 200)
            return f"a primitive by itself: {found[0]}"[:100] if found else None
        for i, case in enumerate(pool):
            try:
                suite.check(case, name)
            except AssertionError:
                return f"case {i + 1}"
            except Exception as error:
                return f"the compiler refused case {i + 1}: {type(error).__name__} {error}"[:150]
    return None


# On x86 columns come one by one, so there is no lane to confuse.
ONLY_ARM = {"a run's columns all use lane 0"}


def caught_all(faults: Sequence[Fault], suite: Suite, pool: list[Case]) -> tuple[list[str], bool]:
    """(a line for each fault, whether each was caught)."""
    reports, whole = [], True
    for fault in faults:
        if fault.name in ONLY_ARM and target_of(suite).startswith("x86"):
            continue
        how = how_caught(fault, suite, pool)
        reports.append(f"  {fault.name}: {how or 'MISSED'}")
        whole = whole and how is not None
    return reports, whole


@pytest.mark.slow
@pytest.mark.parametrize("suite", ["host-isolated"], indirect=True)
def test_the_suite_catches_some_planted_faults(suite, pool):
    reports, whole = caught_all(FAULTS[::6], suite, pool)
    assert whole, "\n".join(reports)


@pytest.mark.exhaustive
def test_the_suite_catches_every_planted_fault(suite, pool, capsys):
    reports, whole = caught_all(FAULTS, suite, pool)
    with capsys.disabled():
        caught = sum(not line.endswith("MISSED") for line in reports)
        print(f"\n{suite.backend.name}: {caught} of {len(reports)} planted faults caught")
        print("\n".join(reports))
    assert whole


def test_without_a_fault_the_same_cases_pass(suite, pool):
    for case in pool[:60]:
        suite.check(case, target_of(suite))


@pytest.mark.exhaustive
def test_without_a_fault_all_cases_pass(suite, pool):
    """Or else a case that never passes would count as having noticed the fault."""
    for case in pool[60:]:
        suite.check(case, target_of(suite))
