"""Activations as expressions of primitives, so that every emitter and the interpreter agree."""

from __future__ import annotations

from jit.program import Const, Value, call

Activation = tuple[str, tuple[float, ...]]
"""The operator's name and its numeric attributes in the order below."""

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
}


def activate(activation: Activation, x: Value) -> Value:
    """The value of the activation at x; NaN carries through. KeyError for an unknown one."""
    name, numbers = activation
    zero, one = Const(0.0), Const(1.0)
    match name:
        case "relu":
            return call("maximum", x, zero)
        case "clamp":
            return call("minimum", call("maximum", x, Const(numbers[0])), Const(numbers[1]))
        case "leaky_relu":
            below = call("mul", call("minimum", x, zero), Const(numbers[0]))
            return call("add", call("maximum", x, zero), below)
        case "elu":
            below = call("mul", call("expm1", call("minimum", x, zero)), Const(numbers[0]))
            return call("add", call("maximum", x, zero), below)
        case "sigmoid" | "tanh":
            return call(name, x)
        case "hardsigmoid":
            ramp = call("add", call("mul", x, Const(1 / 6)), Const(0.5))
            return call("minimum", call("maximum", ramp, zero), one)
        case "silu":
            return call("mul", x, call("sigmoid", x))
        case "hardswish":
            return call("mul", x, activate(("hardsigmoid", ()), x))
    raise KeyError(name)
