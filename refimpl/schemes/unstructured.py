"""Unstructured: single weights come and go."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from refimpl.schemes.rules import AnySubset
from refimpl.schemes.scheme import Scheme
from refimpl.schemes.units import Shape, Units, Way


@dataclass(frozen=True)
class Unstructured(Scheme):
    """Every weight is a unit; a strip is one filter."""

    name: ClassVar[str] = "unstructured"

    def _units(self, shape: Shape, parts: int) -> Units:  # noqa: ARG002
        filters, columns = np.arange(shape[0]), np.arange(prod(shape[1:]))
        return Units(
            shape,
            (Way(filters, columns, AnySubset()),),
            group=np.zeros(prod(shape), int),
            strip=filters,
        )
