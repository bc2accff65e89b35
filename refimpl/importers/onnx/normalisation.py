"""Normalisations: by the statistics of training, of a sample, or of neighbours."""

from __future__ import annotations

import math

import numpy as np

from refimpl.importers.onnx.call import Call
from refimpl.importers.onnx.indexing import take_range
from refimpl.importers.onnx.operands import Operand
from refimpl.ops import Shape


def batch_norm(call: Call) -> Operand:
    """BatchNormalization at inference."""
    call.only("training_mode", 0)
    call.only("spatial", 1)
    call.without_effect("momentum")
    x, *statistics = (call.operand(position) for position in range(5))
    return call.add("batch_norm", x, *statistics, eps=_epsilon(call))


def layer_norm(call: Call) -> Operand:
    """LayerNormalization over the axes from `axis` on."""
    call.only("stash_type", 1)
    x, shape = _normalised(call)
    gamma = _spread(call, call.operand(1), shape)
    zeros = call.constant("beta", np.zeros(())) if not call.given(2) else call.operand(2)
    return call.add("layer_norm", x, gamma, _spread(call, zeros, shape), eps=_epsilon(call))


def rms_norm(call: Call) -> Operand:
    """RMSNormalization over the axes from `axis` on."""
    call.only("stash_type", 1)
    x, shape = _normalised(call)
    return call.add("rms_norm", x, _spread(call, call.operand(1), shape), eps=_epsilon(call))


def _normalised(call: Call) -> tuple[Operand, Shape]:
    """The input, and the shape of the axes that are normalised over."""
    x = call.operand(0)
    axis = call.axis(call.attribute("axis", -1), len(x.shape))
    return x, x.shape[axis:]


def _spread(call: Call, values: Operand, shape: Shape) -> Operand:
    """Scale or bias repeated to the shape that it broadcasts to."""
    return values if values.shape == shape else call.add("expand", values, shape=shape)


def group_norm(call: Call) -> Operand:
    """GroupNormalization; before opset 21 scale and bias are given for groups, not channels."""
    call.only("stash_type", 1)
    x, groups = call.operand(0), call.attribute("num_groups")
    call.require(len(x.shape) >= 2, f"input {x.shape} is not [N, C, *S]")
    scale, bias = call.operand(1), call.operand(2)
    if call.opset < 21:
        call.require(groups > 0, f"num_groups={groups} is not 1 or more")
        scale, bias = (_per_channel(call, v, groups, x.shape[1]) for v in (scale, bias))
    return call.add("group_norm", x, scale, bias, groups=groups, eps=_epsilon(call))


def _per_channel(call: Call, values: Operand, groups: int, channels: int) -> Operand:
    """[groups] as [C], each value repeated for the channels of its group."""
    call.require(values.shape == (groups,), f"{values.shape} is not one value for each group")
    call.require(channels % groups == 0, f"{channels} channels do not divide into {groups} groups")
    spread = call.add(
        "expand", call.reshape(values, (groups, 1)), shape=(groups, channels // groups)
    )
    return call.reshape(spread, (channels,))


def instance_norm(call: Call) -> Operand:
    """InstanceNormalization: every channel is a group."""
    x = call.operand(0)
    call.require(len(x.shape) >= 3, f"input {x.shape} is not [N, C, *S]")
    scale, bias = call.operand(1), call.operand(2)
    return call.add("group_norm", x, scale, bias, groups=x.shape[1], eps=_epsilon(call))


def local_response_norm(call: Call) -> Operand:
    """LRN over neighbouring channels."""
    x, size = call.operand(0), call.attribute("size")
    call.require(len(x.shape) >= 2, f"input {x.shape} is not [N, C, *S]")
    alpha, beta, k = (
        float(call.attribute(name, default))
        for name, default in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0))
    )
    # A window of even size has its longer half below in the Graph and above in ONNX.
    mirrored = size % 2 == 0
    x = _mirrored(call, x) if mirrored else x
    y = call.add("local_response_norm", x, size=size, alpha=alpha, beta=beta, k=k)
    return _mirrored(call, y) if mirrored else y


def _mirrored(call: Call, x: Operand) -> Operand:
    """With the channels in reverse order."""
    return take_range(call, x, 1, range(x.shape[1] - 1, -1, -1))


def mean_variance_norm(call: Call) -> Operand:
    """MeanVarianceNormalization: (x - mean) / (standard deviation + 1e-9)."""
    x = call.operand(0)
    axes = tuple(sorted(call.axes(call.attribute("axes", (0, 2, 3)), len(x.shape))))
    centred = call.add("sub", x, call.add("mean", x, axes=axes, keepdims=True))
    squares = call.add("mul", centred, centred)
    deviation = call.add("sqrt", call.add("mean", squares, axes=axes, keepdims=True))
    return call.add("div", centred, call.add("add", deviation, call.constant("eps", 1e-9)))


def _epsilon(call: Call) -> float:
    value = float(call.attribute("epsilon", 1e-5))
    call.require(math.isfinite(value), f"epsilon={value} is not finite")
    return value
