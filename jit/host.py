"""The host: code runs in this very process, at full speed and without a net.

Memory comes from mmap, calls go through ctypes and release the interpreter lock.  A crash in
called code ends this process and a call that never returns is never interrupted: what is not
trusted runs on "host-isolated", the agent in a process of its own.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import time
import weakref
from collections.abc import Sequence
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np

from jit.cpu_features import X86_NAMES, aarch64_features
from jit.session import (
    GUARD_BYTES,
    CallResult,
    DeviceError,
    DeviceInfo,
    MachineSession,
)
from jit.team import Crew, HostTeam, TeamPlace

_PROT_NONE, _PROT_READ, _PROT_WRITE, _PROT_EXEC = 0, 1, 2, 4
_MAP_PRIVATE_ANONYMOUS = 0x02 | 0x20
_MAP_FAILED = 2**64 - 1
_MADV_HUGEPAGE = 14
_HUGE_BYTES = 1 << 21
_AT_HWCAP, _AT_HWCAP2 = 16, 26


class HostSession(MachineSession):
    """Memory, code and calls inside this process (Linux on x86-64 or aarch64).

    `timeout_s` of a call is not enforced and a crash is not caught: see the module's text.

    Raises:
        DeviceError: on any other system.
    """

    def __init__(self) -> None:
        self._mapped: dict[int, tuple[int, int]] = {}  # first usable byte: all of the mapping
        self._crews: list[Crew] = []
        super().__init__("host", _host_info())
        self._libc = _libc()
        # Not at exit: a thread may still be in called code, and the system takes memory back.
        weakref.finalize(self, _end, self._libc, self._mapped, self._crews).atexit = False

    def view(self, address: int, nbytes: int) -> np.ndarray:
        """The memory itself as uint8[nbytes], no copy; not to be used after `free` or `close`.

        It keeps the session from being collected.

        Raises:
            DeviceError: the range is not inside one buffer, or holds code.
        """
        if self._inside(address, nbytes).blob is not None:
            raise DeviceError(f"host: {address:#x} holds code, which is never writable")
        memory = (ctypes.c_uint8 * nbytes).from_address(address)
        memory.session = self  # pyright: ignore[reportAttributeAccessIssue]
        return np.ctypeslib.as_array(memory)

    def team(self, place: TeamPlace) -> HostTeam:
        """Threads of this process, which start with the first call."""
        self._crews.append(Crew(place, self.info.arch))
        return HostTeam(self, place, self._crews[-1])

    def _map(self, nbytes: int) -> tuple[int, int]:
        page = self.info.page_bytes
        size = -(-nbytes // page) * page
        slack = _HUGE_BYTES if size >= _HUGE_BYTES else 0  # huge pages need an aligned start
        whole = size + slack + 2 * GUARD_BYTES
        protection = _PROT_READ | _PROT_WRITE
        start = self._libc.mmap(None, whole, protection, _MAP_PRIVATE_ANONYMOUS, -1, 0)
        if start == _MAP_FAILED:
            raise self._refusal(f"reserve {nbytes} bytes")
        base = start + GUARD_BYTES
        if slack:
            base = -(-base // _HUGE_BYTES) * _HUGE_BYTES
        self._mapped[base] = (start, whole)
        self._protect(start, base - start, _PROT_NONE)
        self._protect(base + size, start + whole - base - size, _PROT_NONE)
        if slack:
            self._libc.madvise(base, size, _MADV_HUGEPAGE)  # advice: kernels without it refuse
        return base, size

    def _unmap(self, mapping: int) -> None:
        start, whole = self._mapped.pop(mapping)
        if self._libc.munmap(start, whole):
            raise self._refusal(f"give back {whole} bytes")

    def _seal(self, mapping: int) -> None:
        nbytes = self._regions[mapping].nbytes
        self._protect(mapping, nbytes, _PROT_READ | _PROT_EXEC)
        if self.info.arch == "aarch64":
            clear = ctypes.CDLL("libgcc_s.so.1").__clear_cache
            clear(ctypes.c_void_p(mapping), ctypes.c_void_p(mapping + nbytes))

    def _write(self, address: int, data: memoryview) -> None:
        source = np.frombuffer(data, np.uint8)
        ctypes.memmove(address, source.ctypes.data, source.size)

    def _read(self, address: int, nbytes: int) -> bytes:
        return ctypes.string_at(address, nbytes)

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
        del count, limit_s  # counting was refused before; nothing interrupts code in this process
        function = ctypes.CFUNCTYPE(None, *[ctypes.c_uint64] * len(args))(address)
        words = [ctypes.c_uint64(arg) for arg in args]  # converted once, outside the timed part
        for _ in range(warmup):
            function(*words)
        clock, times = time.perf_counter_ns, []
        for _ in range(runs):
            begin = clock()
            function(*words)
            times.append(clock() - begin)
        return CallResult(tuple(times))

    def _release(self) -> None:
        _end(self._libc, self._mapped, self._crews)

    def _protect(self, address: int, nbytes: int, protection: int) -> None:
        if self._libc.mprotect(address, nbytes, protection):
            raise self._refusal(f"set the protection of {nbytes} bytes")

    def _refusal(self, what: str) -> DeviceError:
        return DeviceError(f"host: the system refused to {what}: {os.strerror(ctypes.get_errno())}")


def host_arch() -> str:
    """The architecture of this machine, "x86_64" or "aarch64".

    Raises:
        DeviceError: emitted code cannot run here: another system or another processor.
    """
    machine = platform.machine()
    if sys.platform != "linux" or machine not in ("x86_64", "aarch64"):
        raise DeviceError(
            f"host: this is {sys.platform} on {machine}; emitted code runs on Linux on x86-64 and "
            "aarch64, elsewhere use a device such as qemu:cortex-a76"
        )
    return machine


def _end(libc: ctypes.CDLL, mapped: dict[int, tuple[int, int]], crews: list[Crew]) -> None:
    """End the threads, then give back the memory that they wait in."""
    while crews:
        crews.pop().stop()
    for start, whole in mapped.values():
        libc.munmap(start, whole)
    mapped.clear()


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    word, number = ctypes.c_size_t, ctypes.c_int
    libc.mmap.argtypes = [ctypes.c_void_p, word, number, number, number, ctypes.c_long]
    libc.mmap.restype = word
    libc.mprotect.argtypes = [word, word, number]
    libc.madvise.argtypes = [word, word, number]
    libc.munmap.argtypes = [word, word]
    libc.getauxval.argtypes = [ctypes.c_ulong]
    libc.getauxval.restype = ctypes.c_ulong
    return libc


def _host_info() -> DeviceInfo:
    arch = host_arch()
    return DeviceInfo(
        arch,
        _host_features(arch),
        len(os.sched_getaffinity(0)),
        os.sysconf("SC_PAGE_SIZE"),
        f"this {arch} host ({_model_name() or llvm.get_host_cpu_name()})",
    )


def _host_features(arch: str) -> frozenset[str]:
    """LLVM asks CPUID itself; on aarch64 the kernel's words are the better authority."""
    if arch == "aarch64":
        libc = _libc()
        return aarch64_features(libc.getauxval(_AT_HWCAP), libc.getauxval(_AT_HWCAP2))
    known = llvm.get_host_cpu_features()
    return frozenset(name for name in X86_NAMES if known.get(name))


def _model_name() -> str:
    for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return ""
