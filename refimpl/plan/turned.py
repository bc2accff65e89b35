"""The scratch of a product whose vectors hold rows of its input: x and the sums, both turned.

turned        [channels][W]: a panel of W rows of x, one panel at a time; the last is filled up
turned sums   [filters][W]

A recurrence has them beside its own scratch, after it.
"""

from __future__ import annotations

from refimpl.layout import plain
from refimpl.plan.form import Place, Schedule, Step

NAMES = ("turned", "turned sums")


def turned_places(name: str, schedule: Schedule, weight: tuple[int, ...]) -> dict[str, Place]:
    """The places of the scratch of a step of that name; none if its schedule is not turned."""
    if not schedule.turned:
        return {}
    width, (filters, channels) = schedule.tile[1], weight
    shapes = [(channels, width), (filters, width)]
    names = [f"{name}:{part}" for part in NAMES]
    return {n: Place(s, plain(s), "arena") for n, s in zip(names, shapes, strict=True)}


def own_scratch(step: Step) -> tuple[str, ...]:
    """The scratch of a step but that of its turned product."""
    turned = step.schedule is not None and step.schedule.turned
    return step.scratch[: -len(NAMES)] if turned else step.scratch
