"""The arena: one block of memory in which values that are not needed at the same time overlap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from refimpl.plan import ALIGNMENT, Place, Plan, check, lifetimes


def lay_out(plan: Plan) -> Plan:
    """The Plan with its arena laid out, and checked. Raises PlanError if it is ill-formed."""
    places, size = place_by_liveness(plan.places, lifetimes(plan))
    result = replace(plan, places=places, arena_bytes=size)
    check(result)
    return result


def place_by_liveness(
    places: Mapping[str, Place], lives: Mapping[str, tuple[int, int]]
) -> tuple[dict[str, Place], int]:
    """(places with offsets, bytes of the arena), largest values first at the lowest free offset.

    `lives` gives the first and last step at which each value must be intact. Values in other
    segments keep their place.
    """
    done: dict[str, Place] = {}
    for name in sorted(lives, key=lambda n: (-places[n].nbytes, n)):
        first, last = lives[name]
        busy = sorted(
            (p.offset, p.offset + p.nbytes)
            for other, p in done.items()
            if lives[other][0] <= last and first <= lives[other][1]
        )
        done[name] = replace(places[name], offset=_lowest_gap(busy, places[name].nbytes))
    size = max((p.offset + p.nbytes for p in done.values()), default=0)
    return {**places, **done}, size


def _lowest_gap(busy: list[tuple[int, int]], size: int) -> int:
    offset = 0
    for begin, end in busy:
        if offset + size <= begin:
            break
        offset = max(offset, -(-end // ALIGNMENT) * ALIGNMENT)
    return offset
