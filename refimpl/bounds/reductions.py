"""Along axes: averages over windows, softmax and its logarithm.

average      g(m - 1) of the mean of |x| over m elements, then the division
softmax      p = e^d / sum of e^d, d = x - max of x: `sub`, `exp`, `total`, `div`
log_softmax  d - log(sum of e^d): `sub`, `exp`, `total`, `log`, `sub`
"""

from __future__ import annotations

from math import prod

import numpy as np

from refimpl.bounds.arithmetic import Arithmetic, Near, finite, known, quantum
from refimpl.ops import OPERATORS
from refimpl.plan import Step

_DEEP = -1000.0
"""e to this is 0 in every format that is bounded here."""


def average_pool(step: Step, x: np.ndarray, y: np.ndarray, machine: Arithmetic) -> np.ndarray:
    """The sum over a window in any order, divided by the elements counted."""
    attributes = dict(step.attributes)
    mean = OPERATORS[step.op].evaluate(np.abs(finite(x)), **attributes)
    if "kernel" in attributes:
        m = prod(attributes["kernel"])
    else:  # a cell of an adaptive window is at most this long
        m = prod(-(-s // o) + 1 for s, o in zip(x.shape[2:], attributes["output"], strict=True))
    # Flushed are the elements read and the sums; either way as many as are divided by.
    error = machine.gamma(m - 1) * mean + 2 * machine.lost
    error = np.where(machine.sums_exactly(quantum(x), mean * m), 0.0, error)
    error = np.where(mean * m >= machine.format.largest, np.inf, error)
    return machine.rounded(y, error, machine.eta).error


def softmax(x: np.ndarray, axis: int, machine: Arithmetic) -> Near:
    """Both ends of e^d are far from overflow: d is at most 0 and the sum at least 1."""
    _, power, total = _powers(x, axis, machine)
    return machine.div(power, total)


def log_softmax(x: np.ndarray, axis: int, machine: Arithmetic) -> Near:
    """The logarithm of a sum that is at least 1."""
    below, _, total = _powers(x, axis, machine)
    return machine.sub(below, machine.log(total))


def _powers(x: np.ndarray, axis: int, machine: Arithmetic) -> tuple[Near, Near, Near]:
    """(d, e^d, their sum)."""
    below = machine.sub(known(x), known(x.max(axis, keepdims=True)))
    # Where d is so low, or overflows to minus infinity, its own error does not matter.
    deep = below.exact < _DEEP
    power = machine.exp(Near(np.where(deep, _DEEP, below.exact), np.where(deep, 0.0, below.error)))
    return below, power, machine.total(power, axis)
