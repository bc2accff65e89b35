"""NM: n of every m weights along an axis, what sparse hardware multiplies (2:4 and its kin)."""

from __future__ import annotations

from dataclasses import dataclass
from math import isclose, prod
from typing import ClassVar

import numpy as np

from refimpl.schemes.rules import Exactly, rank_in_group
from refimpl.schemes.scheme import Scheme, SchemeError, Scope, check_keep
from refimpl.schemes.units import Shape, Units, Way, strip_of


@dataclass(frozen=True)
class NM(Scheme):
    """Every weight is a unit; exactly `n` stay of every `m` neighbours along `axis`.

    `axis` counts the weight's axes: 0 filters, 1 channels (the axis that is summed over), 2 and
    on the kernel's.  Groups do not straddle parts; of a ragged group at most all stay.
    """

    n: int
    m: int
    axis: int = 1
    name: ClassVar[str] = "nm"
    smallest: ClassVar[dict[str, int]] = {"axis": 0}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n > self.m:
            raise SchemeError(f"{self}: {self.n} of {self.m} cannot stay; n must be at most m.")

    def _units(self, shape: Shape, parts: int) -> Units:
        if self.axis >= len(shape):
            raise SchemeError(f"{self}: a weight of the shape {shape} has no axis {self.axis}.")
        along = np.arange(shape[self.axis]) // self.m
        if self.axis == 0:
            along = strip_of(shape, self.m, parts)
        blocks = int(along[-1]) + 1
        others = list(shape)
        del others[self.axis]
        other = np.expand_dims(np.arange(prod(others)).reshape(others), self.axis)
        block = along.reshape([-1 if axis == self.axis else 1 for axis in range(len(shape))])
        filters, columns = np.arange(shape[0]), np.arange(prod(shape[1:]))
        return Units(
            shape,
            (Way(filters, columns, Exactly(self.n)),),
            group=(other * blocks + block).ravel(),
            strip=filters,
        )

    def project(
        self,
        weight: np.ndarray,
        keep: float,
        *,
        scope: Scope = "layer",  # noqa: ARG002
        parts: int = 1,
    ) -> np.ndarray:
        """The nearest legal mask: the n largest of every group; balanced by its nature.

        Raises:
            SchemeError: `keep` is not n/m, a value is not finite, or the axis is so short that all
                would stay.
        """
        check_keep(self, keep)
        if not isclose(keep, self.n / self.m, rel_tol=1e-6):
            raise SchemeError(
                f"{self} keeps {self.n} of {self.m}, so keep must be {self.n / self.m:g}, not "
                f"{keep}."
            )
        mask = self._largest(weight, parts)
        if keep < 1 and mask.all():
            raise SchemeError(
                f"{self} would keep all of a weight of the shape {weight.shape}, which has at most "
                f"{self.n} neighbours along axis {self.axis}; choose another axis or scheme."
            )
        return mask

    def saliency(self, weight: np.ndarray, *, parts: int = 1) -> np.ndarray:
        """inf for the n largest of every group and -inf for the others: no threshold moves them."""
        return np.where(self._largest(weight, parts), np.inf, -np.inf)

    def _largest(self, weight: np.ndarray, parts: int) -> np.ndarray:
        units = self.units(weight.shape, parts=parts)
        return units.mask(rank_in_group(units.group, self._score(units, weight)) < self.n)
