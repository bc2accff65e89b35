"""Unstructured: single weights come and go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from refimpl.schemes.rules import AnySubset
from refimpl.schemes.scheme import Scheme
from refimpl.schemes.units import Shape, Units


@dataclass(frozen=True)
class Unstructured(Scheme):
    """Every weight is a unit; a strip is one filter."""

    name: ClassVar[str] = "unstructured"

    def _units(self, shape: Shape, parts: int) -> Units:  # noqa: ARG002
        unit = np.arange(np.prod(shape)).reshape(1, *shape)
        strip = np.repeat(np.arange(shape[0]), unit.size // shape[0])
        return Units(unit, np.zeros(unit.size, np.intp), strip, (AnySubset(),))
