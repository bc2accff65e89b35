"""Scheme: what all sparse schemes share, derived once from their units.

A scheme is a frozen dataclass of block sizes and says one thing, `units`: how the weights of a
layer fall into units, groups and a rule (see `units.py`).  Score, legality, covers, degrees of
freedom and kept MACs follow from that here.  `project` here serves every scheme whose units
partition the weights under "any subset"; the others bring their own.

Weights have the shape (F, C, *kernel): a convolution of one to three dimensions, C being the
channels of one convolution group, or a linear or recurrent layer with no kernel axes.  `parts` is
the number of equal parts the filters fall into that no block may straddle: convolution groups, or
the gates of a recurrent weight.  A depthwise weight is (F, 1, *kernel), and its strips run over
all filters, whose groups have but one or a few each (see `part_height`).  Ragged edges, where a
block does not divide a part or C, are legal everywhere.

Columns of the matrix view are the pairs (channel, kernel position), channel by channel.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import ClassVar, Literal

import numpy as np

from refimpl.schemes.select import highest
from refimpl.schemes.units import Shape, Units

Scope = Literal["layer", "strip"]


class SchemeError(ValueError):
    """A scheme, a mask or a request that breaks a rule; the message names it and the way out."""


@dataclass(frozen=True)
class Scheme(ABC):
    """Base of the schemes; each subclass is a frozen dataclass of its sizes, whole numbers.

    Every size is 1 or more, unless `smallest` says otherwise by the size's name.
    """

    name: ClassVar[str]
    smallest: ClassVar[dict[str, int]] = {}

    def __post_init__(self) -> None:
        for item in fields(self):
            size, least = getattr(self, item.name), self.smallest.get(item.name, 1)
            if type(size) is not int or size < least:
                raise SchemeError(
                    f"{self.name}: {item.name} is {size!r}; it must be a whole number, {least} or "
                    "more."
                )

    def __str__(self) -> str:
        sizes = ",".join(f"{item.name}={getattr(self, item.name)}" for item in fields(self))
        return f"{self.name}({sizes})" if sizes else self.name

    @abstractmethod
    def _units(self, shape: Shape, parts: int) -> Units:
        """The units of a weight whose shape and parts have been checked."""

    def units(self, shape: Shape, *, parts: int = 1) -> Units:
        """How the weights of `shape` fall into units; all that follows is derived from this.

        Raises:
            SchemeError: the shape is no weight's, or `parts` does not divide the filters.
        """
        shape = tuple(int(size) for size in shape)
        if not 2 <= len(shape) <= 5 or min(shape) < 1:
            raise SchemeError(
                f"{self} needs a weight (filters, channels, *kernel) of 2 to 5 positive "
                f"dimensions; this one has the shape {shape}."
            )
        if parts < 1 or shape[0] % parts:
            raise SchemeError(f"{self}: {shape[0]} filters do not fall into {parts} equal parts.")
        return self._units(shape, parts)

    def grain(self, shape: Shape, *, parts: int = 1) -> tuple[int, int]:  # noqa: ARG002
        """(filters, channels): how legal masks are best cut for execution.

        Runs of that many filters of a part share columns, so they make a strip of tiles; runs of
        that many channels at one kernel position are kept or pruned together, so one index may
        serve them.
        """
        return 1, 1

    def score(self, weight: np.ndarray, *, parts: int = 1) -> np.ndarray:
        """The importance of every unit, float64 (units,): its l2 norm / sqrt(its weights).

        Divided by the weights really there, so that a ragged unit is not penalised for its size.

        Raises:
            SchemeError: the weight has a value that is not finite, which has no rank.
        """
        units = self.units(weight.shape, parts=parts)
        return self._score(units, weight)

    def _score(self, units: Units, weight: np.ndarray) -> np.ndarray:
        return np.sqrt(units.total(self._energy(weight)) / units.size())

    def _energy(self, weight: np.ndarray) -> np.ndarray:
        """The squares of the weights, float64; refused where one has no rank."""
        if not np.isfinite(weight).all():
            place = tuple(np.argwhere(~np.isfinite(weight))[0].tolist())
            raise SchemeError(f"{self} cannot rank the weight: its value at {place} is not finite.")
        return np.square(weight, dtype=np.float64)

    def project(
        self, weight: np.ndarray, keep: float, *, scope: Scope = "layer", parts: int = 1
    ) -> np.ndarray:
        """The nearest legal mask that keeps about the share `keep` of the weights.

        The units of the highest scores stay: under one threshold for the layer (scope "layer"),
        or an equal share of them in every strip of filters (scope "strip", balanced).  How many
        is chosen so that the kept share of weights comes nearest to `keep`; at least one unit (a
        strip) stays.  Of units of equal score the larger stay first, then those of lower numbers.
        For one threshold over many layers see `across.py`.

        Returns:
            The mask, bool of the weight's shape, True = kept.

        Raises:
            SchemeError: `keep` is outside (0, 1] or not to be had, a value is not finite, or the
                scheme has no strips to balance.
        """
        check_keep(self, keep)
        units = self.units(weight.shape, parts=parts)
        strip = self._strips(units, scope)
        kept = highest(self._score(units, weight), units.size(), strip, keep * weight.size)
        return units.mask(kept)

    def _strips(self, units: Units, scope: Scope) -> np.ndarray:
        """The strip of every unit, all the same one where nothing is balanced."""
        if scope == "layer":
            return np.zeros(units.count, int)
        if units.strip is None:
            raise SchemeError(
                f'{self} has no units to balance inside a strip of filters; use scope="layer".'
            )
        return units.strips()

    def saliency(self, weight: np.ndarray, *, parts: int = 1) -> np.ndarray:
        """The score at which every weight leaves, float64 of the weight's shape.

        For every threshold t, `saliency >= t` is a legal mask (empty ones apart, where a rule
        forbids them): one number line on which layers of any schemes are compared.  inf where a
        weight stays always, -inf where never.

        Raises:
            SchemeError: a value is not finite.
        """
        units = self.units(weight.shape, parts=parts)
        return units.least(self._score(units, weight))

    def cover(self, nonzero: np.ndarray, *, parts: int = 1) -> np.ndarray | None:
        """The smallest legal mask that keeps all of these weights (bool), or None if none does."""
        units = self.units(nonzero.shape, parts=parts)
        kept = units.touched(nonzero)
        for span, rule in units.ruled():
            staying = rule.cover(kept[span], units.group[span])
            if staying is None:
                return None
            kept[span] = staying
        return units.mask(kept)

    def legal(self, mask: np.ndarray, *, parts: int = 1) -> str | None:
        """None where the mask (bool, the weight's shape) obeys the scheme, else why and where."""
        mask = np.asarray(mask)
        if mask.dtype != np.bool_:
            return f"{self}: a mask holds booleans; this one holds {mask.dtype}."
        units = self.units(mask.shape, parts=parts)
        kept = units.touched(mask)
        missing = np.argwhere(units.mask(kept) & ~mask)
        if len(missing):
            return self._torn(units, mask, missing[0])
        for span, rule in units.ruled():
            broken = rule.breach(kept[span], units.group[span])
            if broken is not None:
                return f"{self}: in the group at {units.group_place(broken)}, {rule}."
        return None

    def _torn(self, units: Units, mask: np.ndarray, index: np.ndarray) -> str:
        """The sentence for a pruned weight none of whose units is pruned as a whole."""
        kept, size = units.total(mask).astype(int), units.size()
        owners = [int(way[tuple(index)]) for way in units.unit]
        keeps = " and ".join(
            f"({units.place(unit)}) keeps {kept[unit]} of its {size[unit]} weights"
            for unit in owners
        )
        return f"{self}: the weight at {tuple(index.tolist())} is pruned, but its unit {keeps}."

    def degrees_of_freedom(self, shape: Shape, *, parts: int = 1) -> float:
        """Bits in one choice of what stays: log2 of how many ways the rules leave to choose.

        Choices, not masks: where units overlap, different choices may make the same mask.
        """
        units = self.units(shape, parts=parts)
        return sum(rule.bits(units.group[span]) for span, rule in units.ruled())


def check_keep(scheme: Scheme, keep: float) -> None:
    """Raise SchemeError unless `keep` is a share in (0, 1]."""
    if not 0 < keep <= 1:
        raise SchemeError(
            f"{scheme}: the share to keep is {keep}; it must be above 0 and at most 1."
        )


def kept_macs(mask: np.ndarray, positions: int) -> int:
    """Multiply-accumulates left by a mask in a layer of that many output positions."""
    return int(np.count_nonzero(mask)) * positions
