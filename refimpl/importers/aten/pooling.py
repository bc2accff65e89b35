"""Pools, their windows explicit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from refimpl.importers.aten.arguments import Ints, Rule, per_axis
from refimpl.importers.call import Call, Value


def _max_pool(
    call: Call,
    self: Value,
    kernel_size: Ints,
    stride: Ints = (),
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
) -> Sequence[str | None]:
    window = _window(call, kernel_size, stride, padding, ceil_mode)
    sizes = per_axis(call, dilation, len(window["kernel"]))
    return call.add("max_pool", self, **window, dilation=sizes), None


def _max_pool_alone(
    call: Call,
    self: Value,
    kernel_size: Ints,
    stride: Ints = (),
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
) -> str:
    """Without the indices."""
    found, _ = _max_pool(call, self, kernel_size, stride, padding, dilation, ceil_mode)
    return str(found)


def _avg_pool(
    call: Call,
    self: Value,
    kernel_size: Ints,
    stride: Ints = (),
    padding: Ints = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> str:
    call.require(
        divisor_override is None,
        f"divisor_override={divisor_override} has no counterpart here; only None has",
    )
    window = _window(call, kernel_size, stride, padding, ceil_mode)
    return call.add("avg_pool", self, **window, count_include_pad=count_include_pad)


def _window(
    call: Call, kernel: Ints, stride: Ints, padding: Ints, ceil_mode: bool
) -> dict[str, Any]:
    """The attributes that all pools have."""
    rank = len(call.result) - 2
    kernel = per_axis(call, kernel, rank)
    return {
        "kernel": kernel,
        # aten writes "the kernel's size" as an empty stride.
        "stride": kernel if stride == [] or stride == () else per_axis(call, stride, rank),
        "padding": tuple((p, p) for p in per_axis(call, padding, rank)),
        "ceil_mode": ceil_mode,
    }


def _adaptive_avg_pool(call: Call, self: Value, output_size: Ints) -> str:
    return call.add("adaptive_avg_pool", self, output=_output(call, output_size))


def _adaptive_max_pool(call: Call, self: Value, output_size: Ints) -> Sequence[str | None]:
    return call.add("adaptive_max_pool", self, output=_output(call, output_size)), None


def _output(call: Call, sizes: Ints) -> tuple[int, ...]:
    return per_axis(call, sizes, len(call.result) - 2)


POOLING: dict[str, Rule] = {
    "aten.max_pool1d.default": _max_pool_alone,
    "aten.max_pool2d.default": _max_pool_alone,
    "aten.max_pool3d.default": _max_pool_alone,
    "aten.max_pool1d_with_indices.default": _max_pool,
    "aten.max_pool2d_with_indices.default": _max_pool,
    "aten.max_pool3d_with_indices.default": _max_pool,
    "aten.avg_pool1d.default": _avg_pool,
    "aten.avg_pool2d.default": _avg_pool,
    "aten.avg_pool3d.default": _avg_pool,
    "aten.adaptive_avg_pool1d.default": _adaptive_avg_pool,
    "aten.adaptive_avg_pool2d.default": _adaptive_avg_pool,
    "aten.adaptive_avg_pool3d.default": _adaptive_avg_pool,
    "aten._adaptive_avg_pool2d.default": _adaptive_avg_pool,
    "aten._adaptive_avg_pool3d.default": _adaptive_avg_pool,
    "aten.adaptive_max_pool1d.default": _adaptive_max_pool,
    "aten.adaptive_max_pool2d.default": _adaptive_max_pool,
    "aten.adaptive_max_pool3d.default": _adaptive_max_pool,
}
