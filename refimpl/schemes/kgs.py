"""KGS, kernel group structured: kernel positions of a kernel group come and go (RT3D).

In two dimensions this is YOLObile's block-punched pruning; with one kernel position (1 x 1
convolutions, linear layers) it is Vanilla.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from refimpl.schemes.rules import AnySubset
from refimpl.schemes.scheme import Scheme
from refimpl.schemes.units import Shape, Units, Way, strip_of


@dataclass(frozen=True)
class KGS(Scheme):
    """Every kernel position of a kernel group (`gf` filters by `gc` channels) is a unit.

    A kernel group is a group, its positions are the group's units.  Units are numbered strip by
    strip, in each by channel block, in each by position.
    """

    gf: int
    gc: int
    name: ClassVar[str] = "kgs"

    def _units(self, shape: Shape, parts: int) -> Units:
        positions = prod(shape[2:])
        channel, position = np.divmod(np.arange(prod(shape[1:])), positions)
        column = channel // self.gc * positions + position
        way = Way(strip_of(shape, self.gf, parts), column, AnySubset())
        groups = prod(way.sizes) // positions
        return Units(shape, (way,), group=np.repeat(np.arange(groups), positions), strip=way.row)

    def grain(self, shape: Shape, *, parts: int = 1) -> tuple[int, int]:  # noqa: ARG002
        """A kernel group: `gf` filters keep the same columns, in runs of `gc` channels."""
        return self.gf, self.gc
