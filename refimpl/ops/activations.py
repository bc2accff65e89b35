"""Elementwise activations.  All carry NaN on."""

from __future__ import annotations

import math

import numpy as np

from refimpl.ops.operator import BOUND, FLOAT, GELU_FORM, Operator, same_shape


def relu(x: np.ndarray) -> np.ndarray:
    """max(x, 0)."""
    return np.maximum(x, 0.0)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x))."""
    return 1.0 / (1.0 + np.exp(-x))


def tanh(x: np.ndarray) -> np.ndarray:
    """(exp(x) - exp(-x)) / (exp(x) + exp(-x))."""
    return np.tanh(x)


def silu(x: np.ndarray) -> np.ndarray:
    """x / (1 + exp(-x))."""
    return x / (1.0 + np.exp(-x))


def hardsigmoid(x: np.ndarray) -> np.ndarray:
    """min(max(x + 3, 0), 6) / 6."""
    return np.minimum(np.maximum(x + 3.0, 0.0), 6.0) / 6.0


def hardswish(x: np.ndarray) -> np.ndarray:
    """x * min(max(x + 3, 0), 6) / 6."""
    return x * np.minimum(np.maximum(x + 3.0, 0.0), 6.0) / 6.0


def gelu(x: np.ndarray, *, approximate: str) -> np.ndarray:
    """x/2 * (1 + erf(x / sqrt 2)), or x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3)))."""
    if approximate == "tanh":
        return x / 2 * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))
    erf = np.vectorize(math.erf, otypes=[np.float64])
    return x / 2 * (1.0 + erf(x / math.sqrt(2.0)))


def clamp(x: np.ndarray, *, lo: float, hi: float) -> np.ndarray:
    """min(max(x, lo), hi); relu6 is lo 0, hi 6."""
    return np.minimum(np.maximum(x, lo), hi)


def leaky_relu(x: np.ndarray, *, slope: float) -> np.ndarray:
    """x where x > 0, slope * x elsewhere."""
    return np.where(x > 0.0, x, slope * x)


def elu(x: np.ndarray, *, alpha: float) -> np.ndarray:
    """x where x > 0, alpha * (exp(x) - 1) elsewhere."""
    return np.where(x > 0.0, x, alpha * np.expm1(x))


ACTIVATIONS = (
    Operator("relu", (1, 1), same_shape, relu),
    Operator("sigmoid", (1, 1), same_shape, sigmoid),
    Operator("tanh", (1, 1), same_shape, tanh),
    Operator("silu", (1, 1), same_shape, silu),
    Operator("hardsigmoid", (1, 1), same_shape, hardsigmoid),
    Operator("hardswish", (1, 1), same_shape, hardswish),
    Operator("gelu", (1, 1), same_shape, gelu, {"approximate": GELU_FORM}),
    Operator("clamp", (1, 1), same_shape, clamp, {"lo": BOUND, "hi": BOUND}),
    Operator("leaky_relu", (1, 1), same_shape, leaky_relu, {"slope": FLOAT}),
    Operator("elu", (1, 1), same_shape, elu, {"alpha": FLOAT}),
)
