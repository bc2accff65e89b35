"""Dense: nothing is removed."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from refimpl.schemes.rules import Exactly
from refimpl.schemes.scheme import Scheme, SchemeError, Scope, check_keep
from refimpl.schemes.units import Shape, Units, Way, part_height


@dataclass(frozen=True)
class Dense(Scheme):
    """The whole weight is one unit, and it stays: the baseline of all others."""

    name: ClassVar[str] = "dense"

    def _units(self, shape: Shape, parts: int) -> Units:  # noqa: ARG002
        whole = Way(np.zeros(shape[0], int), np.zeros(prod(shape[1:]), int), Exactly(1))
        return Units(shape, (whole,), group=np.zeros(1, int), strip=whole.row)

    def project(
        self, weight: np.ndarray, keep: float, *, scope: Scope = "layer", parts: int = 1
    ) -> np.ndarray:
        """The mask that keeps everything.

        Raises:
            SchemeError: `keep` is not 1.
        """
        check_keep(self, keep)
        if keep != 1:
            raise SchemeError(f"dense keeps every weight, so keep must be 1, not {keep}.")
        return super().project(weight, keep, scope=scope, parts=parts)

    def grain(self, shape: Shape, *, parts: int = 1) -> tuple[int, int]:
        """All filters of a part keep every channel."""
        return part_height(shape, parts), shape[1]
