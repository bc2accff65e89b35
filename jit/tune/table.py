"""Latencies on disk: the seconds of a layer's candidates, as measured on one machine.

A row belongs to a machine (its description and what its CPU can do), to the target that the code
was made for and to this very source: times of other code are worth nothing.  What has not been
asked for in months is left to whoever deletes the file, which is always safe.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import llvmlite

from jit.cache import source_digest
from jit.private import private_folder
from jit.session import DeviceInfo
from jit.target import Target

_FILE = "latencies.sqlite"
_PATIENCE_S = 10.0  # while another process writes
_TABLE = """
CREATE TABLE IF NOT EXISTS latency (
    machine TEXT NOT NULL,
    layer TEXT NOT NULL,
    candidate TEXT NOT NULL,
    seconds REAL NOT NULL CHECK (seconds > 0),
    PRIMARY KEY (machine, layer, candidate)
) WITHOUT ROWID
"""


class TableError(RuntimeError):
    """The table cannot be read or written; the message names the file and the way out."""


@dataclass(frozen=True)
class LatencyTable:
    """The rows of one machine in a file; others' stay beside them.

    Attributes:
        path: of the file, which is made when it is first written.
        machine: 64 hex digits of all that times depend on beside the layer and the candidate.
    """

    path: Path
    machine: str

    @classmethod
    def of_user(cls, info: DeviceInfo, target: Target) -> LatencyTable:
        """The table in the user's private folder, of a device and code for a target.

        Raises:
            DeviceError: the folder cannot be made, or someone else could write to it.
        """
        return cls(private_folder() / _FILE, machine_digest(info, target))

    def seconds(self, layer: str) -> dict[str, float]:
        """Seconds by candidate, of those that were measured.

        Args:
            layer: its digest.

        Raises:
            TableError: the file is no such table.
        """
        if not self.path.exists():
            return {}
        query = "SELECT candidate, seconds FROM latency WHERE machine = ? AND layer = ?"
        rows = self._run(query, [(self.machine, layer)])
        found = {str(name): float(seconds) for name, seconds in rows}
        return {name: seconds for name, seconds in found.items() if isfinite(seconds)}

    def put(self, layer: str, seconds: Mapping[str, float]) -> None:
        """Keep the seconds of a layer's candidates, in place of what was there: all or none.

        Raises:
            TableError: the file is no such table, or cannot be written.
        """
        statement = "INSERT OR REPLACE INTO latency VALUES (?, ?, ?, ?)"
        self._run(statement, [(self.machine, layer, *item) for item in seconds.items()])

    def _run(self, statement: str, rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        try:
            with closing(sqlite3.connect(self.path, timeout=_PATIENCE_S)) as connection:
                with connection:  # a transaction
                    connection.execute(_TABLE)
                    found = [connection.execute(statement, row).fetchall() for row in rows]
                return [row for rows in found for row in rows]
        except sqlite3.Error as error:
            full = getattr(error, "sqlite_errorcode", 0) & 0xFF in (
                sqlite3.SQLITE_FULL,
                sqlite3.SQLITE_IOERR,
            )
            way = "make room on its disk" if full else "deleting it loses measured times only"
            raise TableError(f"{self.path}: {error}; {way}") from error


def machine_digest(info: DeviceInfo, target: Target) -> str:
    """64 hex digits of a device, a target and the versions of what makes code for it."""
    parts = (
        (info.arch, sorted(info.features), info.cores, info.description),
        target,
        llvmlite.__version__,
        source_digest(),
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()
