"""Operators on elements: activations, arithmetic, powers."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce

import numpy as np

from refimpl.importers.onnx.call import Call
from refimpl.importers.onnx.operands import Known, Operand

Rule = Callable[[Call], Operand]

# The defaults of Selu: the paper's constants, rounded to float32.
_SELU = {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875}


def unary(op: str) -> Rule:
    """The rule of an operator of one input and no attributes."""
    return lambda call: call.add(op, call.operand(0))


def binary(op: str) -> Rule:
    """The rule of an operator of two inputs that broadcast."""
    return lambda call: call.add(op, call.operand(0), call.operand(1))


def variadic(op: str) -> Rule:
    """The rule of an operator of one or more inputs that broadcast."""
    return lambda call: reduce(lambda a, b: call.add(op, a, b), call.operands())


def mean_of_inputs(call: Call) -> Operand:
    """Mean: the sum of the inputs, divided by how many there are."""
    count = call.constant("count", len(call.operands()))
    return call.add("div", variadic("add")(call), count)


def scaled(op: str, attribute: str, ours: str, default: float) -> Rule:
    """The rule of an activation with one number."""
    return lambda call: call.add(
        op, call.operand(0), **{ours: float(call.attribute(attribute, default))}
    )


def plain_softplus(call: Call) -> Operand:
    """Softplus: log(1 + exp(x))."""
    return call.add("softplus", call.operand(0), beta=1.0)


def gelu(call: Call) -> Operand:
    """Gelu, exact or by tanh."""
    return call.add("gelu", call.operand(0), approximate=call.attribute("approximate", "none"))


def selu(call: Call) -> Operand:
    """Selu: gamma * elu(x, alpha); with the paper's constants an operator of its own."""
    given = {name: float(call.attribute(name, default)) for name, default in _SELU.items()}
    if given == _SELU:
        return call.add("selu", call.operand(0))
    curve = call.add("elu", call.operand(0), alpha=given["alpha"])
    return call.add("mul", curve, call.constant("gamma", given["gamma"]))


def hard_sigmoid(call: Call) -> Operand:
    """HardSigmoid: clamp(alpha * x + beta, 0, 1); 1/6 (as float32 has it) and 1/2 are torch's."""
    alpha, beta = float(call.attribute("alpha", 0.2)), float(call.attribute("beta", 0.5))
    if np.float32(alpha) == np.float32(1 / 6) and beta == 0.5:
        return call.add("hardsigmoid", call.operand(0))
    sloped = call.add("mul", call.operand(0), call.constant("alpha", alpha))
    return call.add("clamp", call.add("add", sloped, call.constant("beta", beta)), lo=0.0, hi=1.0)


def swish(call: Call) -> Operand:
    """Swish: x * sigmoid(alpha * x)."""
    return _swish(call, call.operand(0))


def swiglu(call: Call) -> Operand:
    """SwiGLU: swish of the first input, times the second; nothing broadcasts."""
    a, b = call.operand(0), call.operand(1)
    call.require(a.shape == b.shape, f"{a.shape} and {b.shape} are not the same shape")
    return call.add("mul", _swish(call, a), b)


def _swish(call: Call, x: Operand) -> Operand:
    alpha = float(call.attribute("alpha", 1.0))
    if alpha == 1.0:
        return call.add("silu", x)
    gate = call.add("sigmoid", call.add("mul", x, call.constant("alpha", alpha)))
    return call.add("mul", x, gate)


def clip(call: Call) -> Operand:
    """Clip: bounds are attributes before opset 11; they may be values of the network after."""
    x = call.operand(0)
    if call.opset < 11:
        # The default of the attributes is the largest float32: no bound but for infinities.
        largest = float(np.finfo(np.float32).max)
        lo, hi = (call.attribute(name, s * largest) for name, s in (("min", -1), ("max", 1)))
        return call.add("clamp", x, lo=float(lo), hi=float(hi))
    bounds = [call.inputs[i] if call.given(i) else None for i in (1, 2)]
    if not any(bound is not None and not isinstance(bound, Known) for bound in bounds):
        lo = call.scalar(1, "min") if call.given(1) else -math.inf
        hi = call.scalar(2, "max") if call.given(2) else math.inf
        return call.add("clamp", x, lo=lo, hi=hi)
    for op, bound in zip(("maximum", "minimum"), bounds, strict=True):
        x = x if bound is None else call.add(op, x, bound)
    return x


def prelu(call: Call) -> Operand:
    """PRelu: the slope broadcasts to x, and x not to the slope."""
    x, slope = call.operand(0), call.operand(1)
    call.require(_broadcast(call, x, slope) == x.shape, f"slope {slope.shape} is not {x.shape}'s")
    return call.add("prelu", x, slope)


def power(call: Call) -> Operand:
    """Pow, where the exponent is one of those that multiplications and roots say exactly."""
    x = call.operand(0)
    exponents = {float(v) for v in np.unique(call.known(1, "the exponent"))}
    if len(exponents) != 1 or not exponents <= _POWERS.keys():
        wanted = ", ".join(f"{power:g}" for power in _POWERS)
        call.refuse(f"an exponent has a counterpart here only if it is one of {wanted}")
    call.require(
        _broadcast(call, x, call.operand(1)) == x.shape, "the exponent has more axes than the base"
    )
    return _POWERS[exponents.pop()](call, x)


def _broadcast(call: Call, a: Operand, b: Operand) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        call.refuse(f"{a.shape} and {b.shape} do not broadcast")


def _square(call: Call, x: Operand) -> Operand:
    return call.add("mul", x, x)


def _times_root(call: Call, x: Operand) -> Operand:
    """x^1.5."""
    return call.add("mul", x, call.add("sqrt", x))


_POWERS: dict[float, Callable[[Call, Operand], Operand]] = {
    1.0: lambda _, x: x,
    2.0: _square,
    3.0: lambda call, x: call.add("mul", _square(call, x), x),
    4.0: lambda call, x: _square(call, _square(call, x)),
    0.25: lambda call, x: call.add("sqrt", call.add("sqrt", x)),
    0.5: lambda call, x: call.add("sqrt", x),
    0.75: lambda call, x: _times_root(call, call.add("sqrt", x)),
    1.5: _times_root,
    -1.0: lambda call, x: call.add("reciprocal", x),
    -0.5: lambda call, x: call.add("reciprocal", call.add("sqrt", x)),
}
