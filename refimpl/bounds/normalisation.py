"""Layer, group, root mean square and local response normalisation.

Compiled in two passes over the m elements of a group: their mean, then the mean of the squared
deviations.  The computed mean is off by some D, at most g(m) of the mean of |x|: where elements
are large against their deviations this is all that counts, since x - mean cancels.  Over the
group the exact (x - mean - D)^2 average to var + D^2, because deviations sum to 0, and each is
rounded at most m + 3 times (subtraction and square twice over, the sum, the division), so

    |computed variance - var| <= D^2 + g(m + 3) (var + D^2) + 4 eta

The rest is carried along the expression: (x - mean) * (1 / sqrt(var + eps)) * gamma + beta.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from refimpl.bounds.arithmetic import Arithmetic, Near, finite, known


def layer_norm(x: list[np.ndarray], attributes: dict[str, Any], machine: Arithmetic) -> Near:
    """Over the trailing axes that gamma has."""
    values, gamma, beta = x
    axes = tuple(range(-gamma.ndim, 0))
    y = _standardised(values, axes, attributes["eps"], machine)
    return machine.add(machine.mul(y, known(gamma)), known(beta))


def group_norm(x: list[np.ndarray], attributes: dict[str, Any], machine: Arithmetic) -> Near:
    """Over the channels of a group and all positions."""
    values, gamma, beta = x
    grouped = values.reshape(len(values), attributes["groups"], -1)
    y = _standardised(grouped, (2,), attributes["eps"], machine).reshape(*values.shape)
    each = (1, -1) + (1,) * (values.ndim - 2)
    return machine.add(machine.mul(y, known(gamma.reshape(each))), known(beta.reshape(each)))


def rms_norm(x: list[np.ndarray], attributes: dict[str, Any], machine: Arithmetic) -> Near:
    """x * (1 / sqrt(mean of x^2 + eps)) * gamma, over the trailing axes that gamma has."""
    values, gamma = known(x[0]), known(x[1])
    square = machine.mean(machine.mul(values, values), tuple(range(-x[1].ndim, 0)))
    return machine.mul(_divided(values, square, attributes["eps"], machine), gamma)


def local_response_norm(
    x: list[np.ndarray], attributes: dict[str, Any], machine: Arithmetic
) -> Near:
    """x * e^(-beta log(k + alpha/size * sum of squares)), over `size` neighbouring channels."""
    (values,), size = x, attributes["size"]
    square = machine.mul(known(values), known(values))
    channels = values.shape[1]
    windows = [slice(max(0, c - size // 2), min(channels, c + -(-size // 2)))
               for c in range(channels)]  # fmt: skip
    sums = [machine.total(square[:, window], 1) for window in windows]
    total = Near(*(np.concatenate([getattr(s, part) for s in sums], axis=1)
                   for part in ("exact", "error")))  # fmt: skip
    scaled = machine.mul(total, machine.constant(attributes["alpha"] / size))
    base = machine.log(machine.add(scaled, machine.constant(attributes["k"])))
    power = machine.exp(machine.mul(base, machine.constant(-attributes["beta"])))
    return machine.mul(known(values), power)


def _standardised(x: np.ndarray, axes: tuple[int, ...], eps: float, machine: Arithmetic) -> Near:
    """(x - mean) / sqrt(var + eps)."""
    mean = machine.mean(known(x), axes)
    deviation = machine.sub(known(x), mean)
    variance = _variance(x, mean, deviation, axes, machine)
    return _divided(deviation, variance, eps, machine)


def _divided(x: Near, square: Near, eps: float, machine: Arithmetic) -> Near:
    """x * (1 / sqrt(square + eps))."""
    root = machine.sqrt(machine.add(square, machine.constant(eps)))
    return machine.mul(x, machine.div(known(1.0), root))


def _variance(
    x: np.ndarray, mean: Near, deviation: Near, axes: tuple[int, ...], machine: Arithmetic
) -> Near:
    m = prod(x.shape[axis] for axis in axes)
    exact = np.mean(deviation.exact**2, axes, keepdims=True)
    size = finite(exact) + mean.error**2
    error = mean.error**2 + machine.gamma(m + 3) * size + 4 * machine.eta
    if machine.flush:  # elements read, deviations, squares and sums may each lose as much
        away = np.mean(np.abs(finite(deviation.exact)), axes, keepdims=True) + mean.error
        error = error + 8 * machine.lost * (1 + away)
    largest = np.max(deviation.error, axes, keepdims=True)
    past = np.isinf(largest) | (m * (size + error) >= machine.format.largest)
    return machine.bounded(exact, np.where(past, np.inf, error))
