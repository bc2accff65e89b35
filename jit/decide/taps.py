"""Which taps of a kernel are of use to which outputs: the others meet padding only.

Products with padding are products with zero: a third of all in a 3-D convolution of two planes,
a tenth and more in rows of seven.  Columns lie by block of channels, then by kernel position, so
what a row of outputs uses of one plane of the kernel is one range of runs.  Leaving out the rest
costs two numbers for each block and kind of row; all rows pass while a block's weights are near.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import prod

import numpy as np

from refimpl.graph import Shape
from refimpl.tiles import Tile


@dataclass(frozen=True)
class Axis:
    """An axis along which a kernel slides; `before` are the zeros of padding before the input."""

    outputs: int
    inputs: int
    taps: int
    stride: int
    dilation: int
    before: int

    def used(self, begin: int, end: int) -> range:
        """From the first to the last tap that meets the input for an output in [begin, end)."""
        found = [tap for o in range(begin, end) for tap in self._met(o)]
        return range(min(found), max(found) + 1) if found else range(0)

    def _met(self, output: int) -> range:
        at = output * self.stride - self.before
        first, last = -(at // self.dilation), (self.inputs - 1 - at) // self.dilation
        return range(max(first, 0), max(min(last + 1, self.taps), 0))


Kind = tuple[range, range]
"""What a tile uses: planes of the kernel, and rows of each of them."""


def outer_axes(attributes: dict[str, tuple], x: Shape, weight: Shape, spatial: Shape) -> list[Axis]:
    """The axes of a convolution but the last, outermost first.

    Args:
        attributes: stride, dilation and padding by axis.
        x, weight: (N, C, *spatial) and (F, C, *K).
        spatial: output positions by axis.
    """
    if not spatial:
        return []
    befores = (before for before, _ in attributes["padding"])
    steps = attributes["stride"], attributes["dilation"]
    every = zip(spatial, x[2:], weight[2:], *steps, befores, strict=True)
    return [Axis(*numbers) for numbers in every][:-1]


@lru_cache(maxsize=4096)
def useful_share(axis: Axis, together: int) -> float:
    """The share of an axis's products that are done where so many outputs share their taps."""
    begins = range(0, axis.outputs, together)
    ends = [min(begin + together, axis.outputs) for begin in begins]
    done = sum((e - b) * len(axis.used(b, e)) for b, e in zip(begins, ends, strict=True))
    return done / (axis.outputs * axis.taps)


def kinds_of_tiles(
    axes: Sequence[Axis], rows: tuple[int, int, int]
) -> tuple[list[Kind], np.ndarray]:
    """The kinds of tiles of a region, and which kind each of its rows of tiles is of.

    Args:
        axes: from `outer_axes`; none where there is nothing to leave out.
        rows: the region's first row of outputs, the one after its last, and rows of a tile.

    Returns:
        (kinds, int32: by plane, then by row of tiles); a region without axes has one of each.
    """
    begin, end, together = rows
    planes = [a.used(o, o + 1) for a in axes[:-1] for o in range(a.outputs)]
    lines = [a.used(r, r + together) for a in axes[-1:] for r in range(begin, end, together)]
    every = list(product(planes or [range(1)], lines or [range(1)]))
    kinds = list(dict.fromkeys(every))
    return kinds, np.array([kinds.index(kind) for kind in every], np.int32)


@dataclass(frozen=True)
class Runs:
    """The runs of columns of some strips.

    Attributes:
        first: for every block of runs of every strip its first run, and the end of all; a block
            is of some channels, and of one of the `planes` of the kernel.
        row: the kernel's row that each run is of; it never falls within a block.
    """

    first: np.ndarray
    row: np.ndarray
    planes: int

    def of(self, kinds: Sequence[Kind]) -> dict[str, np.ndarray]:
        """`first` and `last`, int32: of every block, for every kind, the runs that it uses."""
        begin = np.repeat(self.first[:-1, None], len(kinds), axis=1)
        ends = {"first": begin.copy(), "last": begin}
        for block, (a, b) in enumerate(zip(self.first, self.first[1:], strict=False)):
            for kind, (planes, rows) in enumerate(kinds):
                if block % self.planes in planes:
                    found = np.searchsorted(self.row[a:b], (rows.start, rows.stop))
                    ends["first"][block, kind] += found[0]
                    ends["last"][block, kind] += found[1]
        return {name: array.reshape(-1).astype(np.int32) for name, array in ends.items()}


def row_of_runs(shape: Shape, strips: Sequence[Tile], run: int) -> np.ndarray:
    """The kernel's row that each run of columns is of; 0 for kernels of fewer than two axes."""
    columns = np.concatenate([tile.columns[::run] for tile in strips]).astype(np.int64)
    if len(shape) < 4:
        return np.zeros_like(columns)
    return columns % prod(shape[-2:]) // shape[-1]
