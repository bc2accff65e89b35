"""Units: weights that leave together, the groups they form, and what may stay of a group.

This is the one description of sparsity.  A scheme divides the weights of a layer into units in one
or more *ways*; a weight stays iff its units of all ways stay.  One way makes a partition of the
weights (kernel groups, filters, single weights); two ways make units that overlap (the rows and
the columns of a block).  Units form groups, and one rule a way (`rules.py`) says which units of a
group may stay.

Every way is a product: the matrix view's rows (filters) fall into classes, its columns (channel,
kernel position) fall into classes, and a unit is what one class of rows has of one class of
columns.  So the units of a large layer are two short lists, and sums over all of them are two
passes over the weight.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from refimpl.schemes.rules import Rule

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Way:
    """One division of the weights into units: rows class times columns class.

    Attributes:
        row: integers (F,), the class of every filter; they rise from 0 without gaps.
        column: integers (columns,), the class of every column, numbered from 0 without gaps.
        rule: what may stay of every group of these units.
    """

    row: np.ndarray
    column: np.ndarray
    rule: Rule

    @property
    def sizes(self) -> tuple[int, int]:
        """How many classes of rows and of columns there are."""
        return int(self.row[-1]) + 1, int(self.column.max()) + 1

    def reduce(self, values: np.ndarray, by: np.ufunc) -> np.ndarray:
        """`values` (F, columns) brought together by unit, (units,), with `by`: add or bitwise_or.

        Both leave a value as it is where it meets 0.
        """
        if self.row[-1] + 1 < len(self.row):
            values = by.reduce(_stacked(values, self.row), axis=1)
        column = self.column
        if (column[1:] < column[:-1]).any():
            order = np.argsort(column, kind="stable")
            values, column = values[:, order], column[order]
        if column[-1] + 1 < len(column):
            values = by.reduceat(values, _starts(column), axis=1)
        return values.ravel()

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Every unit's value (units,) at each of its weights: (F, columns)."""
        by_column = np.take(values.reshape(self.sizes), self.column, axis=1)
        return np.repeat(by_column, np.bincount(self.row), axis=0)


@dataclass(frozen=True, eq=False)
class Units:
    """The units of one weight.

    Attributes:
        shape: of the weight, (F, C, *kernel).
        ways: how the weights are divided.  Units are numbered from 0 through all ways, in each by
            class of rows and then by class of columns; none is empty.
        group: integers (units,), the group of every unit, numbered from 0 through all ways; none
            is empty, and none has units of two ways.
        strip: integers (F,), the strip of every filter, within which units lie; None where units
            span strips.
    """

    shape: Shape
    ways: tuple[Way, ...]
    group: np.ndarray
    strip: np.ndarray | None

    @property
    def count(self) -> int:
        """How many units there are."""
        return len(self.group)

    def strips(self) -> np.ndarray:
        """The strip of every unit, integers (units,); all 0 where units span strips."""
        if self.strip is None:
            return np.zeros(self.count, int)
        each = [(self.strip[_starts(way.row)], way.sizes[1]) for way in self.ways]
        return np.concatenate([np.repeat(strip, columns) for strip, columns in each])

    @property
    def spans(self) -> tuple[slice, ...]:
        """Where the units of every way are among all."""
        ends = np.cumsum([prod(way.sizes) for way in self.ways]).tolist()
        return tuple(map(slice, [0, *ends[:-1]], ends))

    def ruled(self) -> Iterator[tuple[slice, Rule]]:
        """Where the units of every way are among all, and their rule."""
        yield from zip(self.spans, (way.rule for way in self.ways), strict=True)

    @cached_property
    def unit(self) -> np.ndarray:
        """The unit of every weight in each way, integers (ways, *shape): the ways written out."""
        number = np.arange(self.count)
        return np.stack([self._at(way, number[span]) for way, span in self._each()])

    def total(self, values: np.ndarray) -> np.ndarray:
        """Sum of `values` (shape of the weight) over each unit, float64 (units,)."""
        matrix = np.asarray(values, np.float64).reshape(self.shape[0], -1)
        return np.concatenate([way.reduce(matrix, np.add) for way in self.ways])

    def touched(self, mask: np.ndarray) -> np.ndarray:
        """Which units have any of the mask's weights, bool (units,)."""
        matrix = mask.reshape(self.shape[0], -1).view(np.uint8)  # whose reduceat is the faster
        return np.concatenate([way.reduce(matrix, np.bitwise_or) for way in self.ways]).view(bool)

    def size(self) -> np.ndarray:
        """How many weights each unit has, integers (units,)."""
        sides = [(np.bincount(way.row), np.bincount(way.column)) for way in self.ways]
        return np.concatenate([np.outer(rows, columns).ravel() for rows, columns in sides])

    def mask(self, kept: np.ndarray) -> np.ndarray:
        """The mask, bool of the weight's shape, that keeping these units (bool, units) makes."""
        return np.logical_and.reduce([self._at(way, kept[span]) for way, span in self._each()])

    def least(self, values: np.ndarray) -> np.ndarray:
        """At every weight the least value (units,) of its units, of the weight's shape."""
        return np.minimum.reduce([self._at(way, values[span]) for way, span in self._each()])

    def stays(self, way: int, kept: np.ndarray) -> np.ndarray:
        """The mask that keeping units (bool, all units) makes where only one way counts."""
        return self._at(self.ways[way], kept[self.spans[way]])

    def place(self, unit: int) -> str:
        """Where a unit lies, in words: the bounding box of its weights."""
        return self._place(np.array([unit]))

    def group_place(self, group: int) -> str:
        """Where a group lies, in words: the bounding box of its weights."""
        return self._place(np.flatnonzero(self.group == group))

    def _each(self) -> Iterator[tuple[Way, slice]]:
        return zip(self.ways, self.spans, strict=True)

    def _at(self, way: Way, values: np.ndarray) -> np.ndarray:
        return way.spread(values).reshape(self.shape)

    def _place(self, units: np.ndarray) -> str:
        """The box around units of one way as "filters 0 to 7, channels 4 to 7, kernel ..."."""
        way, span = next((w, s) for w, s in self._each() if units[0] < s.stop)
        row, column = np.divmod(units - span.start, way.sizes[1])
        filters = np.flatnonzero(np.isin(way.row, row))
        others = np.unravel_index(np.flatnonzero(np.isin(way.column, column)), self.shape[1:])
        spans = [(int(index.min()), int(index.max())) for index in (filters, *others)]
        return _in_words(spans)


def _starts(classes: np.ndarray) -> np.ndarray:
    """Where every class of a rising list begins."""
    return np.flatnonzero(np.diff(classes, prepend=-1))


def _stacked(values: np.ndarray, row: np.ndarray) -> np.ndarray:
    """The rows of every class (classes, most rows of one, columns), filled up with rows of 0.

    A reduction of this takes a hundredth of the time of `reduceat` along the rows.
    """
    counts = np.bincount(row)
    most = int(counts.max())
    if (counts == most).all():
        return values.reshape(len(counts), most, -1)
    stacked = np.zeros((len(counts), most, values.shape[1]), values.dtype)
    stacked[row, np.arange(len(row)) - _starts(row)[row]] = values
    return stacked


def _in_words(spans: list[tuple[int, int]]) -> str:
    words = [
        f"{noun} {a}" if a == b else f"{noun}s {a} to {b}"
        for noun, (a, b) in zip(("filter", "channel"), spans, strict=False)
    ]
    kernel = [str(a) if a == b else f"{a} to {b}" for a, b in spans[2:]]
    if kernel:
        words.append(f"kernel position ({', '.join(kernel)})")
    return ", ".join(words)


def part_height(shape: Shape, parts: int) -> int:
    """How many filters a part has that no strip straddles: a convolution group, or a gate.

    Depthwise convolutions, whose every group reads one channel, are a family of their own: all
    filters are one part, for a strip of them is what a vector computes, each filter on its own
    channel; a block within one group would be a single kernel.
    """
    filters, channels, *kernel = shape
    return filters if kernel and channels == 1 else filters // parts


def strip_of(shape: Shape, height: int, parts: int) -> np.ndarray:
    """The strip of every filter, integers (F,): runs of `height`, none across two parts.

    The last strip of a part is shorter where `height` does not divide the part.
    """
    part, index = part_height(shape, parts), np.arange(shape[0])
    return index // part * -(-part // height) + index % part // height
