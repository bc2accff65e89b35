"""Units: weights that leave together, the groups they form, and what may stay of a group.

This is the one description of sparsity.  A scheme names, for every weight, the unit it belongs to
in each of one or more *ways*; a weight stays iff all its units stay.  One way makes a partition of
the weights (kernel groups, filters, single weights); two ways make units that overlap (the rows
and the columns of a block).  Units form groups, and one rule a way (`rules.py`) says which units of
a group may stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from refimpl.schemes.rules import Rule

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Units:
    """The units of one weight.

    Attributes:
        unit: integers (ways, *shape of the weight), the unit of every weight in each way.  Units
            are numbered from 0 through all ways, one way after another; none is empty.
        group: integers (units,), the group of every unit, numbered from 0 through all ways; none
            is empty, and none has units of two ways.
        strip: integers (units,), the strip of filters every unit lies in; None where units span
            strips.
        rules: what may stay of every group, one a way.
    """

    unit: np.ndarray
    group: np.ndarray
    strip: np.ndarray | None
    rules: tuple[Rule, ...]

    @property
    def count(self) -> int:
        """How many units there are."""
        return len(self.group)

    @property
    def shape(self) -> Shape:
        """The shape of the weight."""
        return self.unit.shape[1:]

    def ways(self) -> Iterator[tuple[slice, Rule]]:
        """The units of every way, and their rule."""
        for unit, rule in zip(self.unit, self.rules, strict=True):
            yield slice(int(unit.min()), int(unit.max()) + 1), rule

    def total(self, values: np.ndarray) -> np.ndarray:
        """Sum of `values` (shape of the weight) over each unit, float64 (units,)."""
        spread = np.broadcast_to(values, self.unit.shape)
        return np.bincount(self.unit.ravel(), weights=spread.ravel(), minlength=self.count)

    def touched(self, mask: np.ndarray) -> np.ndarray:
        """Which units have any of the mask's weights, bool (units,)."""
        found = np.zeros(self.count, bool)
        found[self.unit[:, mask]] = True
        return found

    def size(self) -> np.ndarray:
        """How many weights each unit has, integers (units,)."""
        return np.bincount(self.unit.ravel(), minlength=self.count)

    def mask(self, kept: np.ndarray) -> np.ndarray:
        """The mask, bool of the weight's shape, that keeping these units (bool, units) makes."""
        return np.logical_and.reduce(kept[self.unit], axis=0)

    def place(self, unit: int) -> str:
        """Where a unit lies, in words: the bounding box of its weights."""
        return _place(np.argwhere((self.unit == unit).any(axis=0)))

    def group_place(self, group: int) -> str:
        """Where a group lies, in words: the bounding box of its weights."""
        return _place(np.argwhere((self.group == group)[self.unit].any(axis=0)))


def _place(indices: np.ndarray) -> str:
    """The box around weight indices (n, axes), as "filters 0 to 7, channels 4 to 7, kernel ..."."""
    low, high = indices.min(axis=0).tolist(), indices.max(axis=0).tolist()
    words = [
        f"{noun} {a}" if a == b else f"{noun}s {a} to {b}"
        for noun, a, b in zip(("filter", "channel"), low, high, strict=False)
    ]
    spans = [str(a) if a == b else f"{a} to {b}" for a, b in zip(low[2:], high[2:], strict=True)]
    if spans:
        words.append(f"kernel position ({', '.join(spans)})")
    return ", ".join(words)


def strip_of(filters: int, height: int, parts: int) -> np.ndarray:
    """The strip of every filter, integers (filters,): runs of `height`, none across two parts.

    `parts` are the equal parts the filters fall into: convolution groups, or gates.  The last
    strip of a part is shorter where `height` does not divide the part.
    """
    part = filters // parts
    index = np.arange(filters)
    return index // part * -(-part // height) + index % part // height
