"""How outputs are cut into tiles, and by which transforms each tile is computed."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import prod

import numpy as np

from refimpl.winograd.transforms import Transform, cook_toom

LONGEST = 8
"""Inputs of a tile along an axis: kernels hold them in registers, and float32 its digits."""
_FIVE = tuple(map(Fraction, ("0", "1/2", "-1/2", "2", "-2")))
"""Points of F(4, 3) and others that take five.  Beside 0, 1, -1, 2, -2 they amplify rounding by 7
instead of 16 along each axis, and most of their products, by powers of two, do not round at all."""


def transforms(outputs: Sequence[int], kernel: Sequence[int]) -> tuple[Transform, ...]:
    """F(m, r) of every axis."""
    return tuple(
        cook_toom(m, r, _FIVE if m + r == 7 and min(m, r) > 1 else None)
        for m, r in zip(outputs, kernel, strict=True)
    )


def taps(outputs: Sequence[int], tile: Sequence[int]) -> tuple[int, ...]:
    """Taps of the kernel along every axis, from the outputs and the inputs of a tile."""
    return tuple(t - m + 1 for m, t in zip(outputs, tile, strict=True))


def points(outputs: Sequence[int], kernel: Sequence[int]) -> int:
    """Points of a transformed tile."""
    return prod(m + r - 1 for m, r in zip(outputs, kernel, strict=True))


def tile_counts(outputs: Sequence[int], positions: Sequence[int]) -> tuple[int, ...]:
    """Tiles along every axis; the last one may overlap the one before it."""
    return tuple(-(-o // m) for m, o in zip(outputs, positions, strict=True))


def tile_starts(outputs: Sequence[int], positions: Sequence[int]) -> list[np.ndarray]:
    """The first output of every tile, along every axis: the last tile ends where the axis does."""
    counts = tile_counts(outputs, positions)
    axes = zip(counts, outputs, positions, strict=True)
    return [np.minimum(np.arange(count) * m, o - m) for count, m, o in axes]
