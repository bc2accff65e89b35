"""How far Winograd in floating point may be from the exact convolution.

Every result is a sum of products of a matrix entry of A, one of G, one of B, a weight and an
input.  Each such product is rounded at most `roundings` times on its way, so with unit roundoff u
the sum is off by at most gamma(roundings) times the sum of the products' absolute values, where
gamma(k) = k u / (1 - k u) (Higham, Accuracy and Stability of Numerical Algorithms, lemma 3.1).
That sum is the same algorithm run on absolute values with |A|, |G|, |B|.  Against direct
convolution it is larger by at most the `amplification`, a property of the transforms alone.

Barring overflow and underflow.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from refimpl.winograd.convolution import convolve
from refimpl.winograd.transforms import Matrix, Transform

if TYPE_CHECKING:  # operators are defined by what is here
    from refimpl.ops.windows import Padding

# More than rounding in the bound's own computation, and rounding entries twice, can take from it.
_SLACK = 1 + 2.0**-26


def amplification(transforms: Sequence[Transform]) -> Fraction:
    """How many times larger than in direct convolution the products' absolute values can sum to.

    max over outputs i of sum over j of |A[i,j]| (sum over k of |G[j,k]|) (sum over l of |B[j,l]|),
    divided by the r of direct convolution, for inputs and weights up to 1; axes multiply.
    """
    return prod((_amplification(t) for t in transforms), start=Fraction(1))


def _amplification(t: Transform) -> Fraction:
    gain = [_norm(g) * _norm(b) for g, b in zip(t.g, t.b, strict=True)]
    rows = (sum((abs(x) * y for x, y in zip(row, gain, strict=True)), Fraction(0)) for row in t.a)
    return max(rows) / t.r


def _norm(row: Sequence[Fraction]) -> Fraction:
    return sum(map(abs, row), Fraction(0))


def roundings(transforms: Sequence[Transform], channels: int) -> int:
    """How often a product is rounded at most, on its way through transforms and sums.

    By a matrix of at most z non-zeros in a row: once as the entry, once as the product, z - 1
    times in sums (in any order, fused or not); the identity is no operation.  Then one product
    and the sum over `channels`.
    """
    return channels + sum(_rounds(matrix) for t in transforms for matrix in (t.a, t.g, t.b))


def _rounds(matrix: Matrix) -> int:
    if all(entry == (i == j) for i, row in enumerate(matrix) for j, entry in enumerate(row)):
        return 0
    return max(sum(entry != 0 for entry in row) for row in matrix) + 1


def error_bound(
    x: np.ndarray,
    w: np.ndarray,
    transforms: Sequence[Transform],
    padding: Padding,
    *,
    groups: int = 1,
    dtype: Any = np.float32,
) -> np.ndarray:
    """The largest error of every output when `convolve` runs in a float dtype.

    Args:
        x: [N, C, *S], exact in that dtype.
        w: [F, C/groups, *K], exact in that dtype.
        transforms: as for `convolve`.
        padding: as for `convolve`.
        groups: as for `convolve`.
        dtype: what is computed in: each operation rounds to it.

    Returns:
        float64 [N, F, *O].

    Raises:
        WinogradError: the transforms or shapes do not fit each other.
    """
    sizes = magnitude(x, w, transforms, padding, groups=groups)
    lost = roundings(transforms, w.shape[1]) * float(np.finfo(dtype).eps) / 2
    return sizes * (lost / (1 - lost) * _SLACK)


def magnitude(
    x: np.ndarray,
    w: np.ndarray,
    transforms: Sequence[Transform],
    padding: Padding,
    *,
    groups: int = 1,
) -> np.ndarray:
    """The sum of the products' absolute values for every output, float64; as for `convolve`."""
    x, w = (np.abs(array).astype(np.float64) for array in (x, w))
    return convolve(x, w, [_absolute(t) for t in transforms], padding, groups=groups)


def _absolute(t: Transform) -> Transform:
    a, g, b = (tuple(tuple(map(abs, row)) for row in matrix) for matrix in (t.a, t.g, t.b))
    return Transform(t.m, t.r, a, g, b)
