"""Forward error bounds: how far float32 code may be from what a step of a Plan means.

For every element of a step's value, from the case itself: |computed - exact| <= bound.  Exact is
`refimpl.plan.evaluate_step` on the float32 values that the step was given.  The model of float32,
u, eta and g(n) = gamma_n = n u / (1 - n u), is `refimpl.rounding`.  The formulas (Higham, Accuracy
and Stability of Numerical Algorithms, 2nd ed.):

    sum            n products and a bias, in any order: each term meets at most n + 1 roundings,
                   so g(n + 1) (|W||x| + |b|) + (n + 1) eta      (his 3.5 and 4.4)
                   one less where every product is fused onto a sum that began as the bias
    residual       E' = E + u (|s + r| + E)
    activation     see `refimpl.activation_bounds`
    average        g(m) of the mean of |x| over m elements, the division included
    softmax        see `_softmax`; maximum, relayout: exact

Nothing is rounded where all partial sums are whole multiples of one power of two, below 2^24 of
it (Sterbenz's idea for sums): the bound is 0 there.  That is the *exact* class of cases; it sees
what a bound cannot, such as one small term missing from a long sum.

Where a partial sum or the result may pass the largest float32 the bound is infinite: nothing can
be said.  Infinities and NaN that come in are no matter of rounding; bounds leave them out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod

import numpy as np

from refimpl.activation_bounds import activation_bound
from refimpl.ops import OPERATORS
from refimpl.plan import Plan, Step, activate, evaluate_step
from refimpl.rounding import LARGEST, SMALLEST, SMALLEST_NORMAL, Arithmetic, U, gamma
from refimpl.tiles import unpack


def bounded_step(
    plan: Plan, step: Step, values: Mapping[str, np.ndarray], machine: Arithmetic
) -> tuple[np.ndarray, np.ndarray]:
    """What one step computes from the float32 values it reads, and the bound of float32 code.

    Returns:
        (exact, bound), float64 in the value's shape. Bound 0 demands equality, infinity judges
        nothing.

    Raises:
        KeyError: an operation or activation without an error model.
    """
    given = {name: np.asarray(values[name], np.float64) for name in step.reads}
    shape = plan.places[step.name].shape
    with np.errstate(all="ignore"):
        y = evaluate_step(plan, replace(step, activation=None), given)
        error, magnitude = _linear_part(plan, step, given, y, machine)
        error = np.where(magnitude + error >= LARGEST, np.inf, error)
        bound = np.broadcast_to(error, shape)
        if step.activation is not None:
            bound = activation_bound(step.activation, y, bound, machine)
            y = activate(step, y)
        size = np.abs(_finite(y))
        if machine.flush:
            bound = bound + np.where((y != 0) & (size < SMALLEST_NORMAL), SMALLEST_NORMAL, 0.0)
        # The last factor is for the rounding of `exact` itself, float64 that it is.
        return y, np.where(size + bound >= LARGEST, np.inf, bound * (1 + 2.0**-20))


def _finite(x: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(x), x, 0.0)


def quantum(x: np.ndarray) -> float:
    """The largest power of two that divides every finite value; infinity if all are 0."""
    x = np.abs(x[np.isfinite(x) & (x != 0)])
    if not x.size:
        return np.inf
    mantissa, exponent = np.frexp(x)
    whole = (mantissa * 2.0**53).astype(np.int64)
    return float(np.ldexp((whole & -whole).astype(np.float64), exponent - 53).min())


def _unless_exact(
    error: np.ndarray, magnitude: np.ndarray, grain: float, machine: Arithmetic
) -> np.ndarray:
    """0 where sums of multiples of `grain`, no larger than `magnitude`, are all float32."""
    representable = grain >= (SMALLEST_NORMAL if machine.flush else SMALLEST)
    return np.where(representable & (magnitude <= grain * 2.0**24), 0.0, error)


def _linear_part(
    plan: Plan, step: Step, values: Mapping[str, np.ndarray], y: np.ndarray, machine: Arithmetic
) -> tuple[np.ndarray, np.ndarray]:
    """(error, magnitude of the largest partial sum) of a step before its activation; y exact."""
    x = [_finite(values[name]) for name in step.inputs]
    match step.op:
        case "conv":
            return _conv(plan, step, values, y, machine)
        case "affine":
            return _affine(plan, step, x[0], machine)
        case "activation" | "relayout" | "max_pool" | "adaptive_max_pool":
            return np.zeros(1), np.zeros(1)
        case "avg_pool" | "adaptive_avg_pool":
            return _average(step, x[0], machine)
        case "softmax":
            return _softmax(values[step.inputs[0]], machine), np.ones(1)
        case "add" | "sub" | "mul":
            return _pair(step.op, x[0], x[1], machine)
    raise KeyError(f"{step.name}: no bound is known for `{step.op}`")


def _conv(
    plan: Plan, step: Step, values: Mapping[str, np.ndarray], y: np.ndarray, machine: Arithmetic
) -> tuple[np.ndarray, np.ndarray]:
    """The sum of the strip's stored columns and the bias, then the residual."""
    x, shape = _finite(values[step.inputs[0]]), plan.places[step.name].shape
    weight = _finite(unpack(plan.weights[step.weight])[0].astype(np.float64))
    bias = _finite(plan.constants[step.bias].array.astype(np.float64))
    magnitude = _contract(step, np.abs(x), np.abs(weight)) + _per_filter(np.abs(bias), x.ndim)
    n = _per_filter(_depth(plan, step), x.ndim)
    error = gamma(n if machine.fused else n + 1) * magnitude + 2 * (n + 1) * machine.eta
    if machine.flush:  # operands below the smallest normal number are lost as well
        lost = _contract(step, np.abs(x), (weight != 0).astype(np.float64))
        total = np.abs(weight).reshape(bias.size, -1).sum(axis=1)
        error = error + SMALLEST_NORMAL * (lost + _per_filter(total, x.ndim))
    grain = min(_product_grain(weight, x, machine), quantum(bias))
    error = _unless_exact(error, magnitude, grain, machine).reshape(shape)
    magnitude = magnitude.reshape(shape)
    if step.residual:
        r = _finite(values[step.residual])
        magnitude = magnitude + np.abs(r)
        error = error + U * (np.abs(_finite(y)) + error)
        error = _unless_exact(error, magnitude, min(grain, quantum(r)), machine)
    return error, magnitude


def _contract(step: Step, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The step's convolution without bias; absent weights are zeros, x is finite."""
    if x.ndim == 2:
        return x @ weight.T
    operator = OPERATORS["conv"]
    assert operator.fast is not None
    return operator.fast(x, weight, None, groups=1, **dict(step.attributes))


def _product_grain(a: np.ndarray, b: np.ndarray, machine: Arithmetic) -> float:
    """What divides every product; 0 (nothing is exact) where an operand may be flushed."""
    grains = quantum(a), quantum(b)
    return 0.0 if machine.flush and min(grains) < SMALLEST_NORMAL else grains[0] * grains[1]


def _depth(plan: Plan, step: Step) -> np.ndarray:
    """Products summed for every filter: the stored columns of its strip, zeros included."""
    tiles = plan.weights[step.weight]
    depth = np.zeros(tiles.shape[0])
    for tile in tiles:
        depth[tile.rows[tile.rows >= 0]] += tile.columns.size
    return depth


def _per_filter(numbers: np.ndarray, rank: int) -> np.ndarray:
    return numbers.reshape(1, -1, *[1] * (rank - 2))


def _affine(
    plan: Plan, step: Step, x: np.ndarray, machine: Arithmetic
) -> tuple[np.ndarray, np.ndarray]:
    """Two roundings at most: g(2) (|x scale| + |shift|)."""
    scale, shift = (
        _per_filter(_finite(plan.constants[name].array.astype(np.float64)), x.ndim)
        for name in (step.weight, step.bias)
    )
    magnitude = np.abs(x * scale) + np.abs(shift)
    error = gamma(2) * magnitude + 2 * machine.eta
    if machine.flush:
        error = error + SMALLEST_NORMAL * (np.abs(x) + np.abs(scale))
    grain = min(_product_grain(x, scale, machine), quantum(shift))
    return _unless_exact(error, magnitude, grain, machine), magnitude


def _average(step: Step, x: np.ndarray, machine: Arithmetic) -> tuple[np.ndarray, np.ndarray]:
    """g(m) of the mean of |x|; only the division rounds where the sum is exact."""
    mean = OPERATORS[step.op].evaluate(np.abs(x), **dict(step.attributes))
    attributes = dict(step.attributes)
    if "kernel" in attributes:
        m = prod(attributes["kernel"])
    else:  # a cell of an adaptive window is at most this long
        m = prod(-(-s // o) + 1 for s, o in zip(x.shape[2:], attributes["output"], strict=True))
    roundings = 1 + _unless_exact(np.full_like(mean, m - 1), mean * m, quantum(x), machine)
    return gamma(roundings) * mean + (m + 1) * machine.eta, mean * m


def _softmax(x: np.ndarray, machine: Arithmetic) -> np.ndarray:
    """p_c = e^(d_c) / s with d = x - max, s >= 1 summed over C channels.

    d is rounded (u |d|, which e^ turns into a relative error of e^(u |d|) - 1), e^ errs by its
    ulps, and s by the mean of these weighted by p and by g(C); the quotient rounds once.  Second
    order terms are covered by the factor 1.01: every part is below 10^-3 for C < 10^4.
    """
    d = x - x.max(axis=1, keepdims=True)
    d = np.where(np.isnan(d), 0.0, d)
    e = np.exp(d)
    p = e / e.sum(axis=1, keepdims=True)
    each = np.where(p > 0, np.expm1(U * np.abs(d)), 0.0) + machine.relative("exp")
    relative = each + (p * each).sum(axis=1, keepdims=True) + gamma(x.shape[1] + 1)
    return 1.01 * relative * p + (x.shape[1] + 3) * machine.eta


def _pair(
    op: str, a: np.ndarray, b: np.ndarray, machine: Arithmetic
) -> tuple[np.ndarray, np.ndarray]:
    """One rounding; addition does not underflow by itself."""
    if op == "mul":
        y, grain = np.abs(a * b), _product_grain(a, b, machine)
        lost = machine.eta * (1 + np.abs(a) + np.abs(b) if machine.flush else 1)
    else:
        y, grain = np.abs(a + b if op == "add" else a - b), min(quantum(a), quantum(b))
        lost = 2 * machine.eta if machine.flush else 0.0
    return _unless_exact(U * y + lost, y, grain, machine), y
