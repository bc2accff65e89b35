"""Filter: whole filters (output channels) come and go."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from refimpl.schemes.rules import AnySubset
from refimpl.schemes.scheme import Scheme
from refimpl.schemes.units import Shape, Units, Way, part_height


@dataclass(frozen=True)
class Filter(Scheme):
    """Every filter `W[f]` is a unit."""

    name: ClassVar[str] = "filter"

    def _units(self, shape: Shape, parts: int) -> Units:  # noqa: ARG002
        whole = Way(np.arange(shape[0]), np.zeros(prod(shape[1:]), int), AnySubset())
        return Units(shape, (whole,), group=np.zeros(shape[0], int), strip=None)

    def grain(self, shape: Shape, *, parts: int = 1) -> tuple[int, int]:
        """The filters of a part that stay keep every channel."""
        return part_height(shape, parts), shape[1]
