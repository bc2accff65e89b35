"""Names for values that the Graph does not have: a model may call its own values anything."""

from __future__ import annotations

from collections.abc import Container


def unused(wanted: str, *taken: Container[str]) -> str:
    """The wanted name, or with the first number behind it that makes it a new one."""
    name, number = wanted, 0
    while any(name in names for names in taken):
        number += 1
        name = f"{wanted}_{number}"
    return name
