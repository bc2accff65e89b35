"""Operators that move values and compute none: concat, reshape, flatten, identity."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from refimpl.ops.operator import AXIS, SHAPE, Operator, Shape, require, same_shape


def concat(*xs: np.ndarray, axis: int) -> np.ndarray:
    """y = the inputs one after another along the axis."""
    return np.concatenate(xs, axis)


def reshape(x: np.ndarray, *, shape: Shape) -> np.ndarray:
    """y = the values of x in row-major order under another shape."""
    return x.reshape(shape)


def flatten(x: np.ndarray, *, start: int, end: int) -> np.ndarray:
    """y = x with the axes `start` to `end` (inclusive) merged into one."""
    return x.reshape(_merge(x.shape, start, end))


def identity(x: np.ndarray) -> np.ndarray:
    """y = x."""
    return x


def _merge(shape: Shape, start: int, end: int) -> Shape:
    return (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :])


def _concat_shape(shapes: Sequence[Shape], attributes: Mapping[str, Any]) -> Shape:
    first, axis = shapes[0], attributes["axis"]
    require(axis < len(first), f"axis {axis} is not one of input {first}")
    for shape in shapes[1:]:
        others = (*shape[:axis], *shape[axis + 1 :])
        require(
            len(shape) == len(first) and others == (*first[:axis], *first[axis + 1 :]),
            f"inputs {first} and {shape} differ outside axis {axis}",
        )
    return (*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :])


def _reshape_shape(shapes: Sequence[Shape], attributes: Mapping[str, Any]) -> Shape:
    x, shape = shapes[0], attributes["shape"]
    require(
        math.prod(x) == math.prod(shape),
        f"input {x} has {math.prod(x)} elements, shape {shape} has {math.prod(shape)}",
    )
    return shape


def _flatten_shape(shapes: Sequence[Shape], attributes: Mapping[str, Any]) -> Shape:
    x, start, end = shapes[0], attributes["start"], attributes["end"]
    require(start <= end < len(x), f"axes {start} to {end} are not a run of axes of input {x}")
    return _merge(x, start, end)


SHAPING = (
    Operator("concat", (1, None), _concat_shape, concat, {"axis": AXIS}),
    Operator("reshape", (1, 1), _reshape_shape, reshape, {"shape": SHAPE}),
    Operator("flatten", (1, 1), _flatten_shape, flatten, {"start": AXIS, "end": AXIS}),
    Operator("identity", (1, 1), same_shape, identity),
)
