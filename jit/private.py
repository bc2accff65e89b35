"""The per-user folder for files that will be executed: nobody else may read, write or replace them.

It is `gossamer` in `$XDG_CACHE_HOME`, or in `~/.cache`.  Deleting it is always safe.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from jit.files import write_whole
from jit.session import DeviceError


def private_folder() -> Path:
    """The folder, made with mode 0700 when it is missing.

    Raises:
        DeviceError: it cannot be made, or someone else could write to it.
    """
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gossamer"
    except RuntimeError as error:
        raise DeviceError("this user has no home folder; set XDG_CACHE_HOME") from error
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        info = folder.lstat()
        if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid():
            raise DeviceError(f"{folder} is not a folder of this user's; set XDG_CACHE_HOME")
        if stat.S_IMODE(info.st_mode) & 0o077:
            folder.chmod(0o700)
    except OSError as error:
        raise DeviceError(f"cannot use {folder}: {error.strerror}; set XDG_CACHE_HOME") from error
    return folder


def private_file(name: str, data: bytes) -> Path:
    """An executable file of mode 0700 in the private folder that holds exactly `data`.

    Raises:
        DeviceError: it cannot be written.
    """
    path = private_folder() / name
    try:
        if _holds(path, data):
            return path
        write_whole(path, data, mode=0o700)
    except OSError as error:
        raise DeviceError(f"cannot write {path}: {error.strerror}; set XDG_CACHE_HOME") from error
    if not os.access(path, os.X_OK):
        raise DeviceError(f"{path.parent} does not let programs run; set XDG_CACHE_HOME")
    return path


def _holds(path: Path, data: bytes) -> bool:
    try:
        return path.read_bytes() == data and os.access(path, os.X_OK)
    except FileNotFoundError:
        return False
