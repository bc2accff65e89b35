"""A place where code runs, and everything that may be asked of it.

A `Session` is an open device.  A `MachineSession` is one that runs machine code: it owns memory and
placed code in this process, in a process beside it, in an emulator or on a board.  What differs
between those is how a region of memory is had, written, read and made executable, and how a call
is made; what a user may rely on (guard pages, bounds that are checked, crashes that name the code)
is decided here, once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

import numpy as np

from jit.linker import Blob

if TYPE_CHECKING:
    from jit.team import Team, TeamPlace

GUARD_BYTES = 1 << 16
"""Inaccessible bytes before and after every region: one page where pages are largest."""
MAX_ARGS = 6
"""Arguments that both calling conventions pass in registers."""
MAX_BYTES = 1 << 46
"""Bytes of one buffer; no address space of today holds more."""
MAX_RUNS = 1 << 16
"""Timed runs of one call; the agent keeps one time for each."""

Guard = Literal["none", "end", "start"]
Data = bytes | bytearray | memoryview | np.ndarray


class DeviceError(RuntimeError):
    """A device could not do what was asked; the message names the device and the way out."""


class DeviceLost(DeviceError):
    """The device is gone: its process ended, its pipe broke, or the session was closed."""


class Timeout(DeviceError):
    """A call did not return in time; the session ended with it."""


class Crash(DeviceError):
    """Called code ended in a signal.  The session goes on; what the code wrote is still there.

    Attributes:
        signal: name of the signal, such as "SIGSEGV".
        address: the address that faulted, None where the processor does not tell.
        pc: address of the instruction.
        where: "symbol+0x1c" for a pc in code this session loaded, else None.
    """

    def __init__(self, device: str, signal: str, address: int | None, pc: int, where: str | None):
        at = f" touching address {address:#x}" if address is not None else ""
        place = where or "outside all loaded code"
        super().__init__(f"{device}: called code ended in {signal} at {place} (pc {pc:#x}){at}")
        self.signal, self.address, self.pc, self.where = signal, address, pc, where


@dataclass(frozen=True)
class DeviceInfo:
    """What a device is.

    Attributes:
        arch: "aarch64", "x86_64" or "opencl": what code for it is written in.
        features: names, as in `jit.target`, of what code may use there.
        cores: processors this session may run on.
        page_bytes: size of a memory page; the alignment of buffers on an OpenCL device.
        description: one line for people.
    """

    arch: str
    features: frozenset[str]
    cores: int
    page_bytes: int
    description: str


@dataclass(frozen=True)
class CallResult:
    """What a call cost.

    Attributes:
        nanoseconds: duration of every timed run, in order.
        instructions: guest instructions of the last run, None when they were not asked for.
    """

    nanoseconds: tuple[int, ...]
    instructions: int | None = None


@dataclass(frozen=True)
class _Region:
    """One buffer or one placed blob: its bytes, and the mapping it lies in."""

    address: int
    nbytes: int
    mapping: int
    blob: Blob | None = None

    def holds(self, address: int, nbytes: int) -> bool:
        return self.address <= address and address + nbytes <= self.address + self.nbytes


class Session(ABC):
    """An open device; a context manager that closes itself.

    Whatever is asked of it raises `DeviceLost` once it is closed.
    """

    def __init__(self, name: str, info: DeviceInfo) -> None:
        self.name = name
        self.info = info
        self._closed = False

    @property
    def counting(self) -> str | None:
        """Why instructions cannot be counted here, or None when they can."""
        return f"{self.name} cannot count instructions; a qemu device opened with counting=True can"

    def close(self) -> None:
        """End the session and give back all it holds; closing twice is harmless."""
        if not self._closed:
            self._closed = True
            self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise DeviceLost(f"{self.name}: the session has ended; open the device again")

    def _check_call(self, runs: int, warmup: int, count: bool, timeout_s: float) -> None:
        """Raise DeviceError unless a call with these options is possible here."""
        if not (1 <= runs <= MAX_RUNS and 0 <= warmup <= MAX_RUNS and timeout_s > 0):
            raise DeviceError(
                f"{self.name}: runs {runs}, warmup {warmup}, timeout {timeout_s} s; runs are 1 to "
                f"{MAX_RUNS}, warmups 0 to {MAX_RUNS}, and a timeout is positive"
            )
        if count and self.counting is not None:
            raise DeviceError(self.counting)

    @abstractmethod
    def _release(self) -> None:
        """Give back everything; called once."""


class MachineSession(Session):
    """Memory, placed code and calls on one device that runs machine code.

    Addresses are the device's own.
    """

    def __init__(self, name: str, info: DeviceInfo) -> None:
        super().__init__(name, info)
        self._regions: dict[int, _Region] = {}

    def close(self) -> None:
        """End the session and give back all it holds; closing twice is harmless."""
        super().close()
        self._regions.clear()

    def load(self, blob: Blob) -> int:
        """Place code in memory that is executable and not writable; return its address.

        The address of a function is that of the blob plus its offset in `blob.symbols`.

        Raises:
            DeviceError: the code is for another architecture, or memory is short.
        """
        self._check_open()
        if blob.arch != self.info.arch:
            raise DeviceError(f"{self.name} runs {self.info.arch} code, this is for {blob.arch}")
        mapping, _ = self._map(len(blob.code))
        self._regions[mapping] = _Region(mapping, len(blob.code), mapping, blob)
        try:
            self._write(mapping, memoryview(blob.placed(mapping)))
            self._seal(mapping)
        except DeviceError:
            self.free(mapping)
            raise
        return mapping

    def alloc(self, nbytes: int, *, guard: Guard = "none", align: int = 64) -> int:
        """Reserve zeroed, writable memory and return its address.

        Args:
            nbytes: size in bytes, at least 1.
            guard: "end" puts the last byte as close to the inaccessible page behind it as `align`
                allows, "start" puts the first byte right behind the inaccessible page before it.
                "none" promises neither.
            align: the address is a multiple of it; a power of two, at most the page size.

        Raises:
            DeviceError: an impossible request, or memory is short.
        """
        self._check_open()
        legal = align >= 1 and not align & (align - 1) and align <= self.info.page_bytes
        if not (legal and 1 <= nbytes <= MAX_BYTES):
            raise DeviceError(
                f"{self.name}: cannot reserve {nbytes} bytes aligned to {align}; sizes are 1 to "
                f"{MAX_BYTES}, alignments are powers of two up to {self.info.page_bytes}"
            )
        mapping, size = self._map(nbytes)
        address = (mapping + size - nbytes) & -align if guard == "end" else mapping
        self._regions[address] = _Region(address, nbytes, mapping)
        return address

    def free(self, address: int) -> None:
        """Give back what `alloc` or `load` returned."""
        self._check_open()
        region = self._regions.pop(address, None)
        if region is None:
            raise DeviceError(f"{self.name}: nothing was reserved at {address:#x}")
        self._unmap(region.mapping)

    def write(self, address: int, data: Data) -> None:
        """Copy contiguous bytes (bytes, a NumPy array, ...) into a buffer of this session.

        Raises:
            DeviceError: the range is not inside one buffer, or the data is not contiguous.
        """
        view = data.data if isinstance(data, np.ndarray) else memoryview(data)
        if not view.c_contiguous:
            raise DeviceError(f"{self.name}: only contiguous data can be written")
        if not view.nbytes:
            return
        flat = view.cast("B")
        if self._inside(address, flat.nbytes).blob is not None:
            raise DeviceError(f"{self.name}: {address:#x} holds code, which is never writable")
        self._write(address, flat)

    def read(self, address: int, nbytes: int) -> bytes:
        """Copy bytes out of a buffer, or out of placed code.

        Raises:
            DeviceError: the range is not inside one region of this session.
        """
        self._inside(address, nbytes)
        return self._read(address, nbytes) if nbytes else b""

    def call(
        self,
        address: int,
        args: Sequence[int],
        *,
        runs: int = 1,
        warmup: int = 0,
        count: bool = False,
        timeout_s: float = 60.0,
    ) -> CallResult:
        """Call a function `void f(...)` of loaded code, `warmup` times untimed, `runs` times timed.

        Args:
            address: the function's.
            args: up to 6 integers or addresses, each of 64 bits.
            runs: timed runs, 1 to 65536.
            warmup: runs before them, 0 to 65536.
            count: also count guest instructions (see `counting`).
            timeout_s: seconds the whole call may take.

        Raises:
            Crash: the code ended in a signal; the session goes on.
            Timeout: it did not return; the session has ended.
            DeviceLost: the device went away.
            DeviceError: the arguments are out of range, or counting is not possible.
        """
        if self._inside(address, 1).blob is None:
            raise DeviceError(f"{self.name}: {address:#x} is in a buffer, not in loaded code")
        if len(args) > MAX_ARGS or not all(-(2**63) <= arg < 2**64 for arg in args):
            raise DeviceError(f"{self.name}: a call takes at most {MAX_ARGS} arguments of 64 bits")
        self._check_call(runs, warmup, count, timeout_s)
        words = [arg % 2**64 for arg in args]
        return self._call(address, words, runs=runs, warmup=warmup, count=count, limit_s=timeout_s)

    def where(self, pc: int) -> str | None:
        """The loaded symbol that an address lies in, as "name+0x1c"; None outside loaded code."""
        for region in self._regions.values():
            if region.blob is not None and region.holds(pc, 1):
                return _nearest(region.blob.symbols, pc - region.address)
        return None

    def _inside(self, address: int, nbytes: int) -> _Region:
        self._check_open()
        exact = self._regions.get(address)
        for region in (exact,) if exact else self._regions.values():
            if nbytes >= 0 and region.holds(address, nbytes):
                return region
        raise DeviceError(
            f"{self.name}: {nbytes} bytes at {address:#x} do not lie inside one region of its own"
        )

    @abstractmethod
    def team(self, place: TeamPlace) -> Team:
        """Threads that walk tables together; they end with the session at the latest."""

    @abstractmethod
    def _map(self, nbytes: int) -> tuple[int, int]:
        """Zeroed pages with guards on both sides: their address and size."""

    @abstractmethod
    def _unmap(self, mapping: int) -> None:
        """Give back what `_map` returned."""

    @abstractmethod
    def _seal(self, mapping: int) -> None:
        """Make a mapping executable and read-only, with the instruction cache in step."""

    @abstractmethod
    def _write(self, address: int, data: memoryview) -> None:
        """Copy bytes (a flat view) to memory that is known to be writable."""

    @abstractmethod
    def _read(self, address: int, nbytes: int) -> bytes:
        """Copy bytes out of memory that is known to be there."""

    @abstractmethod
    def _call(
        self,
        address: int,
        args: Sequence[int],
        *,
        runs: int,
        warmup: int,
        count: bool,
        limit_s: float,
    ) -> CallResult:
        """Make a call whose arguments have been checked."""


def _nearest(symbols: Mapping[str, int], offset: int) -> str:
    before = [(start, name) for name, start in symbols.items() if start <= offset]
    start, name = max(before, default=(0, "code"))
    return f"{name}+{offset - start:#x}"
