"""Files written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path


def write_whole(path: Path, data: bytes | memoryview, mode: int = 0o666) -> None:
    """Write a file so that whoever opens it, now or after any error, sees all of it or none.

    The bytes go to a temporary name in the same folder, which is renamed at the end and removed
    on any error, Ctrl-C included.  `mode` is subject to the process's umask.

    Raises:
        OSError: from the system, with the path asked for as its file name.
    """
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(6)}.part")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError):
            raise type(error)(error.errno, error.strerror, str(path)) from error
        raise
