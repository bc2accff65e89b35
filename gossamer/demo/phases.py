"""Phases of a long job: what is being done, how far it is, how long each part took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import Progress


class Phases:
    """The phases of one run; `seconds` holds the wall time of those that are over, by name."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str, total: int = 1) -> Iterator[Callable[[], None]]:
        """A phase of `total` parts; gives what is to be called after each of them."""
        task = self.progress.add_task(name, total=total)
        started = time.perf_counter()
        yield lambda: self.progress.advance(task)
        self.seconds[name] = time.perf_counter() - started
        self.progress.update(task, completed=total)
