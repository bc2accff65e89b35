"""The one place where the suite opens a device, and where a backend of someone else's plugs in.

A backend of your own is an entry point of the group `gossamer.backends`: a callable that takes a
Plan and returns an object with the interface of `conformance.check.Executable` (and, if it has
them, `close()` and the attribute `flush`, True where denormals become 0).  Its name is then a
device: `pytest --pyargs conformance --device NAME --target TARGET`.
"""

from __future__ import annotations

import contextlib
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Any

from conformance.check import Executable
from jit import executable
from jit.artifact import build
from jit.devices import open_device
from jit.session import DeviceError, Guard, Session, Timeout
from jit.target import target, target_names
from refimpl.plan import Plan

GROUP = "gossamer.backends"
LIMIT_S = 120
"""Seconds that one case may take, its reference included, before it counts as hanging."""


class Backend(ABC):
    """What runs the suite's Plans.

    name: as the user wrote it; targets: what Plans are made for unless the user says otherwise;
    pace: the share of a profile's cases that it gets, 1 where a case takes milliseconds.
    """

    name: str
    targets: tuple[str, ...]
    pace: float = 1.0

    @abstractmethod
    def lacks(self, target_name: str) -> str | None:
        """Why code for this target cannot run here, or None if it can."""

    @abstractmethod
    def executables(self, plan: Plan, level: int) -> Iterator[Executable]:
        """The plan ready to run, once for every placement of its buffers.

        Each is closed when the next is asked for. `level` is LLVM's code generation level.
        """

    @abstractmethod
    def reset(self) -> None:
        """Make sure that the next case meets a device in good health."""

    @abstractmethod
    def close(self) -> None:
        """Give the device back."""


class DeviceBackend(Backend):
    """A device of `jit.devices`; one session serves all cases until something breaks it."""

    def __init__(self, name: str):
        self.name = name
        self._session: Session | None = open_device(name)
        self.targets = _targets(name, self._session)
        # A driver's compiler takes ten times as long as LLVM does for the same kernels.
        self.pace = 0.2 if self._session.info.arch == "opencl" else 1.0

    @property
    def session(self) -> Session:
        """The open session, opened anew after `reset`."""
        if self._session is None:
            self._session = open_device(self.name)
        return self._session

    def lacks(self, target_name: str) -> str | None:
        """The architecture or the CPU features that are missing."""
        machine, info = target(target_name), self.session.info
        if machine.arch != info.arch:
            return f"{self.name} runs {info.arch}, {target_name} is {machine.arch}"
        missing = sorted(set(machine.features) - info.features)
        return f"{self.name} lacks {', '.join(missing)}" if missing else None

    def executables(self, plan: Plan, level: int) -> Iterator[Executable]:
        """With guard pages at the end of every buffer, then at the start, where there are any."""
        artifact = build(plan, level)
        for guard in self.guards:
            loaded = executable.Executable(artifact, self.session, guard=guard)
            with time_limit(self.name):
                yield loaded
            loaded.close()

    @property
    def guards(self) -> tuple[Guard, ...]:
        """Where buffers can be put against inaccessible pages."""
        return ("end", "start") if self.session.info.arch in ("x86_64", "aarch64") else ("none",)

    def reset(self) -> None:
        """Close the session; the next case opens another."""
        self.close()

    def close(self) -> None:
        """Close the session, whatever state it is in."""
        session, self._session = self._session, None
        if session is not None:
            with contextlib.suppress(DeviceError):
                session.close()


class PluggedBackend(Backend):
    """A backend that an entry point offers."""

    def __init__(self, name: str, make: Callable[[Plan], Any]):
        self.name, self._make = name, make
        self.targets = ("host",)

    def lacks(self, target_name: str) -> str | None:
        """Nothing is known of it: it may be asked for anything."""
        del target_name
        return None

    def executables(self, plan: Plan, level: int) -> Iterator[Executable]:
        """One; the level is the backend's own business."""
        del level
        made = self._make(plan)
        with time_limit(self.name):
            yield made
        if hasattr(made, "close"):
            made.close()

    def reset(self) -> None:
        """Nothing is held between cases."""

    def close(self) -> None:
        """Nothing is held between cases."""


def open_backend(name: str) -> Backend:
    """The backend of that name: an entry point's, or else a device of `jit.devices`.

    Raises:
        DeviceError: there is none, or it cannot be opened; the message says what is missing.
    """
    for point in entry_points(group=GROUP):
        if point.name == name:
            return PluggedBackend(name, point.load())
    return DeviceBackend(name)


def _targets(name: str, session: Session) -> tuple[str, ...]:
    """The targets that a device is checked with when the user names none."""
    info, (_, _, cpu) = session.info, name.partition(":")
    if cpu in target_names():
        return (cpu,)
    if info.arch == "x86_64":
        return ("x86-64-avx512", "x86-64-avx2", "x86-64-sse")
    if info.arch == "aarch64":
        return ("cortex-a76" if "dotprod" in info.features else "cortex-a53",)
    return (info.arch,)


@contextlib.contextmanager
def time_limit(name: str, seconds: float = LIMIT_S) -> Iterator[None]:
    """Raise Timeout in this thread, which must be the main one, if the block lasts longer."""

    def expire(*_: object) -> None:
        raise Timeout(f"{name}: did not return within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
