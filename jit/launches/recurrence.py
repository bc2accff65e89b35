"""Launches of a recurrence: for every time a product with the hidden weight, then the gates."""

from __future__ import annotations

from collections.abc import Iterator

from jit.launches.form import Launch, Lowering
from refimpl.plan import PlanError, Step


def recurrence(to: Lowering, step: Step) -> Iterator[Launch]:
    """The given states copied to their rows, then every time after another."""
    raise PlanError(f"{step.name}: soon")
    yield
