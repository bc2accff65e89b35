"""The transform of a weight, done once, before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from math import lcm, prod

import numpy as np

from refimpl.winograd.transforms import Transform, array


def transform_weight(w: np.ndarray, transforms: Sequence[Transform]) -> np.ndarray:
    """G applied to every axis of a kernel.

    Summed with integers in place of G's fractions and divided once, so that what divides evenly
    is exact.

    Args:
        w: [F, C, *K].
        transforms: one for each axis of the kernel.

    Returns:
        float64 [*n, F, C]: for every point of a tile a matrix of filters by channels.
    """
    result = w.astype(np.float64)
    for axis, t in enumerate(transforms):
        whole = array(t.g, object) * denominator(t)
        with np.errstate(invalid="ignore"):  # an infinite weight makes NaN of its whole kernel
            summed = np.tensordot(whole.astype(np.float64), result, (1, 2 + axis))
        result = np.moveaxis(summed, 0, 2 + axis)
    points = range(2, result.ndim)
    scale = prod(denominator(t) for t in transforms)
    return np.moveaxis(result / scale, points, range(result.ndim - 2))


def denominator(t: Transform) -> int:
    """The least integer that makes all entries of G whole."""
    return lcm(*(entry.denominator for row in t.g for entry in row))
