"""Cook-Toom transforms: F(m, r) along one axis, derived exactly from its points.

F(m, r) computes m outputs of a correlation with r taps, y[i] = sum over k of g[k] d[i + k], from
n = m + r - 1 inputs by n products (Lavin and Gray, arXiv 1509.09308, equation 8):

    y = A [(G g) * (B d)]        A is (m, n), G (n, r), B (n, n), * element by element

The polynomials g and y of degrees r - 1 and m - 1 are multiplied by evaluating both at n points,
infinity among them, and interpolating (Toom, Cook); the transposed algorithm is the correlation.
So A and G evaluate, and B is the transposed interpolation.  Interpolation divides by products of
differences of points; that division is put into G, which leaves B integer for integer points, and
is applied once to a weight rather than to every input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import prod
from typing import Any

import numpy as np

Matrix = tuple[tuple[Fraction, ...], ...]

POINTS = tuple(map(Fraction, ("0", "1", "-1", "2", "-2", "1/2", "-1/2", "4", "-4", "1/4", "-1/4")))
"""The points taken in this order where none are chosen; infinity is always the last."""


class WinogradError(ValueError):
    """Transforms or shapes that do not fit; the message says which."""


@dataclass(frozen=True)
class Transform:
    """F(m, r) along one axis: the three matrices, as exact fractions.

    Attributes:
        m: outputs of a tile.
        r: taps of the kernel.
        a: output transform (m, n).
        g: weight transform (n, r), or (n, n) for a weight of points.
        b: input transform (n, n).
    """

    m: int
    r: int
    a: Matrix
    g: Matrix
    b: Matrix

    @property
    def n(self) -> int:
        """Inputs of a tile, and products: m + r - 1."""
        return len(self.b)

    def of_points(self) -> Transform:
        """The same for a weight of n transformed points in place of r taps: G is the identity."""
        return replace(self, g=_identity(self.n))

    def arrays(self, dtype: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(a, g, b) as arrays; dtype object keeps the fractions, others round each."""
        return array(self.a, dtype), array(self.g, dtype), array(self.b, dtype)


def array(matrix: Matrix, dtype: Any) -> np.ndarray:
    """A matrix of fractions as an array, each rounded to the nearest of the dtype."""
    exact = np.array(matrix, object)
    if np.dtype(dtype) == np.dtype(object):
        return exact
    # By way of float64: rounding twice errs by at most 2^-29 of a rounding more.
    return exact.astype(np.float64).astype(dtype)


def cook_toom(m: int, r: int, points: Sequence[Fraction | int] | None = None) -> Transform:
    """The transforms of F(m, r).

    m = 1 is no Winograd at all along this axis, and so is r = 1: the products are those of the
    direct convolution, and inputs and weights are not transformed.

    Args:
        m: outputs of a tile, 1 or more.
        r: taps, 1 or more.
        points: m + r - 2 different rationals, not needed where m or r is 1; by default the first
            of `POINTS`.

    Raises:
        WinogradError: a size is below 1, or the points are not as many different ones.
    """
    if m < 1 or r < 1:
        raise WinogradError(f"F({m}, {r}) does not exist; both sizes are 1 or more.")
    if m == 1 or r == 1:
        return _direct(m, r)
    chosen = _points(m, r, points)
    others = [chosen[:i] + chosen[i + 1 :] for i in range(len(chosen))]
    finite = list(zip(chosen, others, strict=True))
    a = [[p**i for p in chosen] + [Fraction(i == m - 1)] for i in range(m)]
    g = [[p**k / prod(p - q for q in rest) for k in range(r)] for p, rest in finite]
    g.append([Fraction(k == r - 1) for k in range(r)])
    b = [[*_with_roots(rest), Fraction(0)] for rest in others]
    b.append(_with_roots(chosen))
    return Transform(m, r, _matrix(a), _matrix(g), _matrix(b))


def _direct(m: int, r: int) -> Transform:
    """m = 1: y = sum of g * d.  r = 1: y = g d for each of m inputs."""
    n = m + r - 1
    one = _identity(n)
    row, column = _matrix([[Fraction(1)] * n]), _matrix([[Fraction(1)]] * n)
    return Transform(m, r, row, one, one) if m == 1 else Transform(m, r, one, column, one)


def _identity(n: int) -> Matrix:
    return _matrix([[Fraction(i == j) for j in range(n)] for i in range(n)])


def _points(m: int, r: int, points: Sequence[Fraction | int] | None) -> tuple[Fraction, ...]:
    """The finite points of F(m, r), checked."""
    count = m + r - 2
    chosen = tuple(map(Fraction, POINTS[:count] if points is None else points))
    if not len(set(chosen)) == len(chosen) == count:
        raise WinogradError(
            f"F({m}, {r}) needs {count} different points besides infinity; given are "
            f"{len(set(chosen))} ({', '.join(map(str, chosen))})."
        )
    return chosen


def _with_roots(roots: Sequence[Fraction]) -> list[Fraction]:
    """Coefficients, lowest first, of the product of (x - root)."""
    polynomial = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *polynomial]
        scaled = [*(root * c for c in polynomial), Fraction(0)]
        polynomial = [s - c for s, c in zip(shifted, scaled, strict=True)]
    return polynomial


def _matrix(rows: Sequence[Sequence[Fraction]]) -> Matrix:
    return tuple(tuple(row) for row in rows)
