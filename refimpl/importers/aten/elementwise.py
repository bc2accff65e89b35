"""Activations and arithmetic: what is computed for every element alone."""

from __future__ import annotations

import math

import numpy as np

from refimpl.importers.aten.arguments import Rule, axis
from refimpl.importers.call import Call, Operand, Value

_LARGEST_EXPONENT = 16


def _unary(op: str) -> Rule:
    """The rule of an operator of one input, without attributes."""

    def rule(call: Call, self: Value) -> str:
        return call.add(op, self)

    return rule


def _silu(call: Call, input: Value) -> str:
    return call.add("silu", input)


def _gelu(call: Call, self: Value, approximate: str = "none") -> str:
    call.require(approximate in ("none", "tanh"), f"approximate={approximate!r} is not known")
    return call.add("gelu", self, approximate=approximate)


def _leaky_relu(call: Call, self: Value, negative_slope: float = 0.01) -> str:
    return call.add("leaky_relu", self, slope=float(negative_slope))


def _rrelu(
    call: Call,
    self: Value,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
) -> str:
    """At inference the slope is the middle of those drawn in training."""
    call.require(not training, "training=True has no counterpart here; only False has")
    return call.add("leaky_relu", self, slope=(lower + upper) / 2)


def _elu(
    call: Call, self: Value, alpha: float = 1, scale: float = 1, input_scale: float = 1
) -> str:
    call.require(scale == 1, f"scale={scale} has no counterpart here; only 1 has")
    call.require(input_scale == 1, f"input_scale={input_scale} has no counterpart here; only 1 has")
    return call.add("elu", self, alpha=float(alpha))


def _celu(call: Call, self: Value, alpha: float = 1.0) -> str:
    return call.add("celu", self, alpha=float(alpha))


def _softplus(call: Call, self: Value, beta: float = 1, threshold: float = 20) -> str:
    """Past the threshold torch gives x itself, which from 20 on differs by 2e-9 at most."""
    call.require(threshold >= 20, f"threshold={threshold} has no counterpart here; only 20 has")
    return call.add("softplus", self, beta=float(beta))


def _log_sigmoid(call: Call, self: Value) -> str:
    """log(1 / (1 + exp(-x))) = -softplus(-x)."""
    return call.add("neg", call.add("softplus", call.add("neg", self), beta=1.0))


def _glu(call: Call, self: Value, dim: int = -1) -> str:
    """The first half, times sigmoid of the second."""
    along = axis(call, self, dim)
    half = self.shape[along] // 2
    first, second = (
        call.add("slice", self, axis=along, start=start, step=1, size=half) for start in (0, half)
    )
    return call.add("mul", first, call.add("sigmoid", second))


def _prelu(call: Call, self: Value, weight: Value) -> str:
    """One slope for all, or one for each channel, axis 1."""
    if weight.array is None:
        call.refuse("its slopes are computed; only those that are parameters have a counterpart")
    per_channel = (-1, *[1] * (len(self.shape) - 2)) if weight.array.size > 1 else ()
    if weight.array.shape == per_channel or len(per_channel) == 1:
        return call.add("prelu", self, weight)
    return call.add("prelu", self, call.constant("slope", weight.array.reshape(per_channel)))


def _relu6(call: Call, self: Value) -> str:
    return _clamp(call, self, 0, 6)


def _hardtanh(call: Call, self: Value, min_val: float = -1, max_val: float = 1) -> str:
    return _clamp(call, self, min_val, max_val)


def _clamp(call: Call, self: Value, min: float | None = None, max: float | None = None) -> str:
    lo, hi = (-math.inf if min is None else float(min)), (math.inf if max is None else float(max))
    return call.add("clamp", self, lo=lo, hi=hi)


def _clamp_to_tensors(
    call: Call, self: Value, min: Value | None = None, max: Value | None = None
) -> str:
    lifted: Operand = self if min is None else call.add("maximum", self, min)
    return call.name(lifted) if max is None else call.add("minimum", lifted, max)


def _clamp_min_to_tensor(call: Call, self: Value, min: Value) -> str:
    return call.add("maximum", self, min)


def _clamp_max_to_tensor(call: Call, self: Value, max: Value) -> str:
    return call.add("minimum", self, max)


def _clamp_min(call: Call, self: Value, min: float) -> str:
    return _clamp(call, self, min, None)


def _clamp_max(call: Call, self: Value, max: float) -> str:
    return _clamp(call, self, None, max)


def _binary(op: str) -> Rule:
    """The rule of an operator of two inputs, of which torch may give the second as a number."""

    def rule(call: Call, self: Value, other: Value | float) -> str:
        return call.add(op, self, other)

    return rule


def _linear_combination(op: str) -> Rule:
    """The rule of add and sub: self + alpha * other."""

    def rule(call: Call, self: Value, other: Value | float, alpha: float = 1) -> str:
        call.require(alpha == 1, f"alpha={alpha} has no counterpart here; only 1 has")
        return call.add(op, self, other)

    return rule


def _reversed_sub(call: Call, self: Value, other: Value | float, alpha: float = 1) -> str:
    call.require(alpha == 1, f"alpha={alpha} has no counterpart here; only 1 has")
    return call.add("sub", other, self)


def _addcmul(call: Call, self: Value, tensor1: Value, tensor2: Value, value: float = 1) -> str:
    product: Operand = call.add("mul", tensor1, tensor2)
    return call.add("add", self, product if value == 1 else call.add("mul", product, value))


def _addcdiv(call: Call, self: Value, tensor1: Value, tensor2: Value, value: float = 1) -> str:
    ratio: Operand = call.add("div", tensor1, tensor2)
    return call.add("add", self, ratio if value == 1 else call.add("mul", ratio, value))


def _lerp(call: Call, self: Value, end: Value, weight: Value | float) -> str:
    """self + weight * (end - self)."""
    return call.add("add", self, call.add("mul", weight, call.add("sub", end, self)))


def _square(call: Call, self: Value) -> str:
    return call.add("mul", self, self)


def _rsqrt(call: Call, self: Value) -> str:
    return call.add("reciprocal", call.add("sqrt", self))


def _pow(call: Call, self: Value, exponent: float) -> str:
    """Products and roots, and reciprocals of them; else exp(exponent * log x).

    The latter holds for all x where the exponent is not whole: it is NaN below 0, as in torch.
    """
    call.require(math.isfinite(exponent), f"exponent={exponent} has no counterpart here")
    if exponent < 0:
        return call.add("reciprocal", _pow(call, self, -exponent))
    if exponent == 0.5:
        return call.add("sqrt", self)
    if exponent != int(exponent):
        return call.add("exp", call.add("mul", call.add("log", self), exponent))
    if not 1 <= exponent <= _LARGEST_EXPONENT:
        call.refuse(f"exponent={exponent} has no counterpart here; 1 to {_LARGEST_EXPONENT} have")
    return call.name(_product_of(call, self, int(exponent)))


def _product_of(call: Call, x: Value, times: int) -> Operand:
    """x times itself, by squaring."""
    if times == 1:
        return x
    half = _product_of(call, x, times // 2)
    square = call.add("mul", half, half)
    return call.add("mul", square, x) if times % 2 else square


def _masked_fill(call: Call, self: Value, mask: Value, value: Value | float) -> str:
    return _choice(call, mask, _number(call, value), self)


def _where(call: Call, condition: Value, self: Value | float, other: Value | float) -> str:
    """One of the two sides must be a number."""
    if isinstance(self, Value) and (not isinstance(other, Value) or _is_number(other)):
        return _choice(call, condition, _number(call, other), self, chosen=False)
    if not isinstance(other, Value):
        call.refuse("both sides are numbers")
    return _choice(call, condition, _number(call, self), other)


def _choice(call: Call, mask: Value, number: float, x: Value, chosen: bool = True) -> str:
    """x, but the number where the mask is `chosen`: held there between it and itself.

    A NaN at such a place stays one; everything else becomes the number.
    """
    if mask.array is None:
        call.refuse("its mask depends on the inputs; only one that is constant has a counterpart")
    there = mask.array.astype(bool) == chosen
    if number != -math.inf:
        floor = np.where(there, number, -math.inf)
        lifted: Operand = call.add("maximum", x, call.constant("floor", floor))
    else:
        lifted = x
    if number == math.inf:
        return call.name(lifted)
    return call.add("minimum", lifted, call.constant("ceiling", np.where(there, number, math.inf)))


def _is_number(value: Value) -> bool:
    return value.array is not None and value.array.size == 1


def _number(call: Call, value: Value | float) -> float:
    if not isinstance(value, Value):
        return float(value)
    if value.array is None or value.array.size != 1:
        call.refuse("neither side is a number; a choice between two tensors has no counterpart")
    return float(value.array.item())


ELEMENTWISE: dict[str, Rule] = {
    **{
        f"aten.{name}.default": _unary(name)
        for name in (
            "relu",
            "sigmoid",
            "tanh",
            "hardswish",
            "hardsigmoid",
            "selu",
            "mish",
            "abs",
            "neg",
            "exp",
            "log",
            "sqrt",
            "reciprocal",
            "erf",
        )
    },
    "aten.silu.default": _unary("silu"),
    "aten.special_expit.default": _unary("sigmoid"),
    "aten.gelu.default": _gelu,
    "aten.leaky_relu.default": _leaky_relu,
    "aten.rrelu.default": _rrelu,
    "aten.elu.default": _elu,
    "aten.celu.default": _celu,
    "aten.softplus.default": _softplus,
    "aten.log_sigmoid.default": _log_sigmoid,
    "aten.glu.default": _glu,
    "aten.prelu.default": _prelu,
    "aten._prelu_kernel.default": _prelu,
    "aten.relu6.default": _relu6,
    "aten.hardtanh.default": _hardtanh,
    "aten.clamp.default": _clamp,
    "aten.clamp.Tensor": _clamp_to_tensors,
    "aten.clamp_min.Tensor": _clamp_min_to_tensor,
    "aten.clamp_max.Tensor": _clamp_max_to_tensor,
    "aten.clamp_min.default": _clamp_min,
    "aten.clamp_max.default": _clamp_max,
    "aten.add.Tensor": _linear_combination("add"),
    "aten.add.Scalar": _linear_combination("add"),
    "aten.sub.Tensor": _linear_combination("sub"),
    "aten.sub.Scalar": _linear_combination("sub"),
    "aten.rsub.Tensor": _reversed_sub,
    "aten.rsub.Scalar": _reversed_sub,
    "aten.mul.Tensor": _binary("mul"),
    "aten.mul.Scalar": _binary("mul"),
    "aten.div.Tensor": _binary("div"),
    "aten.div.Scalar": _binary("div"),
    "aten.true_divide.Tensor": _binary("div"),
    "aten.maximum.default": _binary("maximum"),
    "aten.minimum.default": _binary("minimum"),
    "aten.max.other": _binary("maximum"),
    "aten.min.other": _binary("minimum"),
    "aten.addcmul.default": _addcmul,
    "aten.addcdiv.default": _addcdiv,
    "aten.lerp.Scalar": _lerp,
    "aten.lerp.Tensor": _lerp,
    "aten.square.default": _square,
    "aten.rsqrt.default": _rsqrt,
    "aten.pow.Tensor_Scalar": _pow,
    "aten.masked_fill.Scalar": _masked_fill,
    "aten.masked_fill.Tensor": _masked_fill,
    "aten.where.self": _where,
    "aten.where.ScalarSelf": _where,
    "aten.where.ScalarOther": _where,
}
