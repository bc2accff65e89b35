"""Channel: whole input channels come and go."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from refimpl.schemes.rules import AnySubset
from refimpl.schemes.scheme import Scheme
from refimpl.schemes.units import Shape, Units, Way, part_height


@dataclass(frozen=True)
class Channel(Scheme):
    """Every input channel `W[:, c]` of a part is a unit."""

    name: ClassVar[str] = "channel"

    def _units(self, shape: Shape, parts: int) -> Units:
        part = np.arange(shape[0]) // (shape[0] // parts)
        channel = np.arange(prod(shape[1:])) // prod(shape[2:])
        way = Way(part, channel, AnySubset())
        return Units(shape, (way,), group=np.zeros(parts * shape[1], int), strip=None)

    def grain(self, shape: Shape, *, parts: int = 1) -> tuple[int, int]:
        """All filters of a part keep the same columns."""
        return part_height(shape, parts), 1
