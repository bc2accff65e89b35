"""How far the float32 of an activation may be from what it means."""

from __future__ import annotations

import numpy as np

from refimpl.bounds.arithmetic import SMALLEST_NORMAL, Arithmetic, U, finite, gamma
from refimpl.ops import OPERATORS

_LIPSCHITZ = {
    "relu": 1.0,
    "clamp": 1.0,
    "sigmoid": 0.25,
    "hardsigmoid": 1 / 6,
    "tanh": 1.0,
    "silu": 1.1,  # its slope is largest, 1.0998, at x = 2.3994
    "hardswish": 1.5,
}


def activation_bound(
    activation: tuple[str, tuple[float, ...]],
    s: np.ndarray,
    error: np.ndarray,
    machine: Arithmetic,
) -> np.ndarray:
    """The error of the float32 activation of s', where |s' - s| <= error.

    Own errors follow the expressions in which activations are compiled: `relu` and `clamp` are
    exact but for the rounding of the limits; `leaky_relu` and `elu` round their slope and one
    product; `sigmoid`, `tanh` have their ulps; `hardsigmoid` x/6 + 0.5 rounds three times; `silu`
    and `hardswish` multiply by x and round once more.
    """
    name, numbers = activation
    error = np.where(np.isfinite(s) | np.isinf(error), error, 0.0)
    operator = OPERATORS[name]
    carried = max(1.0, *map(abs, numbers)) if name in ("leaky_relu", "elu") else _LIPSCHITZ[name]
    carried = carried * error
    y = operator.evaluate(s, **dict(zip(operator.attributes, numbers, strict=True)))
    y = np.abs(finite(y)) + finite(carried)
    return carried + _own(name, numbers, finite(s), finite(error), y, machine)


def _own(
    name: str,
    numbers: tuple[float, ...],
    s: np.ndarray,
    error: np.ndarray,
    y: np.ndarray,
    machine: Arithmetic,
) -> np.ndarray:
    """Error of the activation alone at any point within `error` of s; y bounds the result."""
    x, eta = np.abs(s) + error, machine.eta
    match name:
        case "relu":
            return np.zeros_like(y)
        case "clamp":
            off = [abs(float(np.float32(a)) - a) for a in numbers if np.isfinite(a)]
            return np.full_like(y, max(off, default=0.0))
        case "leaky_relu":
            return np.where(s > error, 0.0, gamma(2) * y + eta)
        case "elu":
            own = 1.01 * (machine.relative("expm1") + gamma(2)) * y
            return np.where(s > error, 0.0, own + (1 + 4 * abs(numbers[0])) * eta)
        case "tanh":
            return machine.relative(name) * y + 4 * eta
        case "sigmoid":  # 0 already where e^-x passes the largest float32
            return machine.relative(name) * y + SMALLEST_NORMAL
        case "hardsigmoid":
            return _ramp(s, error, eta)
        case "silu":
            relative = 1.01 * (machine.relative("sigmoid") + U)
            return relative * y + x * SMALLEST_NORMAL + eta
        case "hardswish":
            return x * _ramp(s, error, eta) + U * y + eta
    raise KeyError(f"no error model of the activation `{name}`")


def _ramp(s: np.ndarray, error: np.ndarray, eta: float) -> np.ndarray:
    """x/6 + 1/2 cut to 0..1: from beyond |x| = 4 no rounding brings it back inside."""
    own = gamma(3) * (np.minimum(np.abs(s) + error, 4) / 6 + 0.5) + eta
    return np.where(np.abs(s) - error > 4, 0.0, own)
