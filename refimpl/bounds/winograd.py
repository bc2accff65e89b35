"""Convolutions by Winograd: the transforms' theory, and what the compiled steps add to it.

    g(k + C) |A| (|G||w| * |B||x|)    k roundings in the three transforms, C channels

by `refimpl.winograd.roundings`, and one more for products that are not fused.  Where the weight is
of points, G is the identity: it is given exactly, and what was pruned is in no sum.  Bias and
residual are a sum each.  The last tile of an axis ends where the axis does, so an output that two
tiles reach has the larger bound of the two.  Each operation may besides lose eta, which passes
through the matrices that follow.

Nothing is rounded where entries of A and B are fractions of powers of two, the transformed weight
is representable, and all sums are multiples of one power of two, below 2^24 of it.  A tile that
reads an infinity or a NaN may be either throughout, and so may all that a filter computes of which
a weight is one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import product
from math import prod

import numpy as np

from refimpl.bounds.arithmetic import Arithmetic, Near, finite, known, quantum
from refimpl.bounds.contractions import with_residual
from refimpl.plan import Plan, Step
from refimpl.plan.winograd import kernel_shape
from refimpl.tiles import unpack
from refimpl.winograd import (
    Transform,
    denominator,
    magnitude,
    roundings,
    transform_weight,
    transforms,
)

Slices = tuple[slice, ...]


def winograd(
    plan: Plan, step: Step, given: Mapping[str, np.ndarray], y: np.ndarray, machine: Arithmetic
) -> np.ndarray:
    """Error of a convolution that says how it is tiled, of the residual's sum too."""
    assert step.winograd is not None
    weight = unpack(plan.weights[step.weight])[0].astype(np.float64)
    steps = transforms(step.winograd.outputs, kernel_shape(step, weight.shape)[2:])
    if step.op == "winograd_conv":
        steps = tuple(t.of_points() for t in steps)
    padding = dict(step.attributes)["padding"]
    x = np.pad(given[step.inputs[0]], [(0, 0), (0, 0), *padding])
    bias = plan.constants[step.bias].array.astype(np.float64)
    bias = bias.reshape(1, -1, *[1] * len(steps))
    size = _by_tile(finite(x), finite(weight), steps, y.shape)
    count = roundings(steps, weight.shape[1]) + (not machine.fused)
    error = machine.gamma(count) * size + _underflow(x, weight, steps, machine)
    if _is_exact(x, weight, size, steps, machine):
        error = np.zeros(y.shape)
    odd = _odd(x, weight, steps, y.shape)
    error = np.where(odd | _overflows(x, weight, size + error, steps, machine), np.inf, error)
    before = y - given[step.residual] if step.residual else y
    total = machine.add(Near(before - bias, error), known(bias))
    return with_residual(step, given, y, total.error, machine)


def _by_tile(
    x: np.ndarray, w: np.ndarray, steps: Sequence[Transform], shape: tuple[int, ...]
) -> np.ndarray:
    """The products' absolute values summed as the tiles lie; x is padded."""
    size = np.zeros(shape)
    none = ((0, 0),) * len(steps)
    for read, made in _parts(steps, shape[2:]):
        place = (slice(None), slice(None), *made)
        part = magnitude(x[(slice(None), slice(None), *read)], w, steps, none)
        size[place] = np.maximum(size[place], part)
    return size


def _parts(steps: Sequence[Transform], out: Sequence[int]) -> Iterator[tuple[Slices, Slices]]:
    """(inputs, outputs) of the whole tiles, and of the last ones where they overlap others."""
    axes = []
    for t, o in zip(steps, out, strict=True):
        whole = o // t.m * t.m
        axes.append([(0, whole)] + ([(o - t.m, o)] if whole < o else []))
    for part in product(*axes):
        read = zip(part, steps, strict=True)
        yield tuple(slice(a, b + t.r - 1) for (a, b), t in read), tuple(slice(*p) for p in part)


def _norms(steps: Sequence[Transform], name: str) -> float:
    """The largest sum of absolute values in a row of the nested matrices."""
    rows = [getattr(t, name) for t in steps]
    return prod(max(float(sum(map(abs, row))) for row in matrix) for matrix in rows)


def _underflow(
    x: np.ndarray, w: np.ndarray, steps: Sequence[Transform], machine: Arithmetic
) -> float:
    """What all operations together may lose below the smallest normal number."""
    largest_x, largest_w = (float(np.abs(finite(a)).max(initial=0.0)) for a in (x, w))
    points, channels = prod(t.n for t in steps), w.shape[1]
    a, g, b = (_norms(steps, name) for name in "agb")
    lost = machine.eta + 2 * machine.lost  # the result, and operands where those are flushed
    inputs, weights = lost * points * b, lost * g
    products = inputs * (g * largest_w + weights) + weights * b * largest_x + 2 * lost
    return a * (channels * products + points * 2 * lost)


def _is_exact(
    x: np.ndarray,
    w: np.ndarray,
    size: np.ndarray,
    steps: Sequence[Transform],
    machine: Arithmetic,
) -> bool:
    """Whether no operation rounds anywhere."""
    if not np.isfinite(w).all() or not all(_is_dyadic(t) for t in steps):
        return False
    scale = prod(denominator(t) for t in steps)
    # In float64 the sums are exact, and a quotient of few digits is if it multiplies back.
    summed = np.abs(w).max(initial=0.0) * _norms(steps, "g") * scale
    transformed = transform_weight(w, steps)
    held = machine.represents(transformed).all() and summed <= quantum(w) * 2.0**52
    divided = np.array_equal(transformed * scale % quantum(w), np.zeros(transformed.shape))
    grains = quantum(x) * _least(steps, "b"), quantum(transformed)
    if not (held and divided) or min(grains) < machine.lost:
        return False
    # What rows share may be as much larger as the least entry that it is multiplied by.
    inputs = np.abs(finite(x)).max(initial=0.0) * _norms(steps, "b") / _least(steps, "b")
    grain = grains[0] * grains[1]
    products = np.max(size, initial=0.0) / _least(steps, "a")
    sums = ((grains[0], inputs), (grain, products), (grain * _least(steps, "a"), size))
    return all(bool(np.all(machine.sums_exactly(*each))) for each in sums)


def _is_dyadic(t: Transform) -> bool:
    """Whether all entries of A and B are fractions of powers of two."""
    below = {entry.denominator for row in (*t.a, *t.b) for entry in row}
    return all(d & (d - 1) == 0 for d in below)


def _least(steps: Sequence[Transform], name: str) -> float:
    """The product over the axes of the least entry's size, a power of two where entries are
    dyadic: what divides every entry of the nested matrices."""
    entries = [[abs(e) for row in getattr(t, name) for e in row if e] for t in steps]
    return prod(float(min(1, 1 / Fraction(max(e.denominator for e in each)), *each))
                for each in entries)  # fmt: skip


def _odd(
    x: np.ndarray, w: np.ndarray, steps: Sequence[Transform], shape: tuple[int, ...]
) -> np.ndarray:
    """Outputs whose tile reads, or whose filter holds, what is not finite."""
    odd_x = np.any(~np.isfinite(x), axis=1, keepdims=True) + np.zeros((1,) * x.ndim)
    odd_w = (~np.isfinite(w)).reshape(w.shape[0], -1).any(axis=1)
    reach = np.zeros(shape, bool) | odd_w.reshape(1, -1, *[1] * len(steps))
    if odd_x.any():
        whole = [_whole(t) for t in steps]
        ones = np.ones((1, 1, *(len(t.g[0]) for t in steps)))
        reach = reach | (_by_tile(odd_x, ones, whole, (shape[0], 1, *shape[2:])) > 0)
    return reach


def _whole(t: Transform) -> Transform:
    """Every output of a tile from every input."""
    a, g, b = (tuple((Fraction(1),) * len(row) for row in m) for m in (t.a, t.g, t.b))
    return Transform(t.m, t.r, a, g, b)


def _overflows(
    x: np.ndarray,
    w: np.ndarray,
    size: np.ndarray,
    steps: Sequence[Transform],
    machine: Arithmetic,
) -> np.ndarray:
    """Where a sum may pass the largest number: everywhere, if a transform itself may."""
    largest_x, largest_w = (float(np.abs(finite(a)).max(initial=0.0)) for a in (x, w))
    each = max(largest_x * _norms(steps, "b"), largest_w * _norms(steps, "g"))
    # A point's products may be larger than the outputs that add them, where A has small entries.
    size = size / _least(steps, "a")
    return (each >= machine.format.largest) | (size >= machine.format.largest)
