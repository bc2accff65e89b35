"""What a machine's floating point does to single operations, and how errors pass through them.

The model (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., eq. 2.4 and 2.8):

    fl(a op b) = (a op b)(1 + d) + t,   |d| <= u,   |t| <= eta

u is half the distance from 1 to the next number.  t stands for underflow: it is not 0 only in
products and quotients, where eta is the smallest number; where denormals become 0 (`flush`) eta
is the smallest normal number, every result may lose as much, and so may every operand.

`Near` and the operations of `Arithmetic` carry an error along an expression as it is compiled
(running error analysis, ibid. section 3.3): with a' and b' within A and B of a and b,

    add, sub    A + B, then one rounding
    mul         |a| B + |b| A + A B, then one rounding
    div         (A + |a/b| B) / (|b| - B), then one rounding
    sqrt        A / (sqrt(a) + sqrt(a - A)), or sqrt(A) where a <= A, then one rounding
    exp         e^a (e^A - 1), then the ulps of `exp`
    log         -log(1 - A / a), then the ulps of `log`
    total       sum of A + g(n - 1) (sum of |a| + A), with g(n) = gamma_n = n u / (1 - n u)
    a rounding  u (|y| + Y) + eta of a result y that was within Y; nothing where Y is 0 and y is a
                number of the format, since these operations are correctly rounded
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Format:
    """A binary floating point format of IEEE 754's kind.

    precision: digits of the significand, the hidden one included; least_exponent: of the smallest
    normal number, 2^least_exponent.
    """

    precision: int
    least_exponent: int

    @property
    def unit(self) -> float:
        """The unit roundoff u: half the distance from 1 to the next number."""
        return 2.0**-self.precision

    @property
    def smallest_normal(self) -> float:
        """The smallest positive number of full precision."""
        return 2.0**self.least_exponent

    @property
    def smallest(self) -> float:
        """The smallest positive number."""
        return 2.0 ** (self.least_exponent - self.precision + 1)

    @property
    def largest(self) -> float:
        """The largest finite number."""
        return (2 - 2 * self.unit) * 2.0 ** (1 - self.least_exponent)

    def round(self, x: np.ndarray) -> np.ndarray:
        """x to the nearest number of the format, ties to even; past the largest, infinity."""
        _, exponent = np.frexp(np.where(np.isfinite(x), x, 0.0))
        step = np.ldexp(1.0, np.maximum(exponent, self.least_exponent + 1) - self.precision)
        near = np.where(np.isfinite(x), np.rint(x / step) * step, x)
        return np.where(np.abs(near) > self.largest, np.copysign(np.inf, near), near)


FLOAT32 = Format(24, -126)
FLOAT16 = Format(11, -14)

U = FLOAT32.unit
"""Unit roundoff of float32, 2^-24."""
LARGEST = FLOAT32.largest
SMALLEST_NORMAL = FLOAT32.smallest_normal


def gamma(n: float | np.ndarray, unit: float = U) -> np.ndarray:
    """n u / (1 - n u): bounds the product of n factors 1 + d. Infinite from n u = 1 on."""
    nu = np.asarray(n, np.float64) * unit
    with np.errstate(divide="ignore"):
        return np.where(nu < 1, nu / np.maximum(1 - nu, 0), np.inf)


def finite(x: np.ndarray) -> np.ndarray:
    """x with 0 in place of infinities and NaN."""
    return np.where(np.isfinite(x), x, 0.0)


def quantum(x: np.ndarray) -> float:
    """The largest power of two that divides every finite value; infinity if all are 0."""
    x = np.abs(x[np.isfinite(x) & (x != 0)])
    if not x.size:
        return np.inf
    mantissa, exponent = np.frexp(x)
    whole = (mantissa * 2.0**53).astype(np.int64)
    return float(np.ldexp((whole & -whole).astype(np.float64), exponent - 53).min())


@dataclass(frozen=True)
class Near:
    """Numbers that a machine holds within `error` of `exact`; float64, the shapes broadcast.

    Infinite error: nothing is known.  Where `exact` is not finite and the error is, the machine
    holds the same infinity, or NaN.
    """

    exact: np.ndarray
    error: np.ndarray

    @property
    def size(self) -> np.ndarray:
        """The most that their absolute value can be; infinities and NaN count as 0."""
        return np.abs(finite(self.exact)) + self.error

    def __getitem__(self, place: object) -> Near:
        exact, error = np.broadcast_arrays(self.exact, self.error)
        return Near(exact[place], error[place])  # type: ignore[index]

    def reshape(self, *shape: int) -> Near:
        """The same numbers in another shape, as NumPy reshapes."""
        exact, error = np.broadcast_arrays(self.exact, self.error)
        return Near(exact.reshape(shape), error.reshape(shape))


def known(x: np.ndarray | float) -> Near:
    """Numbers that the machine was given."""
    x = np.asarray(x, np.float64)
    return Near(x, np.zeros(()))


@dataclass(frozen=True)
class Arithmetic:
    """What a machine's floats do.

    ulps: error of `exp`, `log`, `tanh` and their like in units in the last place of the result;
    fused: products are fused onto a sum that began as the bias; flush: denormals become 0;
    format: of every number.
    """

    ulps: Mapping[str, float]
    fused: bool
    flush: bool = False
    format: Format = FLOAT32

    @property
    def eta(self) -> float:
        """The most that underflow adds to one product or quotient."""
        return self.format.smallest_normal if self.flush else self.format.smallest

    @property
    def lost(self) -> float:
        """The most that flushing takes from one operand, or from one sum."""
        return self.format.smallest_normal if self.flush else 0.0

    def gamma(self, n: float | np.ndarray) -> np.ndarray:
        """gamma_n of the format."""
        return gamma(n, self.format.unit)

    def relative(self, primitive: str) -> float:
        """Relative error of a primitive: an ulp is at most 2 u of what it is the last place of."""
        return 2 * self.format.unit * self.ulps[primitive]

    def represents(self, x: np.ndarray) -> np.ndarray:
        """Where x is a number that the machine can hold."""
        held = self.format.round(x) == x
        return (
            held & ((x == 0) | (np.abs(x) >= self.format.smallest_normal)) if self.flush else held
        )

    def sums_exactly(self, grain: float, magnitude: np.ndarray) -> np.ndarray:
        """Where no sum of multiples of `grain`, no larger than `magnitude`, is ever rounded."""
        smallest = self.format.smallest_normal if self.flush else self.format.smallest
        return (grain >= smallest) & (magnitude <= grain / self.format.unit)

    def constant(self, x: float) -> Near:
        """A number of an attribute, which compiled code rounds to the format."""
        held = self.format.round(np.array(float(x)))
        return Near(np.array(float(x)), np.abs(held - x) if np.isfinite(x) else np.zeros(()))

    # -- operations ----------------------------------------------------------------------------

    def rounded(self, exact: np.ndarray, error: np.ndarray, underflow: float) -> Near:
        """The nearest number to a result that was within `error` of `exact`.

        Where the result may pass the largest number, nothing is known.
        """
        size = np.abs(finite(exact)) + error
        sharp = (error == 0) & self.represents(exact)
        after = np.where(sharp, 0.0, error + self.format.unit * size + underflow)
        return self.bounded(exact, after)

    def bounded(self, exact: np.ndarray, error: np.ndarray) -> Near:
        """exact within `error`; infinite where that may pass the largest number or is NaN."""
        error = np.where(np.isnan(error), np.inf, error)
        error = np.where(np.isfinite(exact) | np.isinf(error), error, 0.0)
        past = np.abs(finite(exact)) + error >= self.format.largest
        return Near(exact, np.where(past, np.inf, error))

    def read(self, a: Near) -> Near:
        """a as an operation reads it: a machine that flushes may take a denormal for 0."""
        if not self.flush:
            return a
        normal = (np.abs(a.exact) - a.error >= self.lost) | ((a.exact == 0) & (a.error == 0))
        return Near(a.exact, np.where(normal, a.error, a.error + self.lost))

    def add(self, a: Near, b: Near) -> Near:
        """a + b."""
        a, b = self.read(a), self.read(b)
        return self.rounded(a.exact + b.exact, a.error + b.error, self.lost)

    def sub(self, a: Near, b: Near) -> Near:
        """a - b."""
        return self.add(a, Near(-b.exact, b.error))

    def mul(self, a: Near, b: Near) -> Near:
        """a * b."""
        a, b = self.read(a), self.read(b)
        error = np.abs(finite(a.exact)) * b.error + b.size * a.error
        # Infinity times what may be 0, or of either sign.
        unsure = (np.isinf(a.exact) & _straddles(b)) | (np.isinf(b.exact) & _straddles(a))
        return self.rounded(a.exact * b.exact, np.where(unsure, np.inf, error), self.eta)

    def div(self, a: Near, b: Near) -> Near:
        """a / b."""
        a, b = self.read(a), self.read(b)
        quotient = a.exact / b.exact
        least = np.where(
            np.isfinite(b.exact) | np.isinf(b.error), np.abs(b.exact) - b.error, np.inf
        )
        error = np.where(least > 0, (a.error + np.abs(finite(quotient)) * b.error) / least, np.inf)
        by_zero = (b.exact == 0) & (b.error == 0) & ~_straddles(a)
        return self.rounded(quotient, np.where(by_zero, 0.0, error), self.eta)

    def sqrt(self, a: Near) -> Near:
        """The root of a, which the machine holds as no negative number."""
        a = self.read(a)
        root = np.sqrt(a.exact)
        above = a.error / (root + np.sqrt(np.maximum(a.exact - a.error, 0)))
        error = np.where(a.exact > a.error, above, np.sqrt(a.error))
        return self.rounded(root, error, self.lost)

    def exp(self, a: Near) -> Near:
        """e^a."""
        a = self.read(a)
        y = np.exp(a.exact)
        return self.primitive("exp", y, finite(y) * np.expm1(a.error))

    def log(self, a: Near) -> Near:
        """The natural logarithm of a."""
        a = self.read(a)
        share = np.where(a.error == 0, 0.0, a.error / a.exact)
        carried = np.where(share < 1, -np.log1p(-np.minimum(share, 1)), np.inf)
        return self.primitive("log", np.log(a.exact), carried)

    def primitive(self, name: str, exact: np.ndarray, carried: np.ndarray) -> Near:
        """A function of `ulps` whose result would be within `carried` without its own error.

        No promise is made of results below the smallest normal number but that what is computed
        is below twice that.
        """
        own = self.relative(name) * (np.abs(finite(exact)) + carried)
        small = np.abs(finite(exact)) - carried < self.format.smallest_normal
        own = own + np.where(small, 3 * self.format.smallest_normal, 0.0)
        return self.bounded(exact, carried + own)

    def total(self, a: Near, axes: int | tuple[int, ...]) -> Near:
        """The sum of a over axes, which stay as size 1, in any order."""
        a = self.read(a)
        exact, error = np.broadcast_arrays(a.exact, a.error)
        total = exact.sum(axes, keepdims=True)
        n = exact.size // total.size
        magnitude, carried = (x.sum(axes, keepdims=True) for x in (np.abs(finite(exact)), error))
        size = magnitude + carried
        sharp = (carried == 0) & self.sums_exactly(quantum(exact), magnitude)
        lost = carried + self.gamma(n - 1) * size + (n - 1) * self.lost
        lost = np.where(sharp, 0.0, lost)
        return self.bounded(total, np.where(size + lost >= self.format.largest, np.inf, lost))

    def mean(self, a: Near, axes: int | tuple[int, ...]) -> Near:
        """The sum of a over axes, which stay as size 1, divided by the count of its terms."""
        total = self.total(a, axes)
        n = np.broadcast(a.exact, a.error).size // total.exact.size
        return self.div(total, self.constant(n))


def _straddles(a: Near) -> np.ndarray:
    """Where the machine may hold another sign than the exact one, or 0 for a number."""
    return (np.abs(finite(a.exact)) <= a.error) & (a.error > 0)
