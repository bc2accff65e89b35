"""What nodes make of values that are known already: shapes, indices, masks, in NumPy.

Models compute shapes with the operators they compute images with.  Whatever does not depend on the
network's inputs is computed at capture, in its own type: integers as integers, floats in float64
and rounded once.  Nothing is made that is larger than `Call.reserve` allows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from refimpl.importers.onnx.call import Call
from refimpl.importers.onnx.operands import Known

Fold = Callable[[Call], np.ndarray]

# TensorProto's numbers of the types that may appear among known values.
TYPES: dict[int, np.dtype] = {
    number: np.dtype(kind)
    for number, kind in {
        1: "<f4", 2: "u1", 3: "i1", 4: "<u2", 5: "<i2", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2",
        11: "<f8", 12: "<u4", 13: "<u8",
    }.items()
}  # fmt: skip


def folded(call: Call, op: str) -> Known:
    """The value of a node all of whose inputs are known."""
    with np.errstate(all="ignore"):
        return Known(call.path, np.asarray(FOLDS[op](call)))


def _wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def _arrays(call: Call) -> list[np.ndarray]:
    """All inputs, of one type, whose broadcast shape is reserved."""
    arrays = [call.known(i, f"input {i}") for i in range(len(call.operands()))]
    call.require(len({a.dtype for a in arrays}) == 1, "its inputs are not of one type")
    _reserve_broadcast(call, arrays)
    return arrays


def _reserve_broadcast(call: Call, arrays: list[np.ndarray]) -> None:
    try:
        shape = np.broadcast_shapes(*(a.shape for a in arrays))
    except ValueError as error:
        call.refuse(f"its inputs do not broadcast ({error})")
    call.reserve(shape, np.dtype(np.float64))


def _elementwise(function: Callable[..., np.ndarray], kinds: str = "fiu") -> Fold:
    """Of elements; the result has the inputs' type."""

    def fold(call: Call) -> np.ndarray:
        arrays = _arrays(call)
        dtype = arrays[0].dtype
        call.require(dtype.kind in kinds, f"it has no meaning here for {dtype}")
        return function(*(_wide(a) for a in arrays)).astype(dtype)

    return fold


def _variadic(function: Callable[..., np.ndarray]) -> Fold:
    return _elementwise(lambda *arrays: reduce(function, arrays))


def _comparison(function: Callable[..., np.ndarray]) -> Fold:
    return lambda call: function(*_arrays(call))


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Integers are divided towards zero, as in C."""
    if a.dtype.kind == "f":
        return a / b
    quotient = a // np.where(b == 0, 1, b)
    inexact = quotient * b != a
    return np.where(b == 0, 0, quotient + (inexact & ((a < 0) != (b < 0))))


def _div(call: Call) -> np.ndarray:
    divisor = call.known(1, "the divisor")
    call.require(divisor.dtype.kind == "f" or bool(np.all(divisor)), "it divides an integer by 0")
    return _elementwise(_divide)(call)


def _mod(call: Call) -> np.ndarray:
    """The sign is the divisor's, or with `fmod` the dividend's."""
    divisor = call.known(1, "the divisor")
    call.require(divisor.dtype.kind == "f" or bool(np.all(divisor)), "it divides an integer by 0")
    return _elementwise(np.fmod if call.attribute("fmod", 0) else np.mod)(call)


def _pow(call: Call) -> np.ndarray:
    a, b = call.known(0, "the base"), call.known(1, "the exponent")
    _reserve_broadcast(call, [a, b])
    call.require(a.dtype.kind in "fiu" and b.dtype.kind in "fiu", "it has no meaning for these")
    call.require(a.dtype.kind == "f" or not np.any(b < 0), "an integer has a negative exponent")
    return np.power(_wide(a), b).astype(a.dtype)


def _where(call: Call) -> np.ndarray:
    condition, a, b = (call.known(i, f"input {i}") for i in range(3))
    call.require(condition.dtype == np.bool_ and a.dtype == b.dtype, "its inputs' types differ")
    _reserve_broadcast(call, [condition, a, b])
    return np.where(condition, a, b)


def _cast(call: Call) -> np.ndarray:
    call.without_effect("saturate", "round_mode")  # of 8-bit floats
    to, array = call.attribute("to"), call.known(0, "its input")
    call.require(to in TYPES, f"type {to} (to) has no counterpart here")
    call.reserve(array.shape, TYPES[to])
    return array.astype(TYPES[to])


def _cast_like(call: Call) -> np.ndarray:
    call.without_effect("saturate", "round_mode")
    array, like = call.known(0, "its input"), call.known(1, "its type")
    call.reserve(array.shape, like.dtype)
    return array.astype(like.dtype)


def _constant(call: Call) -> np.ndarray:
    """The one attribute that it has."""
    call.require(len(call.attributes) == 1, "it has not exactly one value")
    (name,) = call.attributes
    value = call.attribute(name)
    dtypes = {"value_int": np.int64, "value_ints": np.int64}
    dtypes |= {"value_float": np.float32, "value_floats": np.float32}
    if name in ("value", "sparse_value"):
        return value
    call.require(name in dtypes, f"{name} has no counterpart here")
    return np.asarray(value, dtypes[name])


def _constant_of_shape(call: Call) -> np.ndarray:
    shape, value = call.ints(0, "the shape"), call.attribute("value", np.zeros(1, np.float32))
    call.require(min(shape, default=0) >= 0, f"shape {shape} has a negative size")
    call.require(value.size == 1, f"the value has {value.size} elements, not 1")
    call.reserve(shape, value.dtype)
    return np.broadcast_to(value.reshape(()), shape)


def _range(call: Call) -> np.ndarray:
    """start + i*delta for i < ceil((limit - start) / delta)."""
    call.without_effect("stash_type")  # of 16-bit floats
    arrays = [call.known(i, name) for i, name in enumerate(("start", "limit", "delta"))]
    start, limit, delta = (a.reshape(-1)[0].item() if a.size == 1 else math.nan for a in arrays)
    finite = all(isinstance(v, int) or math.isfinite(v) for v in (start, limit, delta))
    call.require(finite and delta != 0, "start, limit and delta are not finite, or delta is 0")
    exact = all(isinstance(v, int) for v in (start, limit, delta))
    # In whole numbers where they are: floats lose the last digits of large ones.
    steps = -((start - limit) // delta) if exact else math.ceil((limit - start) / delta)
    count = max(int(steps), 0)
    call.reserve((count,), np.dtype(np.float64))
    return (start + np.arange(count) * delta).astype(arrays[0].dtype)


def _trilu(call: Call) -> np.ndarray:
    array, k = call.known(0, "its input"), int(call.scalar(1, "k")) if call.given(1) else 0
    call.require(array.ndim >= 2, "its input is no matrix")
    call.reserve(array.shape, array.dtype)
    k = max(min(k, max(array.shape)), -max(array.shape))
    return np.triu(array, k) if call.attribute("upper", 1) else np.tril(array, k)


def _non_zero(call: Call) -> np.ndarray:
    array = call.known(0, "its input")
    call.reserve((array.ndim, array.size), np.dtype(np.int64))
    return np.stack(np.nonzero(np.atleast_1d(array)))


def _reduced(function: Callable[..., Any], axes_are_input_since: int = 18) -> Fold:
    def fold(call: Call) -> np.ndarray:
        array = call.known(0, "its input")
        given = call.ints_or_attribute(1, "axes", axes_are_input_since)
        none = bool(call.attribute("noop_with_empty_axes", 0))
        keepdims = bool(call.attribute("keepdims", 1))
        call.require(array.dtype.kind in "fiu", f"it has no meaning here for {array.dtype}")
        axes = call.axes(given or (() if none else range(array.ndim)), array.ndim)
        call.require(0 not in array.shape, f"its input {array.shape} is empty")
        return np.asarray(function(_wide(array), axis=axes, keepdims=keepdims)).astype(array.dtype)

    return fold


FOLDS: dict[str, Fold] = {
    "Abs": _elementwise(np.abs),
    "Add": _elementwise(np.add),
    "And": _elementwise(np.logical_and, "b"),
    "Cast": _cast,
    "CastLike": _cast_like,
    "Ceil": _elementwise(np.ceil, "f"),
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Cos": _elementwise(np.cos, "f"),
    "Div": _div,
    "Equal": _comparison(np.equal),
    "Exp": _elementwise(np.exp, "f"),
    "Floor": _elementwise(np.floor, "f"),
    "Greater": _comparison(np.greater),
    "GreaterOrEqual": _comparison(np.greater_equal),
    "Less": _comparison(np.less),
    "LessOrEqual": _comparison(np.less_equal),
    "Log": _elementwise(np.log, "f"),
    "Max": _variadic(np.maximum),
    "Min": _variadic(np.minimum),
    "Mod": _mod,
    "Mul": _elementwise(np.multiply),
    "Neg": _elementwise(np.negative),
    "NonZero": _non_zero,
    "Not": _elementwise(np.logical_not, "b"),
    "Or": _elementwise(np.logical_or, "b"),
    "Pow": _pow,
    "Range": _range,
    "Reciprocal": _elementwise(np.reciprocal, "f"),
    "ReduceMax": _reduced(np.max),
    "ReduceMin": _reduced(np.min),
    "ReduceProd": _reduced(np.prod),
    "ReduceSum": _reduced(np.sum, 13),
    "Round": _elementwise(np.round, "f"),
    "Sign": _elementwise(np.sign),
    "Sin": _elementwise(np.sin, "f"),
    "Sqrt": _elementwise(np.sqrt, "f"),
    "Sub": _elementwise(np.subtract),
    "Sum": _variadic(np.add),
    "Trilu": _trilu,
    "Where": _where,
    "Xor": _elementwise(np.logical_xor, "b"),
}
