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
    whole = np.ones((1, 1))
    for t in transforms:
        whole = np.kron(whole, array(t.g, object) * denominator(t)).astype(np.float64)
    filters, channels = w.shape[:2]
    with np.errstate(invalid="ignore"):  # an infinite weight makes NaN of its whole kernel
        summed = whole @ w.astype(np.float64).reshape(filters * channels, -1).T
    scale = prod(denominator(t) for t in transforms)
    return (summed / scale).reshape(*(t.n for t in transforms), filters, channels)


def denominator(t: Transform) -> int:
    """The least integer that makes all entries of G whole."""
    return lcm(*(entry.denominator for row in t.g for entry in row))
