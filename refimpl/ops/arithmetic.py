"""Arithmetic of tensors: add, sub, mul, batch norm, softmax, mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from refimpl.ops.operator import AXES, AXIS, FLAG, FLOAT, Operator, Shape, ShapeError, require


def add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a + b, under NumPy's broadcasting."""
    return a + b


def sub(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a - b, under NumPy's broadcasting."""
    return a - b


def mul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a * b, under NumPy's broadcasting."""
    return a * b


def batch_norm(
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    mean: np.ndarray,
    var: np.ndarray,
    *,
    eps: float,
) -> np.ndarray:
    """y[n,c,s] = (x[n,c,s] - mean[c]) / sqrt(var[c] + eps) * gamma[c] + beta[c].

    At inference: mean and var are those gathered in training, not of x, which is [N, C, *S].
    """
    per_channel = (1, -1, *[1] * (x.ndim - 2))
    gamma, beta, mean, var = (v.reshape(per_channel) for v in (gamma, beta, mean, var))
    return (x - mean) / np.sqrt(var + eps) * gamma + beta


def softmax(x: np.ndarray, *, axis: int) -> np.ndarray:
    """exp(x) / sum of exp(x) along the axis, taken relative to its maximum."""
    powers = np.exp(x - x.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


def mean(x: np.ndarray, *, axes: Shape, keepdims: bool) -> np.ndarray:
    """The average over the axes, which stay as size 1 with `keepdims`."""
    return np.asarray(x.mean(axes, keepdims=keepdims))


def _broadcast_shape(shapes: Sequence[Shape], _: Mapping[str, Any]) -> Shape:
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise ShapeError(f"{shapes[0]} and {shapes[1]} do not broadcast") from None


def _batch_norm_shape(shapes: Sequence[Shape], _: Mapping[str, Any]) -> Shape:
    x = shapes[0]
    require(len(x) >= 2, f"input {x} is not [N, C, *S]")
    for name, shape in zip(("gamma", "beta", "mean", "var"), shapes[1:], strict=True):
        require(shape == (x[1],), f"{name} {shape} is not one value for each of {x[1]} channels")
    return x


def _softmax_shape(shapes: Sequence[Shape], attributes: Mapping[str, Any]) -> Shape:
    axis = attributes["axis"]
    require(axis < len(shapes[0]), f"axis {axis} is not one of input {shapes[0]}")
    return shapes[0]


def _mean_shape(shapes: Sequence[Shape], attributes: Mapping[str, Any]) -> Shape:
    x, axes = shapes[0], attributes["axes"]
    require(axes[-1] < len(x), f"axes {axes} are not all of input {x}")
    if attributes["keepdims"]:
        return tuple(1 if i in axes else size for i, size in enumerate(x))
    return tuple(size for i, size in enumerate(x) if i not in axes)


ARITHMETIC = (
    Operator("add", (2, 2), _broadcast_shape, add),
    Operator("sub", (2, 2), _broadcast_shape, sub),
    Operator("mul", (2, 2), _broadcast_shape, mul),
    Operator("batch_norm", (5, 5), _batch_norm_shape, batch_norm, {"eps": FLOAT}),
    Operator("softmax", (1, 1), _softmax_shape, softmax, {"axis": AXIS}),
    Operator("mean", (1, 1), _mean_shape, mean, {"axes": AXES, "keepdims": FLAG}),
)
