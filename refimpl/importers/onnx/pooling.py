"""Pools over windows and over everything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from refimpl.importers.onnx.call import Call
from refimpl.importers.onnx.operands import Operand
from refimpl.importers.onnx.windows import automatic, per_axis, window_padding
from refimpl.ops import Shape


def max_pool(call: Call) -> Operand:
    """MaxPool: torch's; the indices of the maxima are not computed."""
    call.without_effect("storage_order")  # of the indices
    kernel, dilation = _kernel(call)
    return call.add(
        "max_pool", call.operand(0), **_window(call, kernel, dilation), dilation=dilation
    )


def average_pool(call: Call) -> Operand:
    """AveragePool: torch's, without dilation."""
    kernel, dilation = _kernel(call)
    call.require(set(dilation) == {1}, f"dilations={dilation} has no counterpart here")
    counted = bool(call.attribute("count_include_pad", 0))
    window = _window(call, kernel, dilation)
    return call.add("avg_pool", call.operand(0), **window, count_include_pad=counted)


def _kernel(call: Call) -> tuple[Shape, Shape]:
    """Size and dilation of the windows."""
    rank = len(call.operand(0).shape) - 2
    call.require(1 <= rank <= 3, f"input {call.operand(0).shape} has not 1 to 3 spatial axes")
    return per_axis(call, "kernel_shape", rank, 1), per_axis(call, "dilations", rank, 1)


def _window(call: Call, kernel: Shape, dilation: Shape) -> dict[str, Any]:
    spatial = call.operand(0).shape[2:]
    stride = per_axis(call, "strides", len(kernel), 1)
    padding = window_padding(call, spatial, kernel, stride, dilation)
    ceil_mode, kind = bool(call.attribute("ceil_mode", 0)), automatic(call)
    # ONNX's text and its implementations differ about this one.
    call.require(not (ceil_mode and kind == "VALID"), "auto_pad=VALID with ceil_mode is ambiguous")
    # With SAME the padding fixes how many windows there are.
    ceil_mode = ceil_mode and kind == "NOTSET"
    return {"kernel": kernel, "stride": stride, "padding": padding, "ceil_mode": ceil_mode}


def global_pool(pool: str, reduction: str) -> Callable[[Call], Operand]:
    """GlobalAveragePool, GlobalMaxPool: over all spatial axes, however many."""

    def rule(call: Call) -> Operand:
        x = call.operand(0)
        rank = len(x.shape) - 2
        call.require(rank >= 1, f"input {x.shape} has no spatial axes")
        if rank <= 3:
            return call.add(pool, x, output=(1,) * rank)
        return call.add(reduction, x, axes=tuple(range(2, rank + 2)), keepdims=True)

    return rule
