"""The agent: one small static executable per architecture that runs emitted code elsewhere.

`agent.c` is its source and the description of its protocol; `python -m jit.arm64.agent.build`
makes the executables that ship here.  A wheel keeps no file modes, so what runs is a copy in a
private folder, its digest verified each time.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources
from pathlib import Path

from jit.private import private_file
from jit.session import DeviceError

ARCHITECTURES = ("aarch64", "x86_64")
DIGESTS = "agents.sha256"
"""The file of digests, in the format of sha256sum."""


def digest_of(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


@cache
def agent_bytes(arch: str) -> bytes:
    """The agent's executable, as shipped and verified.

    Raises:
        DeviceError: it is missing or damaged.
    """
    folder = resources.files("jit.arm64.agent")
    try:
        data = (folder / f"agent-{arch}").read_bytes()
        lines = (folder / DIGESTS).read_text().splitlines()
    except FileNotFoundError as error:
        raise DeviceError(f"agent-{arch} is missing; reinstall gossamer") from error
    digests = {name: digest for digest, name in (line.split() for line in lines)}
    if digests.get(f"agent-{arch}") != digest_of(data):
        raise DeviceError(f"agent-{arch} is not the one that was shipped; reinstall gossamer")
    return data


def agent_path(arch: str) -> Path:
    """An executable copy of the agent in this user's private folder.

    Raises:
        DeviceError: no agent exists for `arch`, it is damaged, or the folder cannot be used.
    """
    if arch not in ARCHITECTURES:
        raise DeviceError(f"no agent is built for {arch}, only for {', '.join(ARCHITECTURES)}")
    data = agent_bytes(arch)
    return private_file(f"agent-{arch}-{digest_of(data)[:16]}", data)
