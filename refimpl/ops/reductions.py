"""Along axes: softmax, sums, averages, extremes.  All carry NaN on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from refimpl.ops.operator import AXES, AXIS, FLAG, Operator, Shape, require


def softmax(x: np.ndarray, *, axis: int) -> np.ndarray:
    """y = exp(x) / sum of exp(x) along the axis, taken relative to its maximum."""
    powers = np.exp(x - x.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


def log_softmax(x: np.ndarray, *, axis: int) -> np.ndarray:
    """y = x - log(sum of exp(x) along the axis), taken relative to its maximum."""
    below = x - x.max(axis, keepdims=True)
    return below - np.log(np.exp(below).sum(axis, keepdims=True))


def mean(x: np.ndarray, *, axes: Shape, keepdims: bool) -> np.ndarray:
    """y = (sum of x over the axes) / (their count); they stay as size 1 with `keepdims`."""
    return np.asarray(x.mean(axes, keepdims=keepdims))


def total(x: np.ndarray, *, axes: Shape, keepdims: bool) -> np.ndarray:
    """y = sum of x over the axes, which stay as size 1 with `keepdims`."""
    return np.asarray(x.sum(axes, keepdims=keepdims))


def largest(x: np.ndarray, *, axes: Shape, keepdims: bool) -> np.ndarray:
    """y = max of x over the axes, NaN if one is; they stay as size 1 with `keepdims`."""
    return np.asarray(x.max(axes, keepdims=keepdims))


def smallest(x: np.ndarray, *, axes: Shape, keepdims: bool) -> np.ndarray:
    """y = min of x over the axes, NaN if one is; they stay as size 1 with `keepdims`."""
    return np.asarray(x.min(axes, keepdims=keepdims))


def _along_shape(shapes: Sequence[Shape], attributes: Mapping[str, Any]) -> Shape:
    axis = attributes["axis"]
    require(axis < len(shapes[0]), f"axis {axis} is not one of input {shapes[0]}")
    return shapes[0]


def _reduced_shape(shapes: Sequence[Shape], attributes: Mapping[str, Any]) -> Shape:
    x, axes = shapes[0], attributes["axes"]
    require(axes[-1] < len(x), f"axes {axes} are not all of input {x}")
    if attributes["keepdims"]:
        return tuple(1 if i in axes else size for i, size in enumerate(x))
    return tuple(size for i, size in enumerate(x) if i not in axes)


_REDUCED = {"mean": mean, "sum": total, "max": largest, "min": smallest}

REDUCTIONS = (
    Operator("softmax", (1, 1), _along_shape, softmax, {"axis": AXIS}),
    Operator("log_softmax", (1, 1), _along_shape, log_softmax, {"axis": AXIS}),
    *(
        Operator(name, (1, 1), _reduced_shape, meaning, {"axes": AXES, "keepdims": FLAG})
        for name, meaning in _REDUCED.items()
    ),
)
