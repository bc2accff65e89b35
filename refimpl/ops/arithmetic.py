"""Elementwise arithmetic of one tensor or two.  All carry NaN on."""

from __future__ import annotations

import math

import numpy as np

from refimpl.ops.operator import Operator, broadcast_shape, same_shape


def add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """y = a + b, under NumPy's broadcasting."""
    return a + b


def sub(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """y = a - b, under NumPy's broadcasting."""
    return a - b


def mul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """y = a * b, under NumPy's broadcasting."""
    return a * b


def div(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """y = a / b, under NumPy's broadcasting; over 0 an infinity, 0 / 0 = NaN."""
    return a / b


def maximum(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """y = max(a, b), NaN where either is, under NumPy's broadcasting."""
    return np.maximum(a, b)


def minimum(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """y = min(a, b), NaN where either is, under NumPy's broadcasting."""
    return np.minimum(a, b)


def absolute(x: np.ndarray) -> np.ndarray:
    """y = |x|."""
    return np.abs(x)


def neg(x: np.ndarray) -> np.ndarray:
    """y = -x."""
    return -x


def exp(x: np.ndarray) -> np.ndarray:
    """y = e^x."""
    return np.exp(x)


def log(x: np.ndarray) -> np.ndarray:
    """y = ln x; -inf at 0, NaN below."""
    return np.log(x)


def sqrt(x: np.ndarray) -> np.ndarray:
    """y = x^(1/2); NaN below 0."""
    return np.sqrt(x)


def reciprocal(x: np.ndarray) -> np.ndarray:
    """y = 1 / x; an infinity of its sign at 0."""
    return 1.0 / x


def erf(x: np.ndarray) -> np.ndarray:
    """y = 2 / sqrt(pi) * integral of exp(-t^2) over t from 0 to x."""
    return np.vectorize(math.erf, otypes=[np.float64])(x)


_BINARY = {"add": add, "sub": sub, "mul": mul, "div": div, "maximum": maximum, "minimum": minimum}

_UNARY = {
    "abs": absolute,
    "neg": neg,
    "exp": exp,
    "log": log,
    "sqrt": sqrt,
    "reciprocal": reciprocal,
    "erf": erf,
}

ARITHMETIC = (
    *(Operator(name, (2, 2), broadcast_shape, meaning) for name, meaning in _BINARY.items()),
    *(Operator(name, (1, 1), same_shape, meaning) for name, meaning in _UNARY.items()),
)
