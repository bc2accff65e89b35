"""How far activations in floats may be from what they mean: their expressions, in intervals.

A `Range` holds every value that the machine's floats may give.  Each operation widens what exact
arithmetic would give by its own rounding, so the range of an expression is sound whatever cancels
in it: 1 + erf near -1, or the two halves of hardsigmoid, cost what they cost.  A function that only
rises needs no derivative: its range is that of its ends.

The expressions are those in which activations are compiled, operation by operation, with
constants rounded to the format.  s is what goes in, error how far it is from exact already.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from refimpl.bounds.arithmetic import Arithmetic
from refimpl.ops import OPERATORS
from refimpl.ops.activations import SELU_ALPHA, SELU_SCALE

_erf = np.vectorize(math.erf, otypes=[np.float64])
_RISING: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "sqrt": np.sqrt,
    "tanh": np.tanh,
    "sigmoid": lambda x: 1.0 / (1.0 + np.exp(-x)),
    "erf": _erf,
}


@dataclass(frozen=True)
class Range:
    """Every value between lo and hi, element by element, float64; infinite where all are."""

    lo: np.ndarray
    hi: np.ndarray

    @property
    def size(self) -> np.ndarray:
        """The largest absolute value."""
        return np.maximum(np.abs(self.lo), np.abs(self.hi))


def activation_bound(
    activation: tuple[str, tuple[Any, ...]],
    s: np.ndarray,
    error: np.ndarray,
    machine: Arithmetic,
) -> np.ndarray:
    """The error of the machine's activation of s', where |s' - s| <= error.

    0 demands equality, infinity judges nothing; where the result is no number, or infinite, and
    what goes in is not in doubt, only the same will do.

    Raises:
        KeyError: an activation without an error model.
    """
    name, numbers = activation
    error = np.where(np.isfinite(s) | np.isinf(error), error, 0.0)
    operator = OPERATORS[name]
    with np.errstate(all="ignore"):
        largest = machine.format.largest
        centre = np.nan_to_num(s, nan=0.0, posinf=largest, neginf=-largest)
        given = Range(centre - error, centre + error)
        found = activation_range(activation, given, machine)
        y = operator.evaluate(s, **dict(zip(operator.attributes, numbers, strict=True)))
        bound = np.fmax(found.hi - y, y - found.lo)
        bound = np.where(np.isfinite(y), bound, np.where(error == 0, 0.0, np.inf))
        # What may have been anything may have been no number.
        return np.where(np.isinf(error), np.inf, bound)


def activation_range(
    activation: tuple[str, tuple[Any, ...]], x: Range, machine: Arithmetic
) -> Range:
    """Everything that the machine's activation may give for what is in x.

    Raises:
        KeyError: an activation without an error model.
    """
    name, numbers = activation
    f = _Rounding(machine)
    x = f.kept(x)
    with np.errstate(all="ignore"):
        match name:
            case "relu":
                return f.maximum(x, 0.0)
            case "clamp":
                return f.minimum(f.maximum(x, numbers[0]), numbers[1])
            case "leaky_relu":
                return f.add(f.maximum(x, 0.0), f.mul(f.minimum(x, 0.0), numbers[0]))
            case "elu":
                return f.add(f.maximum(x, 0.0), f.mul(f.decay(x), numbers[0]))
            case "selu":
                above = f.mul(f.maximum(x, 0.0), SELU_SCALE)
                return f.add(above, f.mul(f.decay(x), SELU_SCALE * SELU_ALPHA))
            case "celu":
                below = f.apply("expm1", f.div(f.minimum(x, 0.0), f.constant(numbers[0])))
                return f.add(f.maximum(x, 0.0), f.mul(below, numbers[0]))
            case "hardsigmoid":
                return f.ramp(x)
            case "hardswish":
                return f.mul(x, f.ramp(x))
            case "silu":
                return f.mul(x, f.apply("sigmoid", x))
            case "gelu":
                return f.gelu(x, numbers[0])
            case "softplus":
                return f.softplus(x, numbers[0])
            case "mish":
                return f.mul(x, f.apply("tanh", f.softplus(x, 1.0)))
            case "softsign":
                return f.div(x, f.add(f.abs(x), f.constant(1.0)))
            case "reciprocal":
                return f.div(f.constant(1.0), x)
            case "abs":
                return f.abs(x)
            case "neg":
                return Range(-x.hi, -x.lo)
        return f.apply(name, x)


class _Rounding:
    """Operations on ranges, each with the rounding of a machine."""

    def __init__(self, machine: Arithmetic):
        self.machine, self.format = machine, machine.format

    def constant(self, number: float) -> Range:
        """What a literal is in the machine's format."""
        held = self.format.round(np.array(float(number)))
        return Range(held, held)

    def rounded(self, lo: np.ndarray, hi: np.ndarray, relative: float, absolute: float) -> Range:
        """The range after rounding; 0 stays 0, and what may overflow may be infinite.

        `absolute` is what underflow adds to rounding's relative error.
        """
        sure = (lo == 0) & (hi == 0)
        slack = [np.where(sure, 0.0, np.abs(end) * relative + absolute) for end in (lo, hi)]
        largest = self.format.largest
        lo, hi = np.minimum(lo - slack[0], largest), np.maximum(hi + slack[1], -largest)
        # A range that is no number comes of infinity times 0, or less itself: all is possible.
        low = np.where((lo > -largest) & ~np.isnan(hi), lo, -np.inf)
        return self.kept(Range(low, np.where((hi < largest) & ~np.isnan(lo), hi, np.inf)))

    def kept(self, a: Range) -> Range:
        """The range with 0, where the machine may flush some of it to 0."""
        if not self.machine.flush:
            return a
        normal = self.format.smallest_normal
        lo = np.where((a.lo > 0) & (a.lo < normal), 0.0, a.lo)
        return Range(lo, np.where((a.hi < 0) & (a.hi > -normal), 0.0, a.hi))

    def add(self, a: Range, b: Range) -> Range:
        """One rounding; none where either is exactly 0."""
        total = self.rounded(a.lo + b.lo, a.hi + b.hi, self.format.unit, 0.0)
        lo, hi = total.lo, total.hi
        for one, other in ((a, b), (b, a)):
            nothing = (one.lo == 0) & (one.hi == 0)
            lo, hi = np.where(nothing, other.lo, lo), np.where(nothing, other.hi, hi)
        return Range(lo, hi)

    def mul(self, a: Range, b: Range | float) -> Range:
        """One rounding, and underflow."""
        b = b if isinstance(b, Range) else self.constant(b)
        ends = [p * q for p in (a.lo, a.hi) for q in (b.lo, b.hi)]
        lo, hi = np.minimum.reduce(ends), np.maximum.reduce(ends)
        return self.rounded(lo, hi, self.format.unit, self.format.smallest)

    def div(self, a: Range, b: Range) -> Range:
        """One rounding, and underflow; anything where the divisor may be 0."""
        ends = [p / q for p in (a.lo, a.hi) for q in (b.lo, b.hi)]
        safe = (b.lo > 0) | (b.hi < 0)
        lo = np.where(safe, np.minimum.reduce(ends), -np.inf)
        hi = np.where(safe, np.maximum.reduce(ends), np.inf)
        return self.rounded(lo, hi, self.format.unit, self.format.smallest)

    def maximum(self, a: Range, number: float) -> Range:
        """Exact."""
        limit = self.constant(number).lo
        return Range(np.maximum(a.lo, limit), np.maximum(a.hi, limit))

    def minimum(self, a: Range, number: float) -> Range:
        """Exact."""
        limit = self.constant(number).lo
        return Range(np.minimum(a.lo, limit), np.minimum(a.hi, limit))

    def abs(self, a: Range) -> Range:
        """Exact."""
        least = np.where((a.lo < 0) & (a.hi > 0), 0.0, np.minimum(np.abs(a.lo), np.abs(a.hi)))
        return Range(least, a.size)

    def apply(self, primitive: str, a: Range) -> Range:
        """A primitive that rises: its ulps, and what it may do below the smallest normal."""
        lo, hi = _RISING[primitive](a.lo), _RISING[primitive](a.hi)
        correct = primitive == "sqrt"
        relative = self.format.unit if correct else self.machine.relative(primitive)
        if primitive in ("exp", "sigmoid"):
            # A 0 of theirs has underflowed, in float64 as well: it is no exact one.
            lost = 2 * self.format.smallest_normal
            return self.rounded(lo - lost, hi + lost, relative, 0.0)
        return self.rounded(lo, hi, relative, 4 * self.format.smallest)

    def decay(self, x: Range) -> Range:
        """expm1(min(x, 0))."""
        return self.apply("expm1", self.minimum(x, 0.0))

    def ramp(self, x: Range) -> Range:
        """min(max(x/6 + 1/2, 0), 1)."""
        line = self.add(self.mul(x, 1 / 6), self.constant(0.5))
        return self.minimum(self.maximum(line, 0.0), 1.0)

    def gelu(self, x: Range, form: str) -> Range:
        """(x * 1/2) * (1 + erf(x * sqrt(1/2))), or with tanh((x + x*x*x * a) * b)."""
        if form == "tanh":
            cube = self.mul(self.mul(x, x), x)
            inner = self.add(x, self.mul(cube, 0.044715))
            bell = self.apply("tanh", self.mul(inner, math.sqrt(2 / math.pi)))
        else:
            bell = self.apply("erf", self.mul(x, math.sqrt(0.5)))
        return self.mul(self.mul(x, 0.5), self.add(bell, self.constant(1.0)))

    def softplus(self, x: Range, beta: float) -> Range:
        """(max(t, 0) + log1p(exp(-|t|))) / beta with t = x * beta."""
        t = self.mul(x, beta)
        size = self.abs(t)
        tail = self.apply("log1p", self.apply("exp", Range(-size.hi, -size.lo)))
        return self.div(self.add(self.maximum(t, 0.0), tail), self.constant(beta))
