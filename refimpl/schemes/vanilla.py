"""Vanilla: blocks of whole kernels come and go (RT3D's first scheme)."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from refimpl.schemes.rules import AnySubset
from refimpl.schemes.scheme import Scheme
from refimpl.schemes.units import Shape, Units, Way, strip_of


@dataclass(frozen=True)
class Vanilla(Scheme):
    """Every kernel group, `gf` filters by `gc` channels of whole kernels, is a unit.

    Units are numbered strip by strip, in each by channel block.
    """

    gf: int
    gc: int
    name: ClassVar[str] = "vanilla"

    def _units(self, shape: Shape, parts: int) -> Units:
        channel = np.arange(prod(shape[1:])) // prod(shape[2:])
        way = Way(strip_of(shape, self.gf, parts), channel // self.gc, AnySubset())
        return Units(shape, (way,), group=np.zeros(prod(way.sizes), int), strip=way.row)

    def grain(self, shape: Shape, *, parts: int = 1) -> tuple[int, int]:  # noqa: ARG002
        """A kernel group: `gf` filters keep the same columns, in runs of `gc` channels."""
        return self.gf, self.gc
