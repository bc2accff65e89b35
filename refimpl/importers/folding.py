"""Calls of aten that are computed at capture with NumPy: what is made of nothing but constants.

This is what masks, positions and initial states are made of in saved programs.  Floating-point
operators that are missing here stay in the Graph, as nodes that read constants.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from refimpl.importers import CaptureError
from refimpl.importers.exported import Result, Step
from refimpl.ops import Shape

_MOST_ELEMENTS = 2**26
_UNFIT = (TypeError, ValueError, LookupError, ArithmeticError, AttributeError)

Arguments = Mapping[str, Any]
Fold = Callable[[Arguments, Result], Any]


class NumpyFolder:
    """Computes calls with NumPy, within a bound on all that it makes."""

    def __init__(self) -> None:
        self.made = 0

    def knows(self, target: str) -> bool:
        """Whether this operator is in the tables below."""
        return target in _FOLDS or target in _CUTS

    def fold(self, step: Step, arguments: Arguments) -> Sequence[np.ndarray]:
        """The results of a call, its tensors given as arrays.

        Raises:
            CaptureError: the arguments do not fit the operator or its result, or constants grow
                past 2^26 elements in all.
        """
        self.made += sum(int(np.prod(r.shape, dtype=object)) for r in step.results)
        if self.made > _MOST_ELEMENTS:
            raise CaptureError(f"{step.origin.place}: constants of more than 2^26 elements")
        try:
            with np.errstate(all="ignore"):
                if step.target in _CUTS:
                    arrays = _cut(arguments, step.results)
                else:
                    arrays = [_FOLDS[step.target](arguments, step.results[0])]
                return [_as_said(a, r) for a, r in zip(arrays, step.results, strict=True)]
        except _UNFIT as error:
            raise CaptureError(f"{step.origin.place}: its arguments do not fit: {error}") from error


def _as_said(array: Any, result: Result) -> np.ndarray:
    return np.asarray(array).astype(result.dtype, copy=False).reshape(result.shape)


def _elementwise(compute: Callable[..., Any], *names: str) -> Fold:
    """Arguments of these names brought to the result's shape first, so that nothing can grow."""

    def fold(given: Arguments, result: Result) -> Any:
        return compute(*(np.broadcast_to(given[name], result.shape) for name in names))

    return fold


def _filled(value: Any) -> Fold:
    return lambda _, result: np.broadcast_to(np.asarray(value, result.dtype), result.shape)


def _full(name: str) -> Fold:
    return lambda given, result: _filled(given[name])(given, result)


def _arange(given: Arguments, result: Result) -> Any:
    (count,) = result.shape
    return given.get("start", 0) + given.get("step", 1) * np.arange(count)


def _same(given: Arguments, _: Result) -> Any:
    return given["self"]


def _reshaped(given: Arguments, result: Result) -> Any:
    return given["self"].reshape(result.shape)


def _expanded(given: Arguments, result: Result) -> Any:
    return np.broadcast_to(given["self"], result.shape)


def _transposed(given: Arguments, _: Result) -> Any:
    return np.swapaxes(given["self"], given["dim0"], given["dim1"])


def _permuted(given: Arguments, _: Result) -> Any:
    return np.transpose(given["self"], given["dims"])


def _sliced(given: Arguments, _: Result) -> Any:
    array, dim = given["self"], given.get("dim", 0)
    picked = slice(given.get("start"), given.get("end"), given.get("step", 1))
    return np.moveaxis(np.moveaxis(array, dim, 0)[picked], 0, dim)


def _selected(given: Arguments, _: Result) -> Any:
    return np.moveaxis(given["self"], given["dim"], 0)[given["index"]]


def _joined(join: Callable[..., Any]) -> Fold:
    def fold(given: Arguments, result: Result) -> Any:
        tensors, dim = given["tensors"], given.get("dim", 0)
        _require_size(sum(tensor.size for tensor in tensors), result.shape)
        return join(tensors, axis=dim)

    return fold


def _cut(given: Arguments, results: Sequence[Result]) -> list[np.ndarray]:
    """The tensor in pieces along an axis, each as long as the file says that it is."""
    array, dim = given["self"], given.get("dim", 0)
    sizes = [result.shape[dim] for result in results]
    if sum(sizes) != array.shape[dim]:
        raise ValueError(f"{array.shape[dim]} places, where the file says {sizes}")
    return np.split(array, np.cumsum(sizes)[:-1], axis=dim)


def _looked_up(given: Arguments, result: Result) -> Any:
    table, rows = given["weight"], given["indices"]
    _require_size(rows.size * table.shape[-1], result.shape)
    return table[rows]


def _require_size(size: int, shape: Shape) -> None:
    if size != int(np.prod(shape, dtype=object)):
        raise ValueError(f"{size} elements, where the file says {shape}")


def _combined(compute: Callable[..., Any]) -> Fold:
    """self and alpha * other."""

    def fold(given: Arguments, result: Result) -> Any:
        self = np.broadcast_to(given["self"], result.shape)
        other = np.broadcast_to(given["other"], result.shape)
        return compute(self, given.get("alpha", 1) * other)

    return fold


def _masked(given: Arguments, result: Result) -> Any:
    mask = np.broadcast_to(given["mask"], result.shape)
    return np.where(mask, given["value"], np.broadcast_to(given["self"], result.shape))


def _triangle(pick: Callable[..., Any]) -> Fold:
    return lambda given, _: pick(given["self"], given.get("diagonal", 0))


_COMPARISONS = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal,
}  # fmt: skip
_BINARY = {
    "mul": np.multiply, "div": np.true_divide, "floor_divide": np.floor_divide,
    "remainder": np.remainder, "maximum": np.maximum, "minimum": np.minimum,
    "bitwise_and": np.bitwise_and, "bitwise_or": np.bitwise_or, "logical_and": np.logical_and,
    "logical_or": np.logical_or, **_COMPARISONS,
}  # fmt: skip
_UNARY = {
    "neg": np.negative, "abs": np.abs, "exp": np.exp, "log": np.log, "sin": np.sin, "cos": np.cos,
    "sqrt": np.sqrt, "rsqrt": lambda x: 1 / np.sqrt(x), "reciprocal": lambda x: 1 / x,
    "logical_not": np.logical_not, "bitwise_not": np.invert, "floor": np.floor,
}  # fmt: skip

_ROWS: tuple[tuple[str, str, Fold], ...] = (
    ("zeros zeros_like new_zeros", "default", _filled(0)),
    ("ones ones_like new_ones", "default", _filled(1)),
    ("full full_like new_full", "default", _full("fill_value")),
    ("fill", "Scalar Tensor", _full("value")),
    ("scalar_tensor", "default", _full("s")),
    ("arange", "default start start_step", _arange),
    ("clone detach alias contiguous lift_fresh_copy _to_copy", "default", _same),
    ("to", "dtype device dtype_layout", _same),
    ("view reshape _unsafe_view unsqueeze", "default", _reshaped),
    ("squeeze", "default dim dims", _reshaped),
    ("flatten", "using_ints", _reshaped),
    ("expand expand_as", "default", _expanded),
    ("transpose", "int", _transposed),
    ("permute", "default", _permuted),
    ("t numpy_T", "default", lambda given, _: given["self"].T),
    ("slice", "Tensor", _sliced),
    ("select", "int", _selected),
    ("cat", "default", _joined(np.concatenate)),
    ("stack", "default", _joined(np.stack)),
    ("embedding", "default", _looked_up),
    ("tril", "default", _triangle(np.tril)),
    ("triu", "default", _triangle(np.triu)),
    ("masked_fill", "Scalar Tensor", _masked),
    (
        "where",
        "self ScalarSelf ScalarOther Scalar",
        _elementwise(np.where, "condition", "self", "other"),
    ),
    ("add", "Tensor Scalar", _combined(np.add)),
    ("sub", "Tensor Scalar", _combined(np.subtract)),
    ("pow", "Tensor_Scalar Scalar Tensor_Tensor", _elementwise(np.power, "self", "exponent")),
    *(
        (name, "default Tensor Scalar", _elementwise(compute, "self", "other"))
        for name, compute in _BINARY.items()
    ),
    *((name, "default", _elementwise(compute, "self")) for name, compute in _UNARY.items()),
)
"""What calls compute, by the operators' names and overloads; the result gets the file's dtype."""

_CUTS = (
    "aten.split.Tensor",
    "aten.split.sizes",
    "aten.split_with_sizes.default",
    "aten.chunk.default",
)
"""Operators of several results: the parameters of attention are kept as one and cut apart."""

_FOLDS = {
    f"aten.{name}.{overload}": fold
    for names, overloads, fold in _ROWS
    for name in names.split()
    for overload in overloads.split()
}
