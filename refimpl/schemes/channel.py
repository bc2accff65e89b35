"""Channel: whole input channels come and go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from refimpl.schemes.rules import AnySubset
from refimpl.schemes.scheme import Scheme
from refimpl.schemes.units import Shape, Units


@dataclass(frozen=True)
class Channel(Scheme):
    """Every input channel `W[:, c]` of a part is a unit."""

    name: ClassVar[str] = "channel"

    def _units(self, shape: Shape, parts: int) -> Units:
        part = np.arange(shape[0]) // (shape[0] // parts)
        unit = part[:, None] * shape[1] + np.arange(shape[1])
        unit = np.broadcast_to(unit.reshape(*shape[:2], *[1] * (len(shape) - 2)), shape)
        return Units(unit[None], np.zeros(parts * shape[1], np.intp), None, (AnySubset(),))

    def grain(self, shape: Shape, *, parts: int = 1) -> tuple[int, int]:
        """All filters of a part keep the same columns."""
        return shape[0] // parts, 1
