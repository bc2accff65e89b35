"""Vanilla: blocks of whole kernels come and go (RT3D's first scheme)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from refimpl.schemes.rules import AnySubset
from refimpl.schemes.scheme import Scheme
from refimpl.schemes.units import Shape, Units, strip_of


@dataclass(frozen=True)
class Vanilla(Scheme):
    """Every kernel group, `gf` filters by `gc` channels of whole kernels, is a unit.

    Units are numbered strip by strip, in each by channel block.
    """

    gf: int
    gc: int
    name: ClassVar[str] = "vanilla"

    def _units(self, shape: Shape, parts: int) -> Units:
        strip = strip_of(shape[0], self.gf, parts)
        block = np.arange(shape[1]) // self.gc
        strips, blocks = int(strip[-1]) + 1, int(block[-1]) + 1
        unit = (strip[:, None] * blocks + block).reshape(1, *shape[:2], *[1] * (len(shape) - 2))
        return Units(
            np.broadcast_to(unit, (1, *shape)),
            group=np.zeros(strips * blocks, np.intp),
            strip=np.repeat(np.arange(strips), blocks),
            rules=(AnySubset(),),
        )

    def grain(self, shape: Shape, *, parts: int = 1) -> tuple[int, int]:  # noqa: ARG002
        """A kernel group: `gf` filters keep the same columns, in runs of `gc` channels."""
        return self.gf, self.gc
