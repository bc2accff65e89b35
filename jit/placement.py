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

import numpy as np

from jit.artifact import Artifact, NativeArtifact
from jit.launches import Ref, segment_of
from jit.session import CallResult, DeviceError, DeviceLost, Guard, MachineSession


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


class MachinePlacement(Placement):
    """Machine code and segments at addresses of a session, and a table for the code to walk."""

    def __init__(self, artifact: NativeArtifact, session: MachineSession, guard: Guard):
        super().__init__(artifact)
        self.artifact, self.session = artifact, session
        self._owned: list[int] = []
        self._base = session.load(artifact.blob)
        self._owned.append(self._base)
        self._starts = {name: self._alloc(size, guard) for name, size in self.sizes.items()}
        session.write(self._starts["constants"], artifact.constants)
        self._table = self._tabulate()

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
        """Have the code walk launches [begin, end) of the table."""
        walker = self._base + self.artifact.blob.symbols["run"]
        args = (self._table + 24 * begin, end - begin, 0, 1)
        return self.session.call(
            walker, args, runs=runs, warmup=warmup, count=count, timeout_s=timeout_s
        )

    def close(self) -> None:
        """Free the memory on the device; closing twice is harmless."""
        owned, self._owned = self._owned, []
        with suppress(DeviceLost):  # then its memory is gone too
            for address in reversed(owned):
                self.session.free(address)

    def _alloc(self, nbytes: int, guard: Guard = "none") -> int:
        address = self.session.alloc(max(nbytes, 4), guard=guard)
        self._owned.append(address)
        return address

    def _address(self, ref: Ref, nbytes: int = 0) -> int:
        self.check_inside(ref, nbytes)
        return self._starts[ref.segment] + ref.offset

    def _tabulate(self) -> int:
        """The launch table on the device: (kernel, buffers, params) per launch."""
        names = {kernel: symbol for symbol, kernel in self.artifact.kernels.items()}
        words: list[int] = []
        rows: list[tuple[int, int, int]] = []
        for launch in self.artifact.launches:
            symbol, refs = names[launch.kernel], dict(launch.buffers)
            takes = self.artifact.signatures[symbol]
            code = self._base + self.artifact.blob.symbols[symbol]
            rows.append((code, len(words), len(words) + len(takes.buffers)))
            words += [self._address(refs[name]) for name in takes.buffers]
            words += [launch.params[name] for name in takes.params]
        size = 24 * len(rows)
        table = self._alloc(size + 8 * len(words))
        first = table + size
        flat = [x for code, b, p in rows for x in (code, first + 8 * b, first + 8 * p)]
        self.session.write(table, struct.pack(f"<{len(flat)}Q{len(words)}q", *flat, *words))
        return table
