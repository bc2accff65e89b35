"""Build the agents that ship with the package; `python -m jit.arm64.agent.build [--check]`.

Needs clang and ld.lld.  Users never do: the two executables and their digests lie beside this
file.  The bytes depend on the compiler's version, so the version that made them is recorded, and
`--check` compares byte for byte only where it is the same.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from jit.arm64.agent import ARCHITECTURES, DIGESTS, agent_bytes, digest_of

COMPILER = "14.0.6"
"""The version of clang and ld.lld that the shipped agents were built with (Debian 12's)."""

_FOLDER = Path(__file__).parent
_COMPILE = [
    "-std=c11",
    "-O2",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-ffreestanding",
    "-fno-pic",
    "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables",
    "-fno-ident",
]
_COMPILE_FOR = {"aarch64": ["-mno-outline-atomics"], "x86_64": []}
# 64 KiB pages: the largest an aarch64 kernel may use.
_LINK = [
    "-static",
    "-s",
    "-e",
    "_start",
    "--build-id=none",
    "-z",
    "max-page-size=65536",
    "-z",
    "noexecstack",
]


class BuildError(RuntimeError):
    """The agent could not be built, or the build differs from what is shipped."""


def unavailable() -> str | None:
    """Why the agent cannot be built here as it was built for shipping, or None when it can."""
    for tool in ("clang", "ld.lld"):
        path = shutil.which(tool)
        if path is None:
            return f"{tool} is not installed; apt-get install clang lld"
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
        found = re.search(r"(\d+\.\d+\.\d+)", said.stdout)
        if found is None or found[1] != COMPILER:
            return f"{tool} here is {found and found[1]}, the shipped agents need {COMPILER}"
    return None


def build(arch: str) -> bytes:
    """The agent's executable for "aarch64" or "x86_64".

    Raises:
        BuildError: a tool is missing or fails; the message holds what it said.
    """
    with tempfile.TemporaryDirectory() as folder:
        compiled, linked = Path(folder, "agent.o"), Path(folder, "agent")
        target = [f"--target={arch}-linux-gnu", *_COMPILE, *_COMPILE_FOR[arch]]
        _run(["clang", *target, "-c", str(_FOLDER / "agent.c"), "-o", str(compiled)])
        _run(["ld.lld", *_LINK, "-o", str(linked), str(compiled)])
        return linked.read_bytes()


def write() -> None:
    """Build both agents and their digests into the package."""
    lines = []
    for arch in ARCHITECTURES:
        data = build(arch)
        (_FOLDER / f"agent-{arch}").write_bytes(data)
        lines.append(f"{digest_of(data)}  agent-{arch}\n")
    (_FOLDER / DIGESTS).write_text("".join(lines))


def check() -> None:
    """Build both agents anew and compare them with the shipped ones.

    Raises:
        BuildError: they differ.
    """
    for arch in ARCHITECTURES:
        if build(arch) != agent_bytes(arch):
            raise BuildError(f"agent-{arch} is not what its source builds; run the build, commit")


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise BuildError(f"{command[0]} is not installed; apt-get install clang lld") from error
    except subprocess.CalledProcessError as error:
        raise BuildError(f"{command[0]} failed:\n{error.stderr}") from error


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m jit.arm64.agent.build", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with the shipped agents only")
    checking = parser.parse_args().check
    try:
        if checking and (reason := unavailable()):
            raise BuildError(f"cannot compare: {reason}")
        check() if checking else write()
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    for arch in ARCHITECTURES:
        data = agent_bytes(arch)
        print(f"{digest_of(data)}  agent-{arch}  {len(data)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
