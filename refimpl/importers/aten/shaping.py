"""Views and copies: what moves values and computes none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

from refimpl.importers.aten.arguments import Ints, Rule, axis
from refimpl.importers.call import Call, Operand, Value


def _same_value(call: Call, self: Value, dtype: str | None = None) -> Value:
    """A copy, or a dtype that it had, or a wider one for indices: nothing is computed."""
    call.require(
        dtype in (None, self.dtype) or (self.dtype, dtype) == ("int32", "int64"),
        f"dtype=torch.{dtype} has no counterpart here; only torch.{self.dtype} has",
    )
    return self


def _dropout(call: Call, input: Value, p: float, train: bool | None) -> Value:
    """Nothing at inference."""
    call.require(train is False or p == 0, "it drops values at random, as in training")
    return input


def _native_dropout(
    call: Call, input: Value, p: float, train: bool | None
) -> Sequence[Value | None]:
    return _dropout(call, input, p, train), None


def _reshape(call: Call, self: Value, **_: object) -> str | Value:
    """To the shape that torch's result has, whatever words say it.

    A run of axes merged into one is `flatten`, which holds for any batch; else `reshape`.
    """
    x, shape = self.shape, call.result
    if x == shape:
        return self
    differs = (i for i, (a, b) in enumerate(zip(x, shape, strict=False)) if a != b)
    start = next(differs, len(shape) - 1)
    end = start + len(x) - len(shape)
    merged = (*x[:start], math.prod(x[start : end + 1]), *x[end + 1 :])
    if 0 <= start < end and merged == shape:
        return call.add("flatten", self, start=start, end=end)
    return call.add("reshape", self, shape=shape)


def _permute(call: Call, self: Value, dims: Sequence[int]) -> str | Value:
    order = tuple(axis(call, self, dim) for dim in dims)
    return self if order == tuple(range(len(order))) else call.add("transpose", self, order=order)


def _transpose(call: Call, self: Value, dim0: int, dim1: int) -> str | Value:
    order = list(range(len(self.shape)))
    first, second = axis(call, self, dim0), axis(call, self, dim1)
    order[first], order[second] = order[second], order[first]
    return _permute(call, self, order)


def _swapaxes(call: Call, self: Value, axis0: int, axis1: int) -> str | Value:
    return _transpose(call, self, axis0, axis1)


def _movedim(call: Call, self: Value, source: Ints, destination: Ints) -> str | Value:
    """The axes of `source` to the places of `destination`, the others in their order."""
    froms, tos = (
        [axis(call, self, dim) for dim in ([dims] if isinstance(dims, int) else dims)]
        for dims in (source, destination)
    )
    call.require(len(froms) == len(tos), "not every axis has a place to go to")
    places = dict(zip(tos, froms, strict=True))
    others = (a for a in range(len(self.shape)) if a not in froms)
    order = [places[a] if a in places else next(others, 0) for a in range(len(self.shape))]
    return _permute(call, self, order)


def _reversed_axes(call: Call, self: Value) -> str | Value:
    return _permute(call, self, range(len(self.shape))[::-1])


def _last_two(call: Call, self: Value) -> str | Value:
    return _transpose(call, self, -2, -1)


def _slice(
    call: Call,
    self: Value,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> str | Value:
    """Python's slice: ends may count from the back or lie past the end."""
    along = axis(call, self, dim)
    return take_range(call, self, along, range(*slice(start, end, step).indices(self.shape[along])))


def take_range(call: Call, x: Operand, along: int, picked: range) -> str | Value:
    """The indices of a range; all of them, in order, are the value itself."""
    call.require(len(picked) > 0, "nothing is left of it")
    size = call.shape(x)[along] if isinstance(x, (str, Value)) else 0
    if isinstance(x, Value) and picked == range(size):
        return x
    start, step = picked[0], picked.step if len(picked) > 1 else 1
    return call.add("slice", x, axis=along, start=start, step=step, size=len(picked))


def _narrow(call: Call, self: Value, dim: int, start: int, length: int) -> str | Value:
    along = axis(call, self, dim)
    size = self.shape[along]
    first = start + size if start < 0 else start
    call.require(0 <= first < first + length <= size, f"{start}, {length} is no part of {size}")
    return take_range(call, self, along, range(first, first + length))


def _select(call: Call, self: Value, dim: int, index: int) -> str:
    along = axis(call, self, dim)
    size = self.shape[along]
    call.require(-size <= index < size, f"index {index} is outside the {size} of axis {along}")
    return _select_at(call, self, along, index % size)


def _select_at(call: Call, x: Value, along: int, index: int) -> str:
    row = call.add("slice", x, axis=along, start=index, step=1, size=1)
    return call.add("reshape", row, shape=(*x.shape[:along], *x.shape[along + 1 :]))


def _split(call: Call, self: Value, dim: int = 0, **_: object) -> Sequence[str | Value]:
    """One piece after another, as long along the axis as torch's results are."""
    along = axis(call, self, dim)
    call.require(
        all(len(shape) == len(self.shape) for shape in call.results), "its results lack axes"
    )
    sizes = [shape[along] for shape in call.results]
    ends = list(accumulate(sizes))
    call.require(ends[-1:] == [self.shape[along]], f"{sizes} do not make up axis {along}")
    runs = (range(end - size, end) for end, size in zip(ends, sizes, strict=True))
    return [take_range(call, self, along, run) for run in runs]


def _unbind(call: Call, self: Value, dim: int = 0) -> Sequence[str]:
    along = axis(call, self, dim)
    call.require(len(call.results) == self.shape[along], "it has not one result for each row")
    return [_select_at(call, self, along, index) for index in range(len(call.results))]


def _concat(call: Call, tensors: Sequence[Value], dim: int = 0) -> str:
    call.require(len(tensors) > 0, "it joins nothing")
    return call.add("concat", *tensors, axis=axis(call, call.result, dim))


def _stack(call: Call, tensors: Sequence[Value], dim: int = 0) -> str:
    call.require(len(tensors) > 0, "it joins nothing")
    along = axis(call, call.result, dim)
    rows = []
    for tensor in tensors:
        shape = (*tensor.shape[:along], 1, *tensor.shape[along:])
        rows.append(call.add("reshape", tensor, shape=shape))
    return call.add("concat", *rows, axis=along)


def _expand(call: Call, self: Value, **_: object) -> str | Value:
    return self if self.shape == call.result else call.add("expand", self, shape=call.result)


def _repeat(call: Call, self: Value, repeats: Sequence[int]) -> str:
    """Every axis of r repeats as an axis of r before it: expanded, then merged."""
    shape = (*[1] * (len(repeats) - len(self.shape)), *self.shape)
    call.require(len(shape) == len(repeats), f"{tuple(repeats)} has fewer axes than {self.shape}")
    call.require(min(repeats, default=1) > 0, "nothing is left of it")
    pairs = [size for pair in zip(repeats, shape, strict=True) for size in pair]
    ones = [size for size in shape for size in (1, size)]
    apart = call.add("reshape", self, shape=tuple(ones))
    wide = call.add("expand", apart, shape=tuple(pairs))
    return call.add("reshape", wide, shape=call.result)


def _tile(call: Call, self: Value, dims: Sequence[int]) -> str:
    return _repeat(call, self, [*[1] * (len(self.shape) - len(dims)), *dims])


def _repeat_interleave(call: Call, self: Value, repeats: int, dim: int | None = None) -> str:
    """Every element r times in a row: an axis of r behind its own."""
    call.require(repeats > 0, "nothing is left of it")
    shape = self.shape if dim is not None else (math.prod(self.shape),)
    along = 0 if dim is None else axis(call, self, dim)
    head, tail = shape[: along + 1], shape[along + 1 :]
    apart = call.add("reshape", self, shape=(*head, 1, *tail))
    wide = call.add("expand", apart, shape=(*head, repeats, *tail))
    return call.add("reshape", wide, shape=call.result)


def _copy(call: Call, self: Value, src: Value) -> str | Value:
    """What is written over all of a tensor."""
    call.require(src.dtype == self.dtype, f"it makes {self.dtype} of {src.dtype}")
    return _expand(call, src)


SHAPING: dict[str, Rule] = {
    "aten.clone.default": _same_value,
    "aten.detach.default": _same_value,
    "aten.alias.default": _same_value,
    "aten.contiguous.default": _same_value,
    "aten.lift_fresh_copy.default": _same_value,
    "aten._to_copy.default": _same_value,
    "aten.to.dtype": _same_value,
    "aten.to.device": _same_value,
    "aten.to.dtype_layout": _same_value,
    "aten.dropout.default": _dropout,
    "aten.feature_dropout.default": _dropout,
    "aten.alpha_dropout.default": _dropout,
    "aten.native_dropout.default": _native_dropout,
    "aten.view.default": _reshape,
    "aten.reshape.default": _reshape,
    "aten._unsafe_view.default": _reshape,
    "aten.view_as.default": _reshape,
    "aten.reshape_as.default": _reshape,
    "aten.flatten.using_ints": _reshape,
    "aten.unflatten.int": _reshape,
    "aten.ravel.default": _reshape,
    "aten.squeeze.default": _reshape,
    "aten.squeeze.dim": _reshape,
    "aten.squeeze.dims": _reshape,
    "aten.unsqueeze.default": _reshape,
    "aten.permute.default": _permute,
    "aten.transpose.int": _transpose,
    "aten.swapaxes.default": _swapaxes,
    "aten.movedim.int": _movedim,
    "aten.movedim.intlist": _movedim,
    "aten.t.default": _reversed_axes,
    "aten.numpy_T.default": _reversed_axes,
    "aten.mT.default": _last_two,
    "aten.slice.Tensor": _slice,
    "aten.narrow.default": _narrow,
    "aten.select.int": _select,
    "aten.split.Tensor": _split,
    "aten.split_with_sizes.default": _split,
    "aten.chunk.default": _split,
    "aten.unbind.int": _unbind,
    "aten.cat.default": _concat,
    "aten.stack.default": _stack,
    "aten.expand.default": _expand,
    "aten.expand_as.default": _expand,
    "aten.broadcast_to.default": _expand,
    "aten.repeat.default": _repeat,
    "aten.tile.default": _tile,
    "aten.repeat_interleave.self_int": _repeat_interleave,
    "aten.copy.default": _copy,
}
