"""What the ways to compute a convolution are compared for, and what each of them says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from refimpl.graph import Attributes
from refimpl.plan import Schedule, Winograd
from refimpl.tiles import alike

HEIGHTS = (1, 2, 4, 8)
"""Filters of a strip that is multiplied with a packed panel, lowest first."""


@dataclass(frozen=True)
class ConvProblem:
    """What the choice depends on.

    stored: bool (F, C, *K), True where a weight exists; output: (N, *spatial);
    x_block: channels per block of the input's layout; useful: the share of products that are not
    with padding, and done; panels: whether x may be packed for vectors of positions; steady:
    whether the kernel moves by one position at a time and its taps are neighbours; reorder:
    whether strips may gather filters that are alike.
    """

    stored: np.ndarray
    output: tuple[int, ...]
    x_block: int
    useful: float = 1.0
    panels: bool = True
    steady: bool = False
    reorder: bool = True

    @property
    def columns(self) -> np.ndarray:
        """The matrix view: bool (F, C*K)."""
        return self.stored.reshape(self.stored.shape[0], -1)

    @cached_property
    def density(self) -> float:
        """The share of weights that exist; 1 where none does."""
        return float(self.stored.mean()) or 1.0

    @cached_property
    def alike(self) -> np.ndarray:
        """The filters in an order in which neighbours keep much the same columns."""
        return alike(self.columns, max(HEIGHTS))


def is_steady(given: Attributes) -> bool:
    """Whether a convolution of these attributes has neither strides nor dilation."""
    attributes = dict(given)
    return set(attributes["stride"]) == set(attributes["dilation"]) == {1}


@dataclass(frozen=True)
class Candidate:
    """A way to compute a convolution: its name, predicted cycles, and the decisions behind them.

    With `winograd`, the schedule cuts the product of the filters with the transformed tiles.
    """

    name: str
    cycles: float
    schedule: Schedule
    winograd: Winograd | None = None
