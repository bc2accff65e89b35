"""Operations on pairs of elements, per channel, and blends of neighbours along an axis.

`add`, `sub`, `mul` and `div` are those of `Arithmetic`; an affine is a `mul` and an `add`, fused or
not.  Linear upsampling blends x_lo w0 + x_hi w1, w0 + w1 = 1: the weights are rounded once, the
products once and the sum once, so it errs by g(3) of the blend of |x|, and by nothing where the
weights are dyadic and no product or sum rounds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from refimpl.bounds.arithmetic import Arithmetic, Near, finite, known, quantum
from refimpl.ops import OPERATORS
from refimpl.ops.resampling import sources
from refimpl.plan import Plan, Step


def pair(op: str, a: np.ndarray, b: np.ndarray, machine: Arithmetic) -> Near:
    """add, sub, mul or div, under NumPy's broadcasting."""
    operation = {"add": machine.add, "sub": machine.sub, "mul": machine.mul, "div": machine.div}
    return operation[op](known(a), known(b))


def prelu(x: np.ndarray, slope: np.ndarray, machine: Arithmetic) -> Near:
    """x above 0; below it, one product.

    Compiled is max(x, 0) + min(x, 0) slope, so of x above 0 beside a slope that is not finite
    nothing can be said.
    """
    below = machine.mul(known(x), known(slope))
    above = np.where(np.isfinite(slope), 0.0, np.inf)
    return Near(np.where(x > 0, x, below.exact), np.where(x > 0, above, below.error))


def affine(plan: Plan, step: Step, x: np.ndarray, machine: Arithmetic) -> Near:
    """x scale + shift, one value of each per channel."""
    each = (1, -1) + (1,) * (x.ndim - 2)
    scale, shift = (
        known(plan.constants[name].array.reshape(each)) for name in (step.weight, step.bias)
    )
    return machine.add(machine.mul(known(x), scale), shift)


def pad(step: Step, x: np.ndarray, machine: Arithmetic) -> np.ndarray:
    """Exact but for the rounding of the value around x."""
    attributes = dict(step.attributes)
    value = float(machine.constant(attributes["value"]).error)
    return OPERATORS["pad"].evaluate(np.zeros(x.shape), **{**attributes, "value": value})


def upsample(step: Step, x: np.ndarray, machine: Arithmetic) -> np.ndarray:
    """Exact where elements are only repeated; one axis at most is blended in a step.

    Raises:
        KeyError: several axes are blended, for which no order is known.
    """
    attributes = dict(step.attributes)
    weights = list(_blends(attributes, x.shape[2:]))
    if not weights:
        return np.zeros(())
    if len(weights) > 1:
        raise KeyError(f"{step.name}: no bound is known for `upsample` of several axes at once")
    size = np.abs(finite(x))
    magnitude = OPERATORS["upsample"].evaluate(size, **attributes)
    # A weight may underflow as well as a product.
    error = machine.gamma(3) * magnitude + 8 * machine.eta * (1 + size.max())
    grain = quantum(weights[0]) * quantum(x)
    error = np.where(machine.sums_exactly(grain, magnitude), 0.0, error)
    return machine.bounded(magnitude, error).error


def _blends(attributes: dict[str, Any], sizes: tuple[int, ...]) -> Iterator[np.ndarray]:
    """The weights of every axis on which elements are blended."""
    axes = zip(sizes, attributes["output"], attributes["ratio"], strict=True)
    for axis in axes:
        _, weight = sources(*axis, attributes["mode"], attributes["coordinates"])
        if not np.isin(weight, (0.0, 1.0)).all():
            yield weight
