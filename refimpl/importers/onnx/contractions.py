"""Convolutions and matrix products."""

from __future__ import annotations

from refimpl.importers.onnx.call import Call
from refimpl.importers.onnx.operands import Known, Operand
from refimpl.importers.onnx.windows import (
    Padding,
    automatic,
    explicit_padding,
    per_axis,
    split_evenly,
    window_padding,
)
from refimpl.ops import Shape


def conv(call: Call) -> Operand:
    """Conv: torch's convolution, with a low and a high padding."""
    x, w = call.operand(0), call.operand(1)
    kernel = _kernel(call, x, w)
    stride, dilation = (per_axis(call, name, len(kernel), 1) for name in ("strides", "dilations"))
    padding = window_padding(call, x.shape[2:], kernel, stride, dilation)
    groups = call.attribute("group", 1)
    return call.add(
        "conv", x, w, *_bias(call), stride=stride, padding=padding, dilation=dilation, groups=groups
    )


def conv_transpose(call: Call) -> Operand:
    """ConvTranspose: its padding may follow from the output's size."""
    x, w = call.operand(0), call.operand(1)
    kernel = _kernel(call, x, w)
    rank = len(kernel)
    stride, dilation = (per_axis(call, name, rank, 1) for name in ("strides", "dilations"))
    extra = per_axis(call, "output_padding", rank, 0)
    axes = zip(x.shape[2:], kernel, stride, dilation, strict=True)
    full = tuple((size - 1) * s + d * (k - 1) + 1 for size, k, s, d in axes)
    padding, extra = _transposed_padding(call, x.shape[2:], stride, full, extra)
    return call.add(
        "conv_transpose",
        x,
        w,
        *_bias(call),
        stride=stride,
        padding=padding,
        output_padding=extra,
        dilation=dilation,
        groups=call.attribute("group", 1),
    )


def _transposed_padding(
    call: Call, spatial: Shape, stride: Shape, full: Shape, extra: Shape
) -> tuple[Padding, Shape]:
    """Padding and output padding; `full` is the size of the output that nothing is cut from."""
    kind, rank = automatic(call), len(spatial)
    wanted = call.attribute("output_shape")
    if wanted is None and not kind.startswith("SAME"):
        return explicit_padding(call, rank), extra
    if wanted is None:
        wanted = tuple(size * s for size, s in zip(spatial, stride, strict=True))
    # With `output_shape`, `pads` follow from it, and what is given is without effect.
    call.without_effect("pads")
    call.require(len(wanted) in (rank, rank + 2), f"output_shape {wanted} is not {rank} ints")
    sizes = zip(full, extra, wanted[-rank:], strict=True)
    totals = [size + more - target for size, more, target in sizes]
    # A larger output than the windows reach is filled up at its high side.
    extra = tuple(e + max(-total, 0) for e, total in zip(extra, totals, strict=True))
    return split_evenly([max(total, 0) for total in totals], kind), extra


def _kernel(call: Call, x: Operand, w: Operand) -> Shape:
    """The kernel's size, from the weight; `kernel_shape` may only repeat it."""
    call.require(
        3 <= len(x.shape) <= 5 and len(w.shape) == len(x.shape),
        f"input {x.shape} and weight {w.shape} do not have the same 1 to 3 spatial axes",
    )
    kernel = w.shape[2:]
    given = call.attribute("kernel_shape", kernel)
    call.require(given == kernel, f"kernel_shape {given} is not that of the weight {w.shape}")
    return kernel


def _bias(call: Call) -> tuple[Operand, ...]:
    return (call.operand(2),) if call.given(2) else ()


def gemm(call: Call) -> Operand:
    """Gemm: alpha * A' B' + beta * C.  With a constant B it is a linear layer."""
    a, b = call.operand(0), call.operand(1)
    call.require(len(a.shape) == len(b.shape) == 2, f"{a.shape} and {b.shape} are not matrices")
    if call.attribute("transA", 0):
        a = call.add("transpose", a, order=(1, 0))
    transposed = bool(call.attribute("transB", 0))
    alpha, beta = (float(call.attribute(name, 1.0)) for name in ("alpha", "beta"))
    added = [_scaled(call, call.operand(2), beta, "beta")] if call.given(2) else []
    is_bias = bool(added) and added[0].shape == (b.shape[0 if transposed else 1],)
    bias = added if is_bias and alpha == 1.0 else []
    product = _scaled(call, _product(call, a, b, transposed, bias), alpha, "alpha")
    return call.add("add", product, *added) if added and not bias else product


def _scaled(call: Call, x: Operand, factor: float, role: str) -> Operand:
    return x if factor == 1.0 else call.add("mul", x, call.constant(role, factor))


def _product(call: Call, a: Operand, b: Operand, transposed: bool, bias: list[Operand]) -> Operand:
    """a @ b or a @ b.T for a matrix b, plus a bias per column."""
    if isinstance(b, Known):
        weight = b if transposed else call.scope.transposed(b)
        return call.add("linear", a, weight, *bias)
    b = call.add("transpose", b, order=(1, 0)) if transposed else b
    product = call.add("matmul", a, b)
    return call.add("add", product, *bias) if bias else product


def matmul(call: Call) -> Operand:
    """MatMul, NumPy's.  With a constant matrix at the right it is a linear layer."""
    a, b = call.operand(0), call.operand(1)
    call.require(a.shape != () and b.shape != (), "a scalar is no matrix")
    if isinstance(b, Known) and len(b.shape) == 2 and not isinstance(a, Known):
        return _product(call, a, b, False, [])
    left = a if len(a.shape) > 1 else call.reshape(a, (1, *a.shape))
    right = b if len(b.shape) > 1 else call.reshape(b, (*b.shape, 1))
    product = call.add("matmul", left, right)
    return call.reshape(product, _product_shape(a.shape, b.shape, product.shape))


def _product_shape(a: Shape, b: Shape, product: Shape) -> Shape:
    """The product's shape without the axes that were added to vectors."""
    kept = product[:-2]
    rows = product[-2:-1] if len(a) > 1 else ()
    columns = product[-1:] if len(b) > 1 else ()
    return (*kept, *rows, *columns)
