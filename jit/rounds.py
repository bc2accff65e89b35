"""Rounds: which launches may run side by side, and where the members of a team must wait.

A launch waits for those before it that write what it touches, or read what it writes.  What only
the first member does needs no waiting among itself: it comes in order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from jit.cache import Signature
from jit.launches import Launch
from jit.shares import Share, divide, whole

Extent = tuple[str, int, int]
"""Bytes [begin, end) of a segment."""


@dataclass(frozen=True)
class Turn:
    """How a launch is run: whether all members wait before it, and the share of each from 0 on."""

    waits: bool
    shares: tuple[Share, ...]


@dataclass(frozen=True)
class _Access:
    """What a launch touches; launches of one piece write apart."""

    reads: tuple[Extent, ...]
    writes: tuple[Extent, ...]
    piece: tuple[str, str]

    def meets(self, other: _Access) -> bool:
        """Whether their order matters."""
        if _overlap(self.reads, other.writes) or _overlap(self.writes, other.reads):
            return True
        apart = self.piece[1] != "" and self.piece == other.piece
        return not apart and _overlap(self.writes, other.writes)


def turns(launches: Sequence[tuple[Launch, Signature]], tasks: Mapping[str, int]) -> list[Turn]:
    """For every launch in order, who does what of it and whether all wait before.

    Args:
        launches: each with the signature of its kernel.
        tasks: into how many shares the launches of each step are divided at most.
    """
    result: list[Turn] = []
    alone: list[_Access] = []
    shared: list[_Access] = []
    for launch, takes in launches:
        everything = whole(takes.loops, launch.params)
        shares = divide(everything, tasks[launch.step], launch.costs)
        access = _access(launch, takes)
        before = shared if len(shares) == 1 else [*alone, *shared]
        waits = any(access.meets(other) for other in before)
        if waits:
            alone, shared = [], []
        (alone if len(shares) == 1 else shared).append(access)
        result.append(Turn(waits, tuple(shares)))
    return result


def _access(launch: Launch, takes: Signature) -> _Access:
    touched = [name for name, ref in launch.buffers if ref.segment != "constants"]
    touched = [name for name in touched if name in takes.buffers]
    return _Access(
        tuple(launch.extent(name) for name in touched if name not in takes.written),
        tuple(launch.extent(name) for name in touched if name in takes.written),
        (launch.step, launch.piece),
    )


def _overlap(some: Sequence[Extent], others: Sequence[Extent]) -> bool:
    return any(a[0] == b[0] and a[1] < b[2] and b[1] < a[2] for a, b in product(some, others))
