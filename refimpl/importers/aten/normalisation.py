"""Norms: by statistics of training, of a layer, of groups of channels; and softmax."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from refimpl.importers.aten.arguments import Rule, axis
from refimpl.importers.call import Call, Operand, Value
from refimpl.ops import Shape


def _batch_norm(
    call: Call,
    input: Value,
    weight: Value | None,
    bias: Value | None,
    running_mean: Value | None,
    running_var: Value | None,
    training: bool,
    eps: float,
) -> str:
    if training or running_mean is None or running_var is None:
        call.refuse("it takes the statistics of its input; only those of training have a word here")
    affine = _affine(call, input.shape[1:2], weight, bias)
    return call.add("batch_norm", input, *affine, running_mean, running_var, eps=float(eps))


def _batch_norm_at_inference(
    call: Call,
    input: Value,
    weight: Value | None,
    bias: Value | None,
    running_mean: Value,
    running_var: Value,
    eps: float,
) -> Sequence[str | None]:
    found = _batch_norm(call, input, weight, bias, running_mean, running_var, False, eps)
    return found, None, None


def _layer_norm(
    call: Call,
    input: Value,
    normalized_shape: Sequence[int],
    weight: Value | None = None,
    bias: Value | None = None,
    eps: float = 1e-5,
) -> str:
    shape = _last_axes(call, input, normalized_shape)
    affine = _affine(call, shape, weight, bias)
    return call.add("layer_norm", input, *affine, eps=float(eps))


def _native_layer_norm(
    call: Call,
    input: Value,
    normalized_shape: Sequence[int],
    weight: Value | None,
    bias: Value | None,
    eps: float,
) -> Sequence[str | None]:
    return _layer_norm(call, input, normalized_shape, weight, bias, eps), None, None


def _rms_norm(
    call: Call,
    input: Value,
    normalized_shape: Sequence[int],
    weight: Value | None = None,
    eps: float | None = None,
) -> str:
    """Without a given eps, torch takes the distance from 1 to the next float32."""
    shape = _last_axes(call, input, normalized_shape)
    gamma = call.filled("weight", 1.0, shape) if weight is None else weight
    given = float(np.finfo(np.float32).eps) if eps is None else float(eps)
    return call.add("rms_norm", input, gamma, eps=given)


def _group_norm(
    call: Call,
    input: Value,
    num_groups: int,
    weight: Value | None = None,
    bias: Value | None = None,
    eps: float = 1e-5,
) -> str:
    affine = _affine(call, input.shape[1:2], weight, bias)
    return call.add("group_norm", input, *affine, groups=num_groups, eps=float(eps))


def _native_group_norm(
    call: Call,
    input: Value,
    weight: Value | None,
    bias: Value | None,
    N: int,
    C: int,
    HxW: int,
    group: int,
    eps: float,
) -> Sequence[str | None]:
    call.require(input.shape[:2] == (N, C), f"{N} and {C} are not the input's {input.shape}")
    call.require(N * C * HxW == np.prod(input.shape), f"{HxW} is not the size of the input's plane")
    return _group_norm(call, input, group, weight, bias, eps), None, None


def _instance_norm(
    call: Call,
    input: Value,
    weight: Value | None,
    bias: Value | None,
    running_mean: Value | None,
    running_var: Value | None,
    use_input_stats: bool,
    eps: float,
) -> str:
    """Groups of one channel; or a batch norm, where it goes by the statistics of training."""
    if use_input_stats:
        return _group_norm(call, input, input.shape[1], weight, bias, eps)
    return _batch_norm(call, input, weight, bias, running_mean, running_var, False, eps)


def _last_axes(call: Call, x: Value, given: Sequence[int]) -> Shape:
    shape = tuple(given)
    call.require(shape == x.shape[-len(shape) :], f"{shape} are not the last axes of {x.shape}")
    return shape


def _affine(
    call: Call, shape: Shape, weight: Value | None, bias: Value | None
) -> tuple[Operand, Operand]:
    """Factor and summand, 1 and 0 where the module has none."""
    gamma = call.filled("weight", 1.0, shape) if weight is None else weight
    beta = call.filled("bias", 0.0, shape) if bias is None else bias
    return gamma, beta


def _softmax(op: str) -> Rule:
    """The rule of softmax and its logarithm."""

    def rule(call: Call, self: Value, dim: int, dtype: str | None = None) -> str:
        call.require(
            dtype in (None, "float32"),
            f"dtype=torch.{dtype} has no counterpart here; only torch.float32 has",
        )
        return call.add(op, self, axis=axis(call, self, dim))

    return rule


NORMALISATION: dict[str, Rule] = {
    "aten.batch_norm.default": _batch_norm,
    "aten._native_batch_norm_legit_no_training.default": _batch_norm_at_inference,
    "aten.layer_norm.default": _layer_norm,
    "aten.native_layer_norm.default": _native_layer_norm,
    "aten.rms_norm.default": _rms_norm,
    "aten.group_norm.default": _group_norm,
    "aten.native_group_norm.default": _native_group_norm,
    "aten.instance_norm.default": _instance_norm,
    "aten.softmax.int": _softmax("softmax"),
    "aten._softmax.default": _softmax("softmax"),
    "aten.log_softmax.int": _softmax("log_softmax"),
    "aten._log_softmax.default": _softmax("log_softmax"),
}
