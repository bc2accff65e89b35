"""The model of float32 arithmetic that error bounds are derived in.

    fl(a op b) = (a op b)(1 + d) + t,   |d| <= u = 2^-24,   |t| <= eta = 2^-149

(Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., eq. 2.4 and 2.8.)  t stands for
underflow, and is not 0 only in products and quotients; on machines that flush it is 2^-126.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

U = 2.0**-24
"""Unit roundoff of float32: half the distance from 1 to the next number."""
LARGEST = float(np.finfo(np.float32).max)
SMALLEST_NORMAL = 2.0**-126
SMALLEST = 2.0**-149


@dataclass(frozen=True)
class Arithmetic:
    """What a machine's float32 does.

    ulps: error of the primitives that are not rounded correctly (`exp`, `tanh`, `log`, ...) in
    units in the last place of the result; fused: products are fused onto a sum that began as the
    bias; flush: denormals become 0.
    """

    ulps: Mapping[str, float]
    fused: bool
    flush: bool = False

    @property
    def eta(self) -> float:
        """The most that underflow adds to one product or quotient."""
        return SMALLEST_NORMAL if self.flush else SMALLEST

    def relative(self, primitive: str) -> float:
        """Relative error of a primitive: an ulp is at most 2 u of what it is the last place of."""
        return 2 * U * self.ulps[primitive]


def gamma(n: float | np.ndarray) -> np.ndarray:
    """n u / (1 - n u), which bounds the product of n factors 1 + d (his lemma 3.1).

    Infinite from n u = 1 on.
    """
    nu = np.asarray(n, np.float64) * U
    with np.errstate(divide="ignore"):
        return np.where(nu < 1, nu / np.maximum(1 - nu, 0), np.inf)
