"""Convolutions, products of matrices, embedding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from refimpl.importers.aten.arguments import Ints, Rule, per_axis
from refimpl.importers.call import Call, Operand, Value


def _conv(
    call: Call,
    input: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Ints = 1,
    padding: Ints = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> str:
    rank = len(weight.shape) - 2
    sides = tuple((low, low) for low in per_axis(call, padding, rank))
    return _add_conv(call, input, weight, bias, stride, sides, dilation, groups)


def _conv_with_named_padding(
    call: Call,
    input: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Ints = 1,
    padding: str = "valid",
    dilation: Ints = 1,
    groups: int = 1,
) -> str:
    """padding="same" pads by dilation*(K-1) in all, the odd one at the high side."""
    kernel = weight.shape[2:]
    call.require(padding in ("valid", "same"), f"padding={padding!r} is not known")
    totals = [
        d * (k - 1) if padding == "same" else 0
        for d, k in zip(per_axis(call, dilation, len(kernel)), kernel, strict=True)
    ]
    sides = tuple((total // 2, total - total // 2) for total in totals)
    return _add_conv(call, input, weight, bias, stride, sides, dilation, groups)


def _add_conv(
    call: Call,
    x: Value,
    weight: Value,
    bias: Value | None,
    stride: Ints,
    padding: tuple[tuple[int, int], ...],
    dilation: Ints,
    groups: int,
) -> str:
    rank = len(weight.shape) - 2
    return call.add(
        "conv",
        *(x, weight, *_given(bias)),
        stride=per_axis(call, stride, rank),
        padding=padding,
        dilation=per_axis(call, dilation, rank),
        groups=groups,
    )


def _conv_transpose(
    call: Call,
    input: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Ints = 1,
    padding: Ints = 0,
    output_padding: Ints = 0,
    groups: int = 1,
    dilation: Ints = 1,
) -> str:
    rank = len(weight.shape) - 2
    return call.add(
        "conv_transpose",
        *(input, weight, *_given(bias)),
        stride=per_axis(call, stride, rank),
        padding=tuple((p, p) for p in per_axis(call, padding, rank)),
        output_padding=per_axis(call, output_padding, rank),
        dilation=per_axis(call, dilation, rank),
        groups=groups,
    )


def _convolution(
    call: Call,
    input: Value,
    weight: Value,
    bias: Value | None,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    transposed: bool,
    output_padding: Ints,
    groups: int,
) -> str:
    """Either of the two, as exports that are decomposed have them."""
    operands = input, weight, bias, stride, padding
    if transposed:
        return _conv_transpose(call, *operands, output_padding, groups, dilation)
    return _conv(call, *operands, dilation, groups)


def _linear(call: Call, input: Value, weight: Value, bias: Value | None = None) -> str:
    return call.add("linear", input, weight, *_given(bias))


def _matmul(call: Call, self: Value, other: Value) -> str:
    """torch's matmul: a vector is a row on the left, a column on the right."""
    call.require(bool(self.shape and other.shape), "a scalar cannot be multiplied as a matrix")
    if other.origin is not None:
        return call.add("linear", self, other.origin)
    a: Operand = self
    b: Operand = other
    if len(self.shape) == 1:
        a = call.add("reshape", self, shape=(1, *self.shape))
    if len(other.shape) == 1:
        b = call.add("reshape", other, shape=(*other.shape, 1))
    product = call.add("matmul", a, b)
    return product if call.shape(product) == call.result else reshaped(call, product)


def reshaped(call: Call, value: str) -> str:
    """The value under the shape that torch gave the result."""
    return call.add("reshape", value, shape=call.result)


def _mm(call: Call, self: Value, mat2: Value) -> str:
    return _matmul(call, self, mat2)


def _addmm(
    call: Call, self: Value, mat1: Value, mat2: Value, beta: float = 1, alpha: float = 1
) -> str:
    """beta * self + alpha * (mat1 @ mat2): what a linear layer is decomposed to."""
    bias_of_a_layer = self.array is not None and self.shape == mat2.shape[1:]
    if mat2.origin is not None and bias_of_a_layer and beta == alpha == 1:
        return call.add("linear", mat1, mat2.origin, self)
    product: Operand = _matmul(call, mat1, mat2)
    return call.add("add", _times(call, self, beta), _times(call, product, alpha))


def _baddbmm(
    call: Call, self: Value, batch1: Value, batch2: Value, beta: float = 1, alpha: float = 1
) -> str:
    return _addmm(call, self, batch1, batch2, beta, alpha)


def _times(call: Call, value: Operand, factor: float) -> Operand:
    return value if factor == 1 else call.add("mul", value, factor)


def _embedding(call: Call, weight: Value, indices: Value) -> str:
    if weight.array is not None and indices.array is not None:
        rows = weight.shape[0]
        inside = bool(np.all((indices.array >= 0) & (indices.array < rows)))
        call.require(inside, f"an index is outside the table of {rows} rows")
        return call.constant("rows", weight.array[indices.array])
    return call.add("embedding", indices, weight)


def _given(bias: Value | None) -> Sequence[Value]:
    return () if bias is None else (bias,)


CONTRACTIONS: dict[str, Rule] = {
    "aten.conv1d.default": _conv,
    "aten.conv2d.default": _conv,
    "aten.conv3d.default": _conv,
    "aten.conv1d.padding": _conv_with_named_padding,
    "aten.conv2d.padding": _conv_with_named_padding,
    "aten.conv3d.padding": _conv_with_named_padding,
    "aten.conv_transpose1d.default": _conv_transpose,
    "aten.conv_transpose2d.input": _conv_transpose,
    "aten.conv_transpose3d.input": _conv_transpose,
    "aten.convolution.default": _convolution,
    "aten.linear.default": _linear,
    "aten.matmul.default": _matmul,
    "aten.mm.default": _mm,
    "aten.bmm.default": _mm,
    "aten.addmm.default": _addmm,
    "aten.baddbmm.default": _baddbmm,
    "aten.embedding.default": _embedding,
}
