"""Compiled kernels kept on disk, so that a network seen before is ready in milliseconds.

An entry is a file named after its key: the SHA-256 of what follows, the length of a JSON header
(4 bytes, little-endian), the header (a signature) and the object code.  Entries are machine code:
they live in a folder that only this user can write, and no byte is used before its digest.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import time
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import llvmlite
import llvmlite.binding as llvm

from jit.elf_object import MAX_BYTES
from jit.files import write_whole
from jit.pipeline import Kernel
from jit.private import private_folder
from jit.program import Program
from jit.shares import extents
from jit.target import Target
from jit.typed_json import FormError, decode, encode

_DIGEST_BYTES, _LENGTH_BYTES = 32, 4
_ABANDONED_S = 3600.0  # a temporary file this old belongs to no process that still writes


@dataclass(frozen=True)
class Signature:
    """What compiled code takes, in order.

    Attributes:
        buffers: their names.
        params: names of the integers.
        loops: how many iterations each parallel loop has (`jit.shares.extents`); a begin and an
            end for each follow the parameters.
        written: the buffers that it writes; it may read what it wrote there.
    """

    buffers: tuple[str, ...]
    params: tuple[str, ...]
    loops: tuple[str, ...]
    written: tuple[str, ...]

    @classmethod
    def of(cls, program: Program) -> Signature:
        """The signature of a lowered Program."""
        return cls(
            tuple(b.name for b in program.buffers),
            tuple(p.name for p in program.params),
            extents(program),
            tuple(b.name for b in program.buffers if b.role != "read"),
        )


@dataclass(frozen=True)
class Code:
    """An emitted kernel: a relocatable object, and the signature of its one symbol."""

    data: bytes
    signature: Signature


def code_key(symbol: str, kernel: Kernel, machine: Target, optimisation: int) -> str:
    """64 hex digits of everything that the code of a kernel under that symbol depends on."""
    # Kernels and targets are frozen dataclasses of names and numbers: their repr is exact.
    parts = (
        symbol,
        repr(kernel),
        repr(machine),
        str(optimisation),
        llvmlite.__version__,
        str(llvm.llvm_version_info),
        source_digest(),
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@cache
def source_digest() -> str:
    """Of the compiler's own source: what another gossamer left is never taken for this one's."""
    whole = hashlib.sha256()
    for name, data in sorted(_sources(resources.files("jit"))):
        whole.update(f"{name}\0{len(data)}\0".encode() + data)
    return whole.hexdigest()


def _sources(folder: Traversable, prefix: str = "") -> list[tuple[str, bytes]]:
    found = []
    for entry in folder.iterdir():
        name = f"{prefix}/{entry.name}"
        if entry.name.endswith(".py"):
            found.append((name, entry.read_bytes()))
        elif entry.is_dir() and entry.name != "__pycache__":
            found += _sources(entry, name)
    return found


@dataclass(frozen=True)
class CodeCache:
    """Entries in a folder of this user's own, the least recently used dropped past `limit`."""

    folder: Path
    limit: int = 64 << 20

    @classmethod
    def of_user(cls) -> CodeCache:
        """The cache in the user's private folder.

        Raises:
            DeviceError: the folder cannot be made, or someone else could write to it.
        """
        return cls(private_folder())

    def path(self, key: str) -> Path:
        """The file of an entry."""
        return self.folder / f"code-{key}"

    def get(self, key: str) -> Code | None:
        """The entry, or None where there is none; one that is damaged is dropped."""
        path = self.path(key)
        data = _read_own(path)
        if data is None:
            return None
        code = _unpacked(data)
        with contextlib.suppress(OSError):
            path.unlink() if code is None else os.utime(path)
        return code

    def put(self, key: str, code: Code) -> None:
        """Keep an entry, if the disk lets us: a full disk costs time, not the result."""
        with contextlib.suppress(OSError):
            write_whole(self.path(key), _packed(code), mode=0o600)
            self._trim()

    def _trim(self) -> None:
        """Drop the least recently used entries past the limit, and what writers left behind."""
        now, entries = time.time(), []
        for path in self.folder.iterdir():
            info = path.lstat()
            if path.name.startswith(".code-") and now - info.st_mtime > _ABANDONED_S:
                path.unlink(missing_ok=True)
            elif path.name.startswith("code-"):
                entries.append((info.st_mtime_ns, info.st_size, path))
        total = 0
        for _, size, path in sorted(entries, reverse=True):
            total += size
            if total > self.limit:
                path.unlink(missing_ok=True)


def _read_own(path: Path) -> bytes | None:
    """The bytes of a regular file that only this user can have written."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            info = os.fstat(file.fileno())
            own = info.st_uid == os.getuid() and not stat.S_IMODE(info.st_mode) & 0o022
            fits = stat.S_ISREG(info.st_mode) and info.st_size <= MAX_BYTES
            return file.read() if own and fits else None
    except OSError:
        return None


def _packed(code: Code) -> bytes:
    header = json.dumps(encode(code.signature)).encode()
    rest = len(header).to_bytes(_LENGTH_BYTES, "little") + header + code.data
    return hashlib.sha256(rest).digest() + rest


def _unpacked(data: bytes) -> Code | None:
    digest, rest = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    if hashlib.sha256(rest).digest() != digest:
        return None
    end = _LENGTH_BYTES + int.from_bytes(rest[:_LENGTH_BYTES], "little")
    try:
        header = json.loads(rest[_LENGTH_BYTES:end])
        return Code(rest[end:], decode(Signature, header, "signature"))
    except (FormError, ValueError):
        return None
