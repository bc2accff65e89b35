"""Elementwise activations.  All carry NaN on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from refimpl.ops.arithmetic import erf
from refimpl.ops.operator import (
    BOUND,
    FACTOR,
    FLOAT,
    GELU_FORM,
    Operator,
    Shape,
    broadcast_shape,
    require,
    same_shape,
)

SELU_SCALE, SELU_ALPHA = 1.0507009873554804934, 1.6732632423543772848
"""Of Klambauer et al., 2017, eq. 14: they make mean 0 and variance 1 a fixed point; the digits are
those of the authors' code."""


def relu(x: np.ndarray) -> np.ndarray:
    """y = max(x, 0)."""
    return np.maximum(x, 0.0)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """y = 1 / (1 + exp(-x))."""
    return 1.0 / (1.0 + np.exp(-x))


def tanh(x: np.ndarray) -> np.ndarray:
    """y = (exp(x) - exp(-x)) / (exp(x) + exp(-x))."""
    return np.tanh(x)


def silu(x: np.ndarray) -> np.ndarray:
    """y = x / (1 + exp(-x))."""
    return x / (1.0 + np.exp(-x))


def hardsigmoid(x: np.ndarray) -> np.ndarray:
    """y = min(max(x + 3, 0), 6) / 6."""
    return np.minimum(np.maximum(x + 3.0, 0.0), 6.0) / 6.0


def hardswish(x: np.ndarray) -> np.ndarray:
    """y = x * min(max(x + 3, 0), 6) / 6."""
    return x * np.minimum(np.maximum(x + 3.0, 0.0), 6.0) / 6.0


def gelu(x: np.ndarray, *, approximate: str) -> np.ndarray:
    """y = x/2 * (1 + erf(x / sqrt 2)).  Hendrycks and Gimpel, 2016.

    With `approximate` "tanh": y = x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3))).
    """
    if approximate == "tanh":
        return x / 2 * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))
    return x / 2 * (1.0 + erf(x / math.sqrt(2.0)))


def clamp(x: np.ndarray, *, lo: float, hi: float) -> np.ndarray:
    """y = min(max(x, lo), hi); relu6 is lo 0, hi 6."""
    return np.minimum(np.maximum(x, lo), hi)


def leaky_relu(x: np.ndarray, *, slope: float) -> np.ndarray:
    """y = x where x > 0, slope * x elsewhere."""
    return np.where(x > 0.0, x, slope * x)


def elu(x: np.ndarray, *, alpha: float) -> np.ndarray:
    """y = x where x > 0, alpha * (exp(x) - 1) elsewhere.  Clevert et al., 2015."""
    return np.where(x > 0.0, x, alpha * np.expm1(x))


def selu(x: np.ndarray) -> np.ndarray:
    """y = SELU_SCALE * elu(x, SELU_ALPHA)."""
    return SELU_SCALE * elu(x, alpha=SELU_ALPHA)


def celu(x: np.ndarray, *, alpha: float) -> np.ndarray:
    """y = x where x > 0, alpha * (exp(x / alpha) - 1) elsewhere.  Barron, 2017."""
    return np.where(x > 0.0, x, alpha * np.expm1(x / alpha))


def softplus(x: np.ndarray, *, beta: float) -> np.ndarray:
    """y = log(1 + exp(beta * x)) / beta, without overflow."""
    return np.logaddexp(0.0, beta * x) / beta


def softsign(x: np.ndarray) -> np.ndarray:
    """y = x / (1 + |x|); NaN at the infinities."""
    return x / (1.0 + np.abs(x))


def mish(x: np.ndarray) -> np.ndarray:
    """y = x * tanh(log(1 + exp(x))).  Misra, 2019."""
    return x * np.tanh(softplus(x, beta=1.0))


def prelu(x: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """y = x where x > 0, slope * x elsewhere; slope broadcasts to x's shape.  He et al., 2015."""
    return np.where(x > 0.0, x, slope * x)


def _prelu_shape(shapes: Sequence[Shape], attributes: Mapping[str, Any]) -> Shape:
    x, slope = shapes
    require(broadcast_shape(shapes, attributes) == x, f"slope {slope} does not broadcast to {x}")
    return x


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
    Operator("selu", (1, 1), same_shape, selu),
    Operator("celu", (1, 1), same_shape, celu, {"alpha": FACTOR}),
    Operator("softplus", (1, 1), same_shape, softplus, {"beta": FACTOR}),
    Operator("softsign", (1, 1), same_shape, softsign),
    Operator("mish", (1, 1), same_shape, mish),
    Operator("prelu", (2, 2), _prelu_shape, prelu),
)
