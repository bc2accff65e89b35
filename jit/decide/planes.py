"""Which planes of a kernel are of use to which planes of the output: the others meet padding only.

Products with padding are products with zero, a third of all in a 3-D convolution of two planes.
Columns lie by block of channels, then by kernel position, so the runs of some planes of the kernel
are neighbours in each block, and leaving out the others costs a launch and two numbers per block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import prod

import numpy as np

from refimpl.graph import Attributes, Shape
from refimpl.tiles import Tile


@dataclass(frozen=True)
class Planes:
    """Output planes from `begin` to `end`, which use the kernel's planes `taps`."""

    begin: int
    end: int
    taps: range


def every_plane(outputs: int, taps: int) -> list[Planes]:
    """All planes of the output, using all of the kernel's."""
    return [Planes(0, outputs, range(taps))]


def useful_planes(
    outputs: int, inputs: int, taps: int, stride: int, dilation: int, before: int
) -> list[Planes]:
    """The output's planes, neighbours together that use the same planes of the kernel.

    Args:
        outputs, inputs, taps: planes of the output, the input and the kernel.
        stride, dilation, before: of the convolution; planes of padding before the input.
    """

    def used(plane: int) -> tuple[int, ...]:
        at = plane * stride - before
        return tuple(k for k in range(taps) if 0 <= at + k * dilation < inputs)

    return list(_grouped(outputs, used))


def useful_products(given: Attributes, weight: Shape, x: Shape, outputs: Shape) -> float:
    """The share of a convolution's products that are not with planes of padding.

    Args:
        given: its stride, padding and dilation.
        weight: (F, C, *K).
        x: (N, C, *S).
        outputs: positions along every axis.
    """
    if len(outputs) < 3:
        return 1.0
    a, taps = dict(given), weight[2]
    before, _ = a["padding"][0]
    planes = useful_planes(outputs[0], x[2], taps, a["stride"][0], a["dilation"][0], before)
    return useful_share(planes, taps)


def useful_share(planes: Sequence[Planes], taps: int) -> float:
    """The share of products that remain, of `taps` planes of the kernel for every output plane."""
    done = sum((p.end - p.begin) * len(p.taps) for p in planes)
    return done / (planes[-1].end * taps)


def _grouped(outputs: int, used: Callable[[int], tuple[int, ...]]) -> Iterator[Planes]:
    for taps, group in groupby(range(outputs), key=used):
        planes = list(group)
        span = range(taps[0], taps[-1] + 1) if taps else range(0)
        yield Planes(planes[0], planes[-1] + 1, span)


@dataclass(frozen=True)
class Runs:
    """The runs of columns of some strips.

    Attributes:
        first: for every block of channels of every strip its first run, and the end of all.
        plane: the kernel's plane that each run is of; it never falls within a block.
    """

    first: np.ndarray
    plane: np.ndarray

    def within(self, taps: range) -> dict[str, np.ndarray]:
        """`first` and `last`, int32: of every block, the runs that are of those planes."""
        ends = {"first": taps.start, "last": taps.stop}
        groups = [self.plane[a:b] for a, b in zip(self.first, self.first[1:], strict=False)]
        return {
            name: (self.first[:-1] + [np.searchsorted(g, tap) for g in groups]).astype(np.int32)
            for name, tap in ends.items()
        }


def plane_of_runs(shape: Shape, strips: Sequence[Tile], run: int) -> np.ndarray:
    """The kernel's plane that each run of columns is of; 0 for kernels of fewer than three axes."""
    columns = np.concatenate([tile.columns[::run] for tile in strips]).astype(np.int64)
    if len(shape) < 5:
        return np.zeros_like(columns)
    return columns % prod(shape[2:]) // prod(shape[3:])
