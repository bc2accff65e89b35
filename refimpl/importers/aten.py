"""What each of torch's operators (aten) is as an operator of ours: one function each, one table.

Nothing is approximated: an argument that our operator has no word for is refused.  torch is not
imported: a `Call` brings the arguments, by their names in aten's schema.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from refimpl.importers.call import Call, Value
from refimpl.ops import Shape

Rule = Callable[[Call], str]


def _elementwise(op: str, argument: str = "self") -> Rule:
    """The rule of an activation without attributes."""
    return lambda call: call.add(op, call.tensor(argument))


def _same_value(call: Call) -> str:
    """A copy, a dtype that it had, an expand to its own shape: nothing is computed."""
    if "dtype" in call.arguments:
        call.only("dtype", None, "torch.float32")
    if call.shape("self") != call.result:
        call.refuse(f"it makes {call.result} of {call.shape('self')} by repeating values")
    return call.tensor("self")


def _conv(call: Call) -> str:
    rank = len(call.shape("weight")) - 2
    lows = _per_axis(call.arguments["padding"], rank)
    return _add_conv(call, tuple((low, low) for low in lows))


def _conv_with_named_padding(call: Call) -> str:
    """padding="same" pads by dilation*(K-1) in all, the odd one at the high side."""
    kernel = call.shape("weight")[2:]
    if call.arguments["padding"] == "valid":
        return _add_conv(call, ((0, 0),) * len(kernel))
    dilation = _per_axis(call.arguments["dilation"], len(kernel))
    totals = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    return _add_conv(call, tuple((total // 2, total - total // 2) for total in totals))


def _add_conv(call: Call, padding: tuple[tuple[int, int], ...]) -> str:
    stride, dilation = (_per_axis(call.arguments[n], len(padding)) for n in ("stride", "dilation"))
    groups = call.arguments["groups"]
    inputs = (call.tensor("input"), call.tensor("weight"), *_optional(call, "bias"))
    return call.add(
        "conv", *inputs, stride=stride, padding=padding, dilation=dilation, groups=groups
    )


def _linear(call: Call) -> str:
    return call.add("linear", call.tensor("input"), call.tensor("weight"), *_optional(call, "bias"))


def _batch_norm(call: Call) -> str:
    channels = call.shape("input")[1:2]
    affine = {"weight": np.ones(channels), "bias": np.zeros(channels)}
    gamma, beta = (
        call.constant(name, missing) if call.arguments[name] is None else call.tensor(name)
        for name, missing in affine.items()
    )
    statistics = call.tensor("running_mean"), call.tensor("running_var")
    return call.add(
        "batch_norm", call.tensor("input"), gamma, beta, *statistics, eps=call.arguments["eps"]
    )


def _max_pool(call: Call) -> str:
    dilation = _per_axis(call.arguments["dilation"], len(call.result) - 2)
    return call.add("max_pool", call.tensor("self"), **_window(call), dilation=dilation)


def _avg_pool(call: Call) -> str:
    if "divisor_override" in call.arguments:
        call.only("divisor_override", None)
    counted = call.arguments["count_include_pad"]
    return call.add("avg_pool", call.tensor("self"), **_window(call), count_include_pad=counted)


def _window(call: Call) -> dict[str, Any]:
    """Kernel, stride, padding and ceil_mode of a pool."""
    rank = len(call.result) - 2
    kernel = _per_axis(call.arguments["kernel_size"], rank)
    # aten writes "the kernel's size" as an empty stride.
    stride = _per_axis(call.arguments["stride"] or kernel, rank)
    padding = tuple((p, p) for p in _per_axis(call.arguments["padding"], rank))
    ceil_mode = call.arguments["ceil_mode"]
    return {"kernel": kernel, "stride": stride, "padding": padding, "ceil_mode": ceil_mode}


def _adaptive_avg_pool(call: Call) -> str:
    return call.add("adaptive_avg_pool", call.tensor("self"), output=call.result[2:])


def _adaptive_max_pool(call: Call) -> str:
    return call.add("adaptive_max_pool", call.tensor("self"), output=call.result[2:])


def _gelu(call: Call) -> str:
    return call.add("gelu", call.tensor("self"), approximate=call.arguments["approximate"])


def _leaky_relu(call: Call) -> str:
    slope = float(call.arguments["negative_slope"])
    return call.add("leaky_relu", call.tensor("self"), slope=slope)


def _elu(call: Call) -> str:
    call.only("scale", 1)
    call.only("input_scale", 1)
    return call.add("elu", call.tensor("self"), alpha=float(call.arguments["alpha"]))


def _clamp(lo: str | None, hi: str | None) -> Rule:
    """The rule of a clamp whose bounds are the arguments of these names."""
    return lambda call: _add_clamp(
        call, call.arguments[lo] if lo else None, call.arguments[hi] if hi else None
    )


def _relu6(call: Call) -> str:
    return _add_clamp(call, 0.0, 6.0)


def _add_clamp(call: Call, lo: float | None, hi: float | None) -> str:
    bounds = (-math.inf if lo is None else float(lo), math.inf if hi is None else float(hi))
    return call.add("clamp", call.tensor("self"), lo=bounds[0], hi=bounds[1])


def _sum_or_difference(op: str) -> Rule:
    """The rule of add and sub: a + alpha * b, with alpha 1."""

    def rule(call: Call) -> str:
        call.only("alpha", 1)
        return call.add(op, call.tensor("self"), call.tensor("other"))

    return rule


def _reversed_sub(call: Call) -> str:
    call.only("alpha", 1)
    return call.add("sub", call.tensor("other"), call.tensor("self"))


def _mul(call: Call) -> str:
    return call.add("mul", call.tensor("self"), call.tensor("other"))


def _div(call: Call) -> str:
    """By a power of two, whose reciprocal is exact; other divisions would be approximated."""
    divisor = call.arguments["other"]
    if isinstance(divisor, Value) or abs(math.frexp(divisor)[0]) != 0.5:
        call.refuse(
            "there is no division; only by a power of two is a multiplication the same. "
            "Write it as a multiplication"
        )
    return call.add("mul", call.tensor("self"), call.constant("other", np.float32(1 / divisor)))


def _concat(call: Call) -> str:
    names = [value.name for value in call.arguments["tensors"]]
    return call.add("concat", *names, axis=call.arguments["dim"] % len(call.result))


def _reshape(call: Call) -> str:
    """A run of axes merged into one is `flatten`, which holds for any batch; else `reshape`."""
    x, shape = call.shape("self"), call.result
    if x == shape:
        return call.tensor("self")
    differs = (i for i, (a, b) in enumerate(zip(x, shape, strict=False)) if a != b)
    start = next(differs, len(shape) - 1)
    end = start + len(x) - len(shape)
    merged = (*x[:start], math.prod(x[start : end + 1]), *x[end + 1 :])
    if 0 <= start < end and merged == shape:
        return call.add("flatten", call.tensor("self"), start=start, end=end)
    return call.add("reshape", call.tensor("self"), shape=shape)


def _softmax(call: Call) -> str:
    call.only("dtype", None, "torch.float32")
    return call.add("softmax", call.tensor("self"), axis=call.arguments["dim"] % len(call.result))


def _mean(call: Call) -> str:
    call.only("dtype", None, "torch.float32")
    rank = len(call.shape("self"))
    # An absent or empty list of axes means all of them.
    axes = call.arguments.get("dim") or range(rank)
    axes = tuple(sorted(axis % rank for axis in axes))
    keepdims = call.arguments.get("keepdim", False)
    return call.add("mean", call.tensor("self"), axes=axes, keepdims=keepdims)


def _per_axis(value: int | Sequence[int], rank: int) -> Shape:
    """One int per spatial axis; aten writes equal ones as one int or a list of one."""
    sizes = (value,) if isinstance(value, int) else tuple(value)
    return sizes * rank if len(sizes) == 1 else sizes


def _optional(call: Call, argument: str) -> tuple[str, ...]:
    return () if call.arguments[argument] is None else (call.tensor(argument),)


RULES: dict[str, Rule] = {
    "aten.conv1d.default": _conv,
    "aten.conv2d.default": _conv,
    "aten.conv3d.default": _conv,
    "aten.conv1d.padding": _conv_with_named_padding,
    "aten.conv2d.padding": _conv_with_named_padding,
    "aten.conv3d.padding": _conv_with_named_padding,
    "aten.linear.default": _linear,
    "aten._native_batch_norm_legit_no_training.default": _batch_norm,
    "aten.max_pool1d.default": _max_pool,
    "aten.max_pool2d.default": _max_pool,
    "aten.max_pool3d.default": _max_pool,
    "aten.max_pool1d_with_indices.default": _max_pool,
    "aten.max_pool2d_with_indices.default": _max_pool,
    "aten.max_pool3d_with_indices.default": _max_pool,
    "aten.avg_pool1d.default": _avg_pool,
    "aten.avg_pool2d.default": _avg_pool,
    "aten.avg_pool3d.default": _avg_pool,
    "aten.adaptive_avg_pool1d.default": _adaptive_avg_pool,
    "aten.adaptive_avg_pool2d.default": _adaptive_avg_pool,
    "aten.adaptive_avg_pool3d.default": _adaptive_avg_pool,
    "aten.adaptive_max_pool1d.default": _adaptive_max_pool,
    "aten.adaptive_max_pool2d.default": _adaptive_max_pool,
    "aten.adaptive_max_pool3d.default": _adaptive_max_pool,
    "aten.relu.default": _elementwise("relu"),
    "aten.sigmoid.default": _elementwise("sigmoid"),
    "aten.tanh.default": _elementwise("tanh"),
    "aten.silu.default": _elementwise("silu"),
    "aten.hardswish.default": _elementwise("hardswish"),
    "aten.hardsigmoid.default": _elementwise("hardsigmoid"),
    "aten.gelu.default": _gelu,
    "aten.leaky_relu.default": _leaky_relu,
    "aten.elu.default": _elu,
    "aten.relu6.default": _relu6,
    "aten.hardtanh.default": _clamp("min_val", "max_val"),
    "aten.clamp.default": _clamp("min", "max"),
    "aten.clamp_min.default": _clamp("min", None),
    "aten.clamp_max.default": _clamp(None, "max"),
    "aten.add.Tensor": _sum_or_difference("add"),
    "aten.sub.Tensor": _sum_or_difference("sub"),
    "aten.rsub.Scalar": _reversed_sub,
    "aten.mul.Tensor": _mul,
    "aten.div.Tensor": _div,
    "aten.cat.default": _concat,
    "aten.view.default": _reshape,
    "aten.reshape.default": _reshape,
    "aten._unsafe_view.default": _reshape,
    "aten.squeeze.default": _reshape,
    "aten.squeeze.dim": _reshape,
    "aten.squeeze.dims": _reshape,
    "aten.unsqueeze.default": _reshape,
    "aten.softmax.int": _softmax,
    "aten.mean.default": _mean,
    "aten.mean.dim": _mean,
    "aten.clone.default": _same_value,
    "aten.detach.default": _same_value,
    "aten.alias.default": _same_value,
    "aten.expand.default": _same_value,
    "aten._to_copy.default": _same_value,
}
