"""Activations as expressions of primitives, so that every emitter and the interpreter agree.

`refimpl.bounds.activations` bounds the error of these very expressions, operation by operation:
whoever changes one here changes it there, and a test compares them.
"""

from __future__ import annotations

import math

from jit.program import Const, Value, call
from refimpl.ops.activations import SELU_ALPHA, SELU_SCALE

Activation = tuple[str, tuple[float | str, ...]]
"""The operator's name and its attributes in the order below; gelu's is a word."""

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "relu": (),
    "clamp": ("lo", "hi"),
    "leaky_relu": ("slope",),
    "elu": ("alpha",),
    "sigmoid": (),
    "hardsigmoid": (),
    "tanh": (),
    "silu": (),
    "hardswish": (),
    "gelu": ("approximate",),
    "selu": (),
    "celu": ("alpha",),
    "softplus": ("beta",),
    "softsign": (),
    "mish": (),
    "abs": (),
    "neg": (),
    "exp": (),
    "log": (),
    "sqrt": (),
    "reciprocal": (),
    "erf": (),
}


_ZERO, _ONE = Const(0.0), Const(1.0)


def activate(activation: Activation, x: Value) -> Value:
    """The value of the activation at x; NaN carries through. KeyError for an unknown one."""
    name, given = activation
    numbers = [Const(float(number)) for number in given if not isinstance(number, str)]
    match name:
        case "relu":
            return call("maximum", x, _ZERO)
        case "clamp":
            return call("minimum", call("maximum", x, numbers[0]), numbers[1])
        case "leaky_relu":
            return _halves(x, call("mul", _below(x), numbers[0]))
        case "elu":
            return _halves(x, call("mul", call("expm1", _below(x)), numbers[0]))
        case "selu":
            above = call("mul", call("maximum", x, _ZERO), Const(SELU_SCALE))
            below = call("mul", call("expm1", _below(x)), Const(SELU_SCALE * SELU_ALPHA))
            return call("add", above, below)
        case "celu":
            below = call("expm1", call("div", _below(x), numbers[0]))
            return _halves(x, call("mul", below, numbers[0]))
        case "sigmoid" | "tanh" | "abs" | "neg" | "exp" | "log" | "sqrt" | "erf":
            return call(name, x)
        case "reciprocal":
            return call("div", _ONE, x)
        case "hardsigmoid":
            ramp = call("add", call("mul", x, Const(1 / 6)), Const(0.5))
            return call("minimum", call("maximum", ramp, _ZERO), _ONE)
        case "silu":
            return call("mul", x, call("sigmoid", x))
        case "hardswish":
            return call("mul", x, activate(("hardsigmoid", ()), x))
        case "gelu":
            return call("mul", call("mul", x, Const(0.5)), call("add", _bell(x, given[0]), _ONE))
        case "softplus":
            return _softplus(x, numbers[0])
        case "softsign":
            return call("div", x, call("add", call("abs", x), _ONE))
        case "mish":
            return call("mul", x, call("tanh", _softplus(x, _ONE)))
    raise KeyError(name)


def _below(x: Value) -> Value:
    return call("minimum", x, _ZERO)


def _halves(x: Value, below: Value) -> Value:
    """max(x, 0) plus what is below, which is 0 where x is positive."""
    return call("add", call("maximum", x, _ZERO), below)


def _bell(x: Value, form: float | str) -> Value:
    """What gelu adds 1 to: erf(x / sqrt 2), or tanh(sqrt(2/pi) (x + 0.044715 x^3))."""
    if form != "tanh":
        return call("erf", call("mul", x, Const(math.sqrt(0.5))))
    cube = call("mul", call("mul", x, x), x)
    inner = call("add", x, call("mul", cube, Const(0.044715)))
    return call("tanh", call("mul", inner, Const(math.sqrt(2 / math.pi))))


def _softplus(x: Value, beta: Const) -> Value:
    """log(1 + e^t) / beta with t = beta x, as max(t, 0) + log1p(e^-|t|): nothing overflows."""
    t = call("mul", x, beta)
    tail = call("log1p", call("exp", call("neg", call("abs", t))))
    return call("div", call("add", call("maximum", t, _ZERO), tail), beta)
