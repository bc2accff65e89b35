"""Sums of products: convolutions, depthwise ones, matrix products.

With n products and a bias, in any order, each term meets at most n + 1 roundings, so the sum errs
by g(n + 1) (|W||x| + |b|) + 2 (n + 1) eta (Higham, eq. 3.5 and 4.4); by one rounding less where
every product is fused onto a sum that began as the bias, or where there is no bias.  A residual
is one more sum.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from math import prod

import numpy as np

from refimpl.bounds.arithmetic import Arithmetic, Near, finite, known, quantum
from refimpl.ops import OPERATORS
from refimpl.plan import Plan, Step
from refimpl.tiles import unpack

Contract = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(x, weight) to the sums of products without bias; linear in both."""


def conv(
    plan: Plan, step: Step, given: Mapping[str, np.ndarray], y: np.ndarray, machine: Arithmetic
) -> np.ndarray:
    """The products of a strip's stored columns, zeros included, the bias and the residual."""
    x = known(given[step.inputs[0]])
    error = stored_products(plan, step, x, machine)
    return with_residual(step, given, y, error.reshape(y.shape), machine)


def stored_products(plan: Plan, step: Step, x: Near, machine: Arithmetic) -> np.ndarray:
    """Error of the product of x with the step's packed weight, and its bias."""
    rank = x.exact.ndim
    weight = unpack(plan.weights[step.weight])[0].astype(np.float64)
    bias = _per_filter(_constant(plan, step.bias), rank)
    roundings = _per_filter(_depth(plan, step), rank) + (not machine.fused)
    contract = partial(_convolve, step, 1) if rank > 2 else _multiply
    return sum_of_products(contract, x, weight, bias, roundings, machine)


def depthwise(
    plan: Plan, step: Step, given: Mapping[str, np.ndarray], y: np.ndarray, machine: Arithmetic
) -> np.ndarray:
    """The products of a filter's taps, the bias and the residual."""
    x, weight = known(given[step.inputs[0]]), _constant(plan, step.weight)
    bias = _per_filter(_constant(plan, step.bias), y.ndim)
    roundings = np.array(prod(weight.shape[2:]) + (not machine.fused))
    contract = partial(_convolve, step, len(weight))
    error = sum_of_products(contract, x, weight, bias, roundings, machine)
    return with_residual(step, given, y, error, machine)


def matmul(a: np.ndarray, b: np.ndarray, machine: Arithmetic) -> np.ndarray:
    """K products from 0 on: K roundings, fused or not."""
    depth = np.array(a.shape[-1])
    return sum_of_products(np.matmul, known(a), b, np.zeros(()), depth, machine)


def sum_of_products(
    contract: Contract,
    x: Near,
    weight: np.ndarray,
    bias: np.ndarray,
    roundings: np.ndarray,
    machine: Arithmetic,
) -> np.ndarray:
    """Error of contract(x, weight) + bias, where every term meets at most so many roundings.

    Infinite where a partial sum may pass the largest number; 0 where none is ever rounded.
    """
    size, weight, bias = x.size, finite(weight), finite(bias)
    magnitude = contract(size, np.abs(weight)) + np.abs(bias)
    carried = contract(np.broadcast_to(x.error, size.shape), np.abs(weight))
    error = carried + machine.gamma(roundings) * magnitude + 2 * roundings * machine.eta
    if machine.flush:  # operands below the smallest normal number are lost as well
        lost = contract(size, (weight != 0).astype(np.float64))
        error = error + machine.lost * (lost + contract(np.ones_like(size), np.abs(weight)))
    grain = min(_product_grain(weight, x.exact, machine), quantum(bias))
    sharp = machine.sums_exactly(grain, magnitude) & (carried == 0)
    error = np.where(sharp, 0.0, error)
    return np.where(magnitude + error < machine.format.largest, error, np.inf)


def with_residual(
    step: Step,
    given: Mapping[str, np.ndarray],
    y: np.ndarray,
    error: np.ndarray,
    machine: Arithmetic,
) -> np.ndarray:
    """One more sum, of which y is the exact result."""
    if not step.residual:
        return error
    read = machine.read(known(given[step.residual])).error + error + machine.lost * (error > 0)
    return machine.rounded(y, read, machine.lost).error


def _multiply(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return x @ weight.T


def _convolve(step: Step, groups: int, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The step's convolution without bias; absent weights are zeros, x is finite."""
    operator = OPERATORS["conv"]
    assert operator.fast is not None
    return operator.fast(x, weight, None, groups=groups, **dict(step.attributes))


def _product_grain(a: np.ndarray, b: np.ndarray, machine: Arithmetic) -> float:
    """What divides every product; 0 (nothing is exact) where an operand may be flushed."""
    grains = quantum(a), quantum(b)
    return 0.0 if min(grains) < machine.lost else grains[0] * grains[1]


def _depth(plan: Plan, step: Step) -> np.ndarray:
    """Roundings for every filter: the stored columns of its tiles, zeros included.

    Where a strip has several tiles, up to four sums apart are joined and added to y: three more,
    and one for the first tile, whose sum does not begin as the bias.
    """
    tiles = plan.weights[step.weight]
    several = step.schedule is not None and step.schedule.strip > 0
    depth = np.full(tiles.shape[0], 4.0 if several else 0.0)
    for tile in tiles:
        depth[tile.rows[tile.rows >= 0]] += tile.columns.size
    return depth


def _constant(plan: Plan, name: str) -> np.ndarray:
    return plan.constants[name].array.astype(np.float64)


def _per_filter(numbers: np.ndarray, rank: int) -> np.ndarray:
    return numbers.reshape(1, -1, *[1] * (rank - 2))
