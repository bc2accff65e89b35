"""Devices by name: where code runs, as a user writes it on a command line.

- ``host``: in this process; fastest, and a crash in called code ends the process.
- ``host-isolated``: in a process of its own on this machine.
- ``qemu[:CPU]``: on an emulated aarch64 core, such as ``qemu:cortex-a76``.
- ``opencl[:N]``: on an OpenCL device; without a number, the first GPU, or else the first.
"""

from __future__ import annotations

from collections.abc import Callable

from jit.agent import AgentSession
from jit.arm64.agent import agent_path
from jit.arm64.qemu import open_qemu
from jit.host import HostSession, host_arch
from jit.opencl.runtime import open_opencl
from jit.session import DeviceError, Session
from jit.target import target_names


def open_device(name: str, *, counting: bool = False) -> Session:
    """Open a session on the device of that name.

    Args:
        name: "host", "host-isolated", "qemu", "qemu:CPU", "opencl" or "opencl:N".
        counting: ask for instruction counts; `Session.counting` says whether they can be had.
            Code runs slower where they are.

    Raises:
        DeviceError: the name is not one of these, or the device cannot be opened; the message
            says what is missing and how to get it.
    """
    kind, colon, rest = name.partition(":")
    opener = _OPENERS.get(kind)
    if opener is None or name.startswith("-") or (colon and not rest):
        raise DeviceError(f"unknown device {name!r}; known are {', '.join(DEVICE_NAMES)}")
    return opener(rest or None, counting)


def in_real_time(device: str) -> bool:
    """Whether time on the device of that name is time: an emulator's says nothing."""
    return device.partition(":")[0] != "qemu"


def target_for(device: str) -> str | None:
    """The target of code for the device of that name, None where the name does not say it."""
    kind, _, rest = device.partition(":")
    named = {"host": "host", "host-isolated": "host", "opencl": "opencl"}
    return named.get(kind, rest if rest in target_names() else None)


def _open_host(rest: str | None, counting: bool) -> Session:
    _nothing_follows("host", rest)
    del counting  # Session.counting says why not
    return HostSession()


def _open_isolated(rest: str | None, counting: bool) -> Session:
    _nothing_follows("host-isolated", rest)
    del counting  # Session.counting says why not
    arch = host_arch()
    return AgentSession(
        [str(agent_path(arch))],
        arch,
        name="host-isolated",
        label=f"this {arch} host, in a process of its own",
        no_counting="host-isolated cannot count instructions; qemu, opened with counting, can",
    )


def _nothing_follows(kind: str, rest: str | None) -> None:
    if rest is not None:
        raise DeviceError(f"{kind} takes nothing after a colon, got {rest!r}")


_OPENERS: dict[str, Callable[[str | None, bool], Session]] = {
    "host": _open_host,
    "host-isolated": _open_isolated,
    "qemu": open_qemu,
    "opencl": open_opencl,
}

DEVICE_NAMES = ("host", "host-isolated", "qemu[:CPU]", "opencl[:N]")
"""How the devices that can be opened are written."""
