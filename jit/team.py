"""Threads of this process that walk the tables of one network together.

The caller's thread leads; the others follow in compiled code (`jit.walker`), where they spin for
some tens of microseconds between parts of the work and sleep in the kernel after that.  They start
with the first call and end when the team is closed, or the session.
"""

from __future__ import annotations

import ctypes
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jit.session import CallResult, MachineSession
from jit.walker import LINE, team_image, work_image

FUTEX = {"x86_64": 202, "aarch64": 98}
"""Linux's number of the system call."""


@dataclass(frozen=True)
class TeamPlace:
    """Where a team is on its device: its memory, and the addresses of what its threads run.

    Attributes:
        members: threads, the leader among them.
        memory: `jit.walker.team_bytes(members)` bytes.
        lead, follow, dismiss: the functions of `jit.walker`.
    """

    members: int
    memory: int
    lead: int
    follow: int
    dismiss: int


class Team(ABC):
    """Threads of a device that walk the tables of one network together."""

    @abstractmethod
    def call(self, parts: Sequence[tuple[int, int]], **options: Any) -> CallResult:
        """Have every member walk its part of a table, (address, rows).

        Args:
            parts: for each member, the leader's first.
            options: as `MachineSession.call` takes them; raises what it raises.
        """

    @abstractmethod
    def close(self) -> None:
        """End the threads; closing twice is harmless."""


class Crew:
    """The threads that follow; it knows addresses only, so that it can outlive the session's use.

    Args:
        place: the team's memory and code, in this process.
        arch: whose numbers of system calls are right here.
    """

    def __init__(self, place: TeamPlace, arch: str) -> None:
        syscall = ctypes.cast(ctypes.CDLL(None).syscall, ctypes.c_void_p).value
        self._image = team_image(place.members, syscall or 0, FUTEX[arch])
        self._place = place
        self._threads: list[threading.Thread] = []
        self._process = 0  # where the threads are: a forked copy of this process has none

    @property
    def ready(self) -> bool:
        """Whether the threads run, in this process."""
        return self._process == os.getpid()

    def start(self) -> None:
        """Start the threads; nobody has arrived anywhere."""
        ctypes.memmove(self._place.memory, self._image, len(self._image))
        function = ctypes.CFUNCTYPE(None, ctypes.c_uint64, ctypes.c_uint64)(self._place.follow)
        self._threads = [
            threading.Thread(target=function, args=(self._place.memory, member), daemon=True)
            for member in range(1, self._place.members)
        ]
        for thread in self._threads:
            thread.start()
        self._process = os.getpid()

    def stop(self) -> None:
        """Let the threads return and wait until they have; without threads, nothing."""
        if self.ready:
            self._process = 0
            ctypes.CFUNCTYPE(None, ctypes.c_uint64)(self._place.dismiss)(self._place.memory)
            for thread in self._threads:
                thread.join()


class HostTeam(Team):
    """A team in this process; calls from several threads are made one after another."""

    def __init__(self, session: MachineSession, place: TeamPlace, crew: Crew) -> None:
        self._session, self._place, self._crew = session, place, crew
        self._turn = threading.Lock()

    def call(self, parts: Sequence[tuple[int, int]], **options: Any) -> CallResult:
        """Have every member walk its part of a table, as `MachineSession.call` does."""
        if not self._crew.ready:
            self._turn = threading.Lock()  # after a fork, the old one may be held by nobody
            self._crew.start()
        with self._turn:
            self._session.write(self._place.memory + 4 * LINE, work_image(parts))
            return self._session.call(self._place.lead, (self._place.memory,), **options)

    def close(self) -> None:
        """End the threads; closing twice is harmless."""
        self._crew.stop()
