"""Placement: an Artifact on a device.  Its code loaded, its memory reserved, its launches ready.

Memory is segments by name: `arena`, `constants`, `input:NAME`, `output:NAME`.  Devices differ in
how a segment is had and how launches are walked; both are here for devices that run machine code
and in `jit.opencl.runtime` for OpenCL.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain

import numpy as np

from jit.artifact import Artifact, NativeArtifact
from jit.cache import Signature
from jit.launches import Launch, Ref, segment_of
from jit.rounds import turns
from jit.session import (
    CallResult,
    DeviceError,
    DeviceLost,
    Guard,
    MachineSession,
)
from jit.shares import Share
from jit.team import Team, TeamPlace
from jit.walker import team_bytes


class Placement(ABC):
    """What a device holds of an Artifact, until it is closed.

    Attributes:
        sizes: bytes of every segment.
    """

    def __init__(self, artifact: Artifact):
        self.sizes: Mapping[str, int] = _segment_sizes(artifact)

    @abstractmethod
    def write(self, segment: str, data: np.ndarray) -> None:
        """Copy a contiguous array to the start of a segment."""

    @abstractmethod
    def read(self, ref: Ref, nbytes: int) -> bytes:
        """Copy bytes out of a segment."""

    @abstractmethod
    def call(
        self,
        begin: int,
        end: int,
        *,
        runs: int = 1,
        warmup: int = 0,
        count: bool = False,
        timeout_s: float = 600.0,
    ) -> CallResult:
        """Run launches [begin, end), `warmup` times untimed, `runs` times timed.

        Raises:
            Timeout: they took longer than `timeout_s`; the session has ended.
            DeviceLost: the device went away.
            DeviceError: it reported an error, or the options are not possible there.
        """

    @abstractmethod
    def close(self) -> None:
        """Free the memory on the device; closing twice is harmless."""

    def check_inside(self, ref: Ref, nbytes: int = 0) -> None:
        """Raise DeviceError unless the bytes lie inside their segment."""
        size = self.sizes[ref.segment]
        if not 0 <= ref.offset <= size - nbytes:
            raise DeviceError(
                f"{nbytes} bytes at offset {ref.offset} are outside segment "
                f"{ref.segment} ({size} bytes)"
            )


def _segment_sizes(artifact: Artifact) -> dict[str, int]:
    sizes = {"constants": len(artifact.constants), "arena": artifact.plan.arena_bytes}
    for name, place in artifact.plan.places.items():
        if place.segment in ("input", "output"):
            sizes[segment_of(name, place)] = place.nbytes
    return sizes


@dataclass(frozen=True)
class Row:
    """What a walker calls: code, and the buffers and parameters it is given the addresses of.

    `given` is passed in place of the address of the buffers: the team, to a barrier.
    """

    code: int
    given: int | None
    buffers: tuple[int, ...] = ()
    params: tuple[int, ...] = ()


@dataclass(frozen=True)
class Table:
    """Rows on the device; those of launch i begin at row starts[i]."""

    address: int
    starts: tuple[int, ...]

    def part(self, begin: int, end: int) -> tuple[int, int]:
        """(address, rows) of launches [begin, end)."""
        return self.address + 24 * self.starts[begin], self.starts[end] - self.starts[begin]


class MachinePlacement(Placement):
    """Machine code and segments at addresses of a session, and tables for the code to walk.

    A plan for several threads has a table for each, and a team that walks them; the other threads
    start with the first call and end with `close`.
    """

    def __init__(self, artifact: NativeArtifact, session: MachineSession, guard: Guard):
        super().__init__(artifact)
        self.artifact, self.session = artifact, session
        self._owned: list[int] = []
        self._base = session.load(artifact.blob)
        self._owned.append(self._base)
        self._starts = {name: self._alloc(size, guard) for name, size in self.sizes.items()}
        session.write(self._starts["constants"], artifact.constants)
        self._meeting = 0  # the team's memory
        self._team = self._gather(artifact.plan.threads)
        self._tables = self._tabulate(artifact.plan.threads)

    def write(self, segment: str, data: np.ndarray) -> None:
        """Copy a contiguous array to the start of a segment."""
        self.session.write(self._starts[segment], data)

    def read(self, ref: Ref, nbytes: int) -> bytes:
        """Copy bytes out of a segment."""
        return self.session.read(self._address(ref, nbytes), nbytes)

    def call(
        self,
        begin: int,
        end: int,
        *,
        runs: int = 1,
        warmup: int = 0,
        count: bool = False,
        timeout_s: float = 600.0,
    ) -> CallResult:
        """Have the code walk launches [begin, end) of the tables."""
        parts = [table.part(begin, end) for table in self._tables]
        options = {"runs": runs, "warmup": warmup, "count": count, "timeout_s": timeout_s}
        if self._team is None:
            return self.session.call(self._symbol("run"), parts[0], **options)
        return self._team.call(parts, **options)

    def close(self) -> None:
        """Free the memory on the device; closing twice is harmless."""
        owned, self._owned = self._owned, []
        with suppress(DeviceLost):  # then its memory is gone too
            if self._team is not None:
                self._team.close()
            for address in reversed(owned):
                self.session.free(address)

    def _alloc(self, nbytes: int, guard: Guard = "none") -> int:
        address = self.session.alloc(max(nbytes, 4), guard=guard)
        self._owned.append(address)
        return address

    def _address(self, ref: Ref, nbytes: int = 0) -> int:
        self.check_inside(ref, nbytes)
        return self._starts[ref.segment] + ref.offset

    def _symbol(self, name: str) -> int:
        return self._base + self.artifact.blob.symbols[name]

    def _gather(self, threads: int) -> Team | None:
        """The threads that walk; None for the caller's alone."""
        if threads == 1:
            return None
        self._meeting = self._alloc(team_bytes(threads))
        entries = {name: self._symbol(name) for name in ("lead", "follow", "dismiss")}
        return self.session.team(TeamPlace(threads, self._meeting, **entries))

    def _tabulate(self, threads: int) -> list[Table]:
        """A table on the device for each thread."""
        names = {kernel: symbol for symbol, kernel in self.artifact.kernels.items()}
        symbols = [names[launch.kernel] for launch in self.artifact.launches]
        takes = [self.artifact.signatures[symbol] for symbol in symbols]
        pairs = list(zip(self.artifact.launches, takes, strict=True))
        order = turns(pairs, {step.name: step.tasks for step in self.artifact.plan.steps})
        rows: list[list[Row]] = [[] for _ in range(threads)]
        starts: list[list[int]] = [[0] for _ in range(threads)]
        for (launch, signature), symbol, turn in zip(pairs, symbols, order, strict=True):
            for member, mine in enumerate(rows):
                if turn.waits:
                    mine.append(Row(self._symbol("barrier"), self._meeting))
                if member < len(turn.shares):
                    mine.append(self._row(launch, signature, symbol, turn.shares[member]))
                starts[member].append(len(mine))
        return [self._table(*both) for both in zip(rows, starts, strict=True)]

    def _row(self, launch: Launch, takes: Signature, symbol: str, share: Share) -> Row:
        refs = dict(launch.buffers)
        buffers = [self._address(refs[name]) for name in takes.buffers]
        params = [launch.params[name] for name in takes.params]
        return Row(self._symbol(symbol), None, (*buffers,), (*params, *chain.from_iterable(share)))

    def _table(self, rows: list[Row], starts: list[int]) -> Table:
        size = 24 * len(rows)
        words = [word for row in rows for word in (*row.buffers, *row.params)]
        address = self._alloc(size + 8 * len(words))
        flat, at = [], address + size
        for row in rows:
            buffers, params = at, at + 8 * len(row.buffers)
            flat += [row.code, row.given or buffers, params]
            at = params + 8 * len(row.params)
        self.session.write(address, struct.pack(f"<{len(flat)}Q{len(words)}q", *flat, *words))
        return Table(address, tuple(starts))
