"""The agent's session: code runs in another process, reached over two pipes.

The same messages go to a process beside this one, into an emulator and over a network shell; only
the command differs.  A crash in called code ends that call alone.
"""

from __future__ import annotations

import math
import signal
import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jit import agent_pipe as pipe
from jit.agent_pipe import AgentPipe, Faulted, Silent
from jit.cpu_features import aarch64_features, x86_features
from jit.session import (
    MAX_ARGS,
    CallResult,
    Crash,
    DeviceError,
    DeviceInfo,
    DeviceLost,
    MachineSession,
    Timeout,
)
from jit.team import FUTEX, Team, TeamPlace
from jit.walker import LINE, team_image, work_image

PROTOCOL_VERSION = 2
# version, machine, cores, page; CPU words; kHz, millidegrees; address of its system call
_INFO = struct.Struct("<4I8Q2qQ")
# function; runs, warmup, count, limit in seconds; arguments; members, follow, dismiss of a team
_CALL = struct.Struct("<Q4I6Q3Q")
_MACHINES = {183: "aarch64", 62: "x86_64"}
_GRACE_S = 5.0  # the agent ends itself this long after a call's limit, should we be gone by then
_EMPTY = memoryview(b"")
_SI_KERNEL = 0x80  # the processor did not say which address faulted


@dataclass(frozen=True)
class Condition:
    """How a device is doing now; None where it does not tell.

    Attributes:
        clock_khz: frequency of its first core, in kHz.
        celsius: temperature of its first thermal zone.
    """

    clock_khz: int | None
    celsius: float | None


class AgentSession(MachineSession):
    """A session in the process that `argv` starts, which must be an agent or lead to one.

    Args:
        argv: the command; no shell is involved.
        arch: the architecture its agent must be of.
        name: what messages call the device.
        label: what `info.description` says it is.
        no_counting: why instructions cannot be counted there, None when they can.

    Raises:
        DeviceError: the command cannot be started, or its agent is of another architecture or
            version.
        DeviceLost: it ended or stayed silent.
    """

    def __init__(
        self,
        argv: Sequence[str],
        arch: str,
        *,
        name: str,
        label: str,
        no_counting: str | None,
    ) -> None:
        self._pipe = AgentPipe(argv, name)
        self._no_counting = no_counting
        self._teams: dict[int, TeamPlace] = {}  # by their lead
        try:
            body = self._pipe.ask(pipe.INFO, reply_bytes=_INFO.size)[1]
            super().__init__(name, _device_info(body, arch, name, label))
            self._system_call = _INFO.unpack(body)[-1]
        except BaseException:
            self._pipe.kill()
            raise

    @property
    def counting(self) -> str | None:
        """Why `call(count=True)` is not possible here, or None when it is."""
        return self._no_counting

    @property
    def pid(self) -> int:
        """The process id of the agent, or of what leads to it."""
        return self._pipe.pid

    def condition(self) -> Condition:
        """Clock and temperature as they are now."""
        self._check_open()
        *_, khz, millidegrees, _ = _INFO.unpack(self._ask(pipe.INFO, reply_bytes=_INFO.size)[1])
        celsius = millidegrees / 1000 if millidegrees >= 0 else None
        return Condition(khz if khz >= 0 else None, celsius)

    def team(self, place: TeamPlace) -> AgentTeam:
        """Threads of the agent's, which live as long as each call."""
        self._teams[place.lead] = place
        image = team_image(place.members, self._system_call, FUTEX[self.info.arch])
        return AgentTeam(self, place, image, lambda: self._teams.pop(place.lead, None))

    def _map(self, nbytes: int) -> tuple[int, int]:
        address, size = self._ask(pipe.ALLOC, nbytes, reply_bytes=8)
        return address, int.from_bytes(size, "little")

    def _unmap(self, mapping: int) -> None:
        self._ask(pipe.FREE, mapping)

    def _seal(self, mapping: int) -> None:
        self._ask(pipe.EXEC, mapping)

    def _write(self, address: int, data: memoryview) -> None:
        self._ask(pipe.WRITE, address, payload=data)

    def _read(self, address: int, nbytes: int) -> bytes:
        return self._ask(pipe.READ, address, nbytes, reply_bytes=nbytes)[1]

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
        words = [*args, *[0] * (MAX_ARGS - len(args))]
        alarm_s = min(math.ceil(limit_s + _GRACE_S), 2**31)
        team = self._teams.get(address)
        beside = (team.members, team.follow, team.dismiss) if team else (0, 0, 0)
        if team and count:
            raise DeviceError(
                f"{self.name} counts the instructions of one thread; plan with threads=1"
            )
        body = _CALL.pack(address, runs, warmup, count, alarm_s, *words, *beside)
        where = self.where(address)
        try:
            counted, times = self._ask(
                pipe.CALL, payload=memoryview(body), reply_bytes=8 * runs, patience_s=limit_s
            )
        except Silent as error:
            raise Timeout(
                f"{self.name}: {where} did not return within {limit_s:g} s; its process was "
                "killed, open the device again"
            ) from error
        except Faulted as fault:
            raise self._crash(fault.body) from None
        return CallResult(struct.unpack(f"<{runs}Q", times), counted if count else None)

    def _crash(self, body: bytes) -> Crash:
        number, code, address, pc = pipe.FAULT.unpack(body)
        name = signal.Signals(number).name if number in list(signal.Signals) else f"signal {number}"
        told = name in ("SIGSEGV", "SIGBUS") and code != _SI_KERNEL
        return Crash(self.name, name, address if told else None, pc, self.where(pc))

    def _ask(
        self,
        op: int,
        a: int = 0,
        b: int = 0,
        *,
        payload: memoryview = _EMPTY,
        reply_bytes: int = 0,
        patience_s: float = pipe.PATIENCE_S,
    ) -> tuple[int, bytes]:
        """One exchange; whatever leaves the stream out of step also ends the session."""
        try:
            return self._pipe.ask(
                op, a, b, payload=payload, reply_bytes=reply_bytes, patience_s=patience_s
            )
        except (DeviceLost, KeyboardInterrupt):
            self.close()
            raise

    def _release(self) -> None:
        self._pipe.close()


class AgentTeam(Team):
    """A team in the agent's process; calls from several threads are made one after another."""

    def __init__(
        self, session: AgentSession, place: TeamPlace, image: bytes, forget: Callable[[], object]
    ) -> None:
        self._session, self._place, self._image = session, place, image
        self._forget = forget
        self._turn = threading.Lock()

    def call(self, parts: Sequence[tuple[int, int]], **options: Any) -> CallResult:
        """Have every member walk its part of a table, as `MachineSession.call` does."""
        with self._turn:
            # Whole, for a call that crashed left members where they were.
            self._session.write(self._place.memory, self._image[: 4 * LINE] + work_image(parts))
            return self._session.call(self._place.lead, (self._place.memory,), **options)

    def close(self) -> None:
        """Have the session forget it: no thread outlives its call."""
        self._forget()


def _device_info(body: bytes, arch: str, name: str, label: str) -> DeviceInfo:
    """What the agent said of its machine, checked."""
    version, machine, cores, page, *words, _khz, _millidegrees, _ = _INFO.unpack(body)
    found = _MACHINES.get(machine)
    if version != PROTOCOL_VERSION or found != arch:
        raise DeviceError(
            f"{name}: its agent speaks version {version} on {found or machine}; expected version "
            f"{PROTOCOL_VERSION} on {arch}"
        )
    if not 1 <= cores <= 1 << 16 or page not in (1 << 12, 1 << 14, 1 << 16):
        raise DeviceError(f"{name}: its agent claims {cores} cores and pages of {page} bytes")
    if arch == "aarch64":
        features = aarch64_features(words[0], words[1])
    else:
        features = x86_features(words[:7])
    return DeviceInfo(arch, features, cores, page, label)
