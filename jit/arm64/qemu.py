"""Emulated aarch64 cores: QEMU's user mode with the agent in it.

An emulated core has exactly the instructions of its model, so code that uses one it lacks ends in
SIGILL here as it would there.  Times mean nothing; instruction counts are exact and repeat.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from importlib import resources
from pathlib import Path

from jit.agent import AgentSession
from jit.arm64.agent import agent_path
from jit.linker import Blob
from jit.private import private_file, private_folder
from jit.session import DeviceError, MachineSession

_HOW = "apt-get install qemu-user"

_SAME = {
    "generic": "cortex-a53",
    "cortex-a73": "cortex-a72",
    "cortex-a55": "cortex-a76",
    "cortex-a75": "cortex-a76",
    "cortex-a76ae": "cortex-a76",
    "cortex-a77": "cortex-a76",
    "cortex-a78": "cortex-a76",
    "cortex-x1": "cortex-a76",
    "neoverse-e1": "neoverse-n1",
}
"""LLVM's CPUs that a QEMU may lack, and the model whose user-level instructions are the same."""

_MORE = {
    **dict.fromkeys(("cortex-a510", "cortex-a710", "cortex-a715", "cortex-a720"), "max,sve128=on"),
    **dict.fromkeys(("cortex-x2", "cortex-x3", "cortex-x4"), "max,sve128=on"),
    **dict.fromkeys(("neoverse-n2", "neoverse-v2"), "max,sve128=on"),
    "neoverse-v1": "max,sve256=on",
    **dict.fromkeys(("apple-m1", "apple-m2", "apple-m3"), "max,sve=off"),
}
"""CPUs that only a model with more instructions than theirs can stand in for."""

_RETURN = Blob("aarch64", (0xD65F03C0).to_bytes(4, "little"), {"ret": 0})


def open_qemu(cpu: str | None, counting: bool) -> MachineSession:
    """A session on an emulated core.

    Args:
        cpu: LLVM's or QEMU's name of it; None is QEMU's "max", which has every instruction.
        counting: run under the plugin that counts instructions, where that is possible.

    Raises:
        DeviceError: QEMU is missing, or does not know the CPU.
    """
    program, version = _find("qemu-aarch64-static", "qemu-aarch64")
    model = _model(program, cpu or "max")
    if not counting:
        return _session(
            program, version, cpu, model, (), f"qemu:{cpu or 'max'} was opened without counting"
        )
    try:
        return _counting_session(cpu, model)
    except DeviceError as error:
        return _session(program, version, cpu, model, (), f"instructions are not counted: {error}")


def _counting_session(cpu: str | None, model: str) -> AgentSession:
    """A session under the plugin, tried out: a lone return is one instruction."""
    program, version = _find("qemu-aarch64")
    plugin = str(_plugin(version)).replace(",", ",,")
    session = _session(program, version, cpu, model, ("-plugin", plugin), None)
    try:
        counted = session.call(session.load(_RETURN), [], count=True).instructions
        if counted != 1:
            raise DeviceError(f"{program} counted {counted} instructions where there is 1")
    except BaseException:
        session.close()
        raise
    return session


def _session(
    program: str,
    version: str,
    cpu: str | None,
    model: str,
    options: tuple[str, ...],
    no_counting: str | None,
) -> AgentSession:
    core = cpu or "max"
    label = f"emulated {core} (QEMU {version}"
    if core in _MORE and model == _MORE[core]:
        label += f', its model "{model}": an instruction that {core} lacks is not caught'
    elif core != model:
        label += f', its model "{model}", which has the same instructions'
    return AgentSession(
        [program, "-cpu", model, *options, str(agent_path("aarch64"))],
        "aarch64",
        name=f"qemu:{core}",
        label=label + ")",
        no_counting=no_counting,
    )


def _find(*programs: str) -> tuple[str, str]:
    """The first of these programs that is installed, and its version."""
    for name in programs:
        path = shutil.which(name)
        if path is not None:
            said = _output(path, "--version")
            found = re.search(r"version (\d+\.\d+\.\d+)", said)
            if found is None:
                raise DeviceError(f"{path} does not tell its version: {said[:200]!r}")
            return path, found[1]
    raise DeviceError(f"{' or '.join(programs)} is not installed: {_HOW}")


def _model(program: str, cpu: str) -> str:
    """What to tell QEMU's -cpu for a CPU's name."""
    known = frozenset(re.findall(r"^ +(\S+)", _output(program, "-cpu", "help"), re.MULTILINE))
    candidates = (cpu, _SAME.get(cpu, cpu), _MORE.get(cpu, cpu))
    for model in candidates:
        if model.partition(",")[0] in known and "," not in cpu:
            return model
    reachable = sorted(known | {name for name, model in _SAME.items() if model in known} | {*_MORE})
    raise DeviceError(f"{program} cannot emulate {cpu!r}; it can {', '.join(reachable)}")


@functools.cache
def _output(*command: str) -> str:
    """What a program prints; QEMU exits with 1 after some answers, so exit codes say nothing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        raise DeviceError(f"{' '.join(command)} failed: {error}") from error
    return done.stdout


def _interface(version: str) -> str:
    """The plugin interface a QEMU accepts: 1 up to version 8, and from 9 on 2 and later ones."""
    return "1" if int(version.split(".")[0]) < 9 else "2"


def _plugin(version: str) -> Path:
    """The counting plugin, compiled at first use for this QEMU's plugin interface."""
    source = (resources.files("jit.arm64") / "count_plugin.c").read_bytes()
    interface = _interface(version)
    digest = hashlib.sha256(source + interface.encode() + os.uname().machine.encode()).hexdigest()
    path = private_folder() / f"count-{digest[:16]}.so"
    if path.exists():
        return path
    compiler = shutil.which("cc")
    if compiler is None:
        raise DeviceError("the counting plugin needs a C compiler: apt-get install gcc")
    with tempfile.TemporaryDirectory() as folder:
        built, text = Path(folder, "count.so"), Path(folder, "count.c")
        text.write_bytes(source)
        command = [compiler, "-O2", "-shared", "-fPIC", f"-DPLUGIN_VERSION={interface}"]
        done = subprocess.run(
            [*command, "-o", str(built), str(text)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise DeviceError(f"{compiler} cannot build the counting plugin: {done.stderr[-500:]}")
        return private_file(path.name, built.read_bytes())
