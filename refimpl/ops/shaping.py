"""Operators that move values and compute none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from refimpl.ops.operator import (
    AXIS,
    BOUND,
    COUNT,
    INDICES,
    ORDER,
    PAD_MODE,
    PAIRS,
    SHAPE,
    STEP,
    Operator,
    Shape,
    ShapeError,
    require,
    same_shape,
)
from refimpl.ops.windows import Padding


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


def transpose(x: np.ndarray, *, order: Shape) -> np.ndarray:
    """y = x with its axes in another order: axis i of y is axis order[i] of x."""
    return x.transpose(order)


def cut(x: np.ndarray, *, axis: int, start: int, step: int, size: int) -> np.ndarray:
    """y[..., i, ...] = x[..., start + i*step, ...] along the axis, for 0 <= i < size."""
    return x.take(start + step * np.arange(size), axis)


def pad(x: np.ndarray, *, padding: Padding, mode: str, value: float) -> np.ndarray:
    """y = x with lo positions before it and hi behind it on every axis, as padding pairs them.

    What these hold is told by mode, per axis of size S:
        "constant"  value; 0.0 for the other modes, which have none
        "edge"      x at the nearest position inside
        "reflect"   x mirrored at its first and last position, which are not repeated; lo, hi < S
        "wrap"      x over again: position i holds x[i mod S]; lo, hi <= S
    """
    if mode == "constant":
        return np.pad(x, padding, constant_values=value)
    return np.pad(x, padding, mode)  # pyright: ignore[reportCallIssue, reportArgumentType]


def expand(x: np.ndarray, *, shape: Shape) -> np.ndarray:
    """y = x repeated to the shape, as NumPy broadcasts."""
    return np.broadcast_to(x, shape).copy()


def take(x: np.ndarray, *, axis: int, indices: Shape) -> np.ndarray:
    """y[..., i, ...] = x[..., indices[i], ...] along the axis."""
    return x.take(indices, axis)


def _merge(shape: Shape, start: int, end: int) -> Shape:
    return (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :])


def _require_axis(x: Shape, axis: int) -> None:
    require(axis < len(x), f"axis {axis} is not one of input {x}")


def _concat_shape(shapes: Sequence[Shape], attributes: Mapping[str, Any]) -> Shape:
    first, axis = shapes[0], attributes["axis"]
    _require_axis(first, axis)
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


def _transpose_shape(shapes: Sequence[Shape], attributes: Mapping[str, Any]) -> Shape:
    x, order = shapes[0], attributes["order"]
    require(len(order) == len(x), f"order {order} does not name every axis of input {x}")
    return tuple(x[axis] for axis in order)


def _cut_shape(shapes: Sequence[Shape], attributes: Mapping[str, Any]) -> Shape:
    x, axis, start, size = shapes[0], attributes["axis"], attributes["start"], attributes["size"]
    _require_axis(x, axis)
    last = start + (size - 1) * attributes["step"]
    require(
        start < x[axis] and 0 <= last < x[axis],
        f"a slice from {start} to {last} leaves axis {axis} of input {x}",
    )
    return (*x[:axis], size, *x[axis + 1 :])


def _pad_shape(shapes: Sequence[Shape], attributes: Mapping[str, Any]) -> Shape:
    x, (padding, mode, value) = shapes[0], (attributes[k] for k in ("padding", "mode", "value"))
    require(len(padding) == len(x), f"padding {padding} is not a pair for every axis of {x}")
    require(mode == "constant" or value == 0.0, f"mode {mode} has no value; it must be 0.0")
    for size, pair in zip(x, padding, strict=True):
        most = {"reflect": size - 1, "wrap": size}.get(mode, max(pair))
        require(max(pair) <= most, f"{mode} padding {pair} of size {size} exceeds {most}")
    return tuple(lo + size + hi for size, (lo, hi) in zip(x, padding, strict=True))


def _expand_shape(shapes: Sequence[Shape], attributes: Mapping[str, Any]) -> Shape:
    x, shape = shapes[0], attributes["shape"]
    try:
        fits = np.broadcast_shapes(x, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(f"input {x} does not broadcast to shape {shape}")
    return shape


def _take_shape(shapes: Sequence[Shape], attributes: Mapping[str, Any]) -> Shape:
    x, axis, indices = shapes[0], attributes["axis"], attributes["indices"]
    _require_axis(x, axis)
    require(max(indices) < x[axis], f"index {max(indices)} leaves axis {axis} of input {x}")
    return (*x[:axis], len(indices), *x[axis + 1 :])


_SLICE = {"axis": AXIS, "start": AXIS, "step": STEP, "size": COUNT}
_PAD = {"padding": PAIRS, "mode": PAD_MODE, "value": BOUND}

SHAPING = (
    Operator("concat", (1, None), _concat_shape, concat, {"axis": AXIS}),
    Operator("reshape", (1, 1), _reshape_shape, reshape, {"shape": SHAPE}),
    Operator("flatten", (1, 1), _flatten_shape, flatten, {"start": AXIS, "end": AXIS}),
    Operator("identity", (1, 1), same_shape, identity),
    Operator("transpose", (1, 1), _transpose_shape, transpose, {"order": ORDER}),
    Operator("slice", (1, 1), _cut_shape, cut, _SLICE),
    Operator("pad", (1, 1), _pad_shape, pad, _PAD),
    Operator("expand", (1, 1), _expand_shape, expand, {"shape": SHAPE}),
    Operator("take", (1, 1), _take_shape, take, {"axis": AXIS, "indices": INDICES}),
)
