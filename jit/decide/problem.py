"""What the ways to compute a convolution are compared for, and what each of them says of itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

import numpy as np

from jit.decide.draft import Draft
from jit.decide.taps import Axis, outer_axes, useful_share
from jit.target import Target
from refimpl.graph import Attributes, Shape
from refimpl.plan import Place, PlanError, Schedule, Winograd
from refimpl.tiles import alike
from refimpl.winograd import tile_counts

HEIGHTS = (1, 2, 4, 8)
"""Filters of a strip that is multiplied with a packed panel, lowest first."""


@dataclass(frozen=True)
class ConvProblem:
    """What the choice depends on.

    stored: bool (F, C, *K), True where a weight exists; output: (N, *spatial);
    x_block: channels per block of the input's layout; axes: the outer ones, along which products
    with padding are left out; panels: whether x may be packed for vectors of positions; steady:
    whether the kernel moves by one position at a time and its taps are neighbours; reorder:
    whether strips may gather filters that are alike; outputs: of a tile along every axis, where
    the weights are points of transformed kernels, else (); weight_bytes: of a stored weight.
    """

    stored: np.ndarray
    output: tuple[int, ...]
    x_block: int
    axes: tuple[Axis, ...] = ()
    panels: bool = True
    steady: bool = False
    reorder: bool = True
    outputs: tuple[int, ...] = ()
    weight_bytes: int = 4

    @property
    def tiles(self) -> int:
        """Tiles of all images, each of which every stored point is multiplied with; 0 without."""
        counts = tile_counts(self.outputs, self.output[1:]) if self.outputs else (0,)
        return self.output[0] * prod(counts)

    def useful(self, rows: int) -> float:
        """The share of products that tiles of so many rows do: the others are with padding."""
        together = [1] * (len(self.axes) - 1) + [rows]
        shares = zip(self.axes, together, strict=False)
        return prod(useful_share(axis, outputs) for axis, outputs in shares)

    @property
    def columns(self) -> np.ndarray:
        """The matrix view: bool (F, C*K)."""
        return self.stored.reshape(self.stored.shape[0], -1)

    @cached_property
    def stored_bytes(self) -> int:
        """Of the weights that exist."""
        return self.weight_bytes * int(self.stored.sum())

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


def conv_problem(
    draft: Draft, x: Place, output: Shape, target: Target, *, reorder: bool, narrow: bool
) -> ConvProblem:
    """The problem of a convolution's draft that reads x; `narrow`: its weights have 16 bits.

    Raises:
        PlanError: the target cannot compute it at all.
    """
    stored, (batch, _, *extents), block = required(draft.stored), output, x.layout.block
    if draft.op == "winograd_conv":
        if target.grid:
            raise PlanError(
                f"{draft.covers[0]}: a winograd_conv is compiled for CPUs only, not for "
                f"{target.name}; plan it for a CPU, or keep the convolution direct"
            )
        return ConvProblem(
            stored, (batch, *extents), block, outputs=dict(draft.attributes)["outputs"]
        )
    # A kernel that covers the whole of what a flatten flattened has one position.
    covers = len(extents) != stored.ndim - 2
    spatial = (1,) * (stored.ndim - 2) if covers else tuple(extents)
    steady = bool(extents) and block == target.lanes and is_steady(draft.attributes)
    axes = tuple(outer_axes(dict(draft.attributes), x.shape, stored.shape, spatial))
    problem = ConvProblem(
        stored, (batch, *spatial), block, axes, panels=not narrow, steady=steady, reorder=reorder
    )
    return replace(problem, weight_bytes=2 if narrow else 4)


def recurrence_problem(
    draft: Draft, batch: int, block: int, *, reorder: bool, narrow: bool
) -> ConvProblem:
    """The problem of one time of a recurrence, its states in blocks of so many channels."""
    stored = required(draft.stored)
    problem = ConvProblem(stored, (batch,), block, panels=False, reorder=reorder)
    return replace(problem, weight_bytes=2 if narrow else 4)


def required(array: np.ndarray | None) -> np.ndarray:
    """The array that a draft of this kind has.

    Raises:
        PlanError: it has none.
    """
    if array is None:
        raise PlanError("a step lacks its weight")
    return array
