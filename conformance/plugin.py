"""The pytest plugin: options, the device, and the summary.

    pytest --pyargs conformance --device qemu:cortex-a76
    pytest --pyargs conformance --device host-isolated --target x86-64-avx2 --cases exhaustive

It is loaded in every run of pytest where the package is installed, so nothing heavy is imported
until a test of the suite asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conformance.suite import Suite

_SUITE = pytest.StashKey["Suite"]()
_TALLY = pytest.StashKey[Any]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of the suite."""
    group = parser.getgroup("conformance", "gossamer: is fast equal to true?")
    group.addoption(
        "--device",
        default="host-isolated",
        metavar="NAME",
        help="where compiled code runs: host, host-isolated, qemu:CPU, ..., or the name of an "
        "entry point of the group gossamer.backends (default: %(default)s)",
    )
    group.addoption(
        "--target",
        action="append",
        metavar="NAME",
        help="what code is made for; may be given again (default: what suits the device)",
    )
    group.addoption(
        "--cases",
        default="quick",
        metavar="PROFILE",
        help="quick (the same cases every time), exhaustive (100 times as many, random), or a "
        "number: so many times the cases of quick, random (default: %(default)s)",
    )


def _suite(config: pytest.Config) -> Suite:
    """The suite of this run; its device is opened when it is first asked for."""
    if _SUITE not in config.stash:
        from conformance.backend import open_backend
        from conformance.suite import Suite, profile
        from jit.session import DeviceError

        try:
            device, cases = (str(config.getoption(f"--{name}")) for name in ("device", "cases"))
            config.stash[_SUITE] = Suite(open_backend(device), profile(cases))
        except (DeviceError, ValueError) as error:
            raise pytest.UsageError(str(error)) from error
    return config.stash[_SUITE]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test of the suite that takes `target_name` runs once for every target."""
    if "suite" in metafunc.fixturenames and "target_name" in metafunc.fixturenames:
        from jit.target import target_names

        given = metafunc.config.getoption("--target") or []
        unknown = sorted(set(given) - set(target_names()))
        if unknown:
            known = ", ".join(target_names())
            raise pytest.UsageError(f"unknown target {', '.join(unknown)}; known are {known}")
        targets = tuple(given) or _suite(metafunc.config).backend.targets
        metafunc.parametrize("target_name", targets)


@pytest.fixture(scope="session")
def suite(request: pytest.FixtureRequest) -> Iterator[Suite]:
    """The suite on the device of `--device`."""
    made = _suite(request.config)
    yield made
    made.backend.close()


@pytest.fixture(autouse=True)
def _runnable(request: pytest.FixtureRequest) -> None:
    """Skip what this device's CPU cannot run, and say what it lacks."""
    if "suite" in request.fixturenames and "target_name" in request.fixturenames:
        backend = request.getfixturevalue("suite").backend
        reason = backend.lacks(request.getfixturevalue("target_name"))
        if reason is not None:
            pytest.skip(reason)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """What is under test, where the suite is asked for."""
    if not any("conformance" in str(arg) for arg in config.args):
        return []
    options = ("device", "target", "cases")
    return ["conformance: " + ", ".join(f"{o} {config.getoption('--' + o)}" for o in options)]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of pytest-xdist hands its tally to the process that it works for."""
    config = session.config
    if _SUITE in config.stash and hasattr(config, "workeroutput"):
        tally = {name: dict(counts) for name, counts in vars(config.stash[_SUITE].tally).items()}
        config.workeroutput["conformance"] = tally  # pyright: ignore[reportAttributeAccessIssue]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Take over the tally of a worker that has finished."""
    del error
    seen = getattr(node, "workeroutput", {}).get("conformance")
    if seen is not None:
        from conformance.suite import Tally

        node.config.stash.setdefault(_TALLY, Tally()).merge(seen)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """How many cases ran and how much of its bound each operation used."""
    tally = config.stash.get(_TALLY, None)
    if tally is None and _SUITE in config.stash:
        tally = config.stash[_SUITE].tally
    if tally is not None and tally.cases:
        terminalreporter.section(f"conformance on {config.getoption('--device')}")
        terminalreporter.write_line(str(tally))
