"""Launches of products of two values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product

import numpy as np

from jit.kernels.matmul import MatmulKernel
from jit.launches.form import Launch, Lowering, Operand, launch
from jit.launches.plain import merged, numbered, strides_of
from refimpl.plan import Step

_ROWS, _VECTORS = 6, 2
"""Rows and vectors of a product's tile: twelve sums in registers, with room for operands."""


def matmul(to: Lowering, step: Step) -> Iterator[Launch]:
    """Batched products: whole tiles, then their ragged rows and columns."""
    a, c, y = (to.operand(name) for name in (*step.inputs, step.name))
    *batch, m, n = y.place.shape
    whole = (*batch, 1, 1)
    strides = [strides_of(o, (*whole[:-2], *o.place.shape[-2:])) for o in (a, c, y)]
    extents, steps = merged(tuple(batch), *(s[:-2] for s in strides))
    outer, inner = extents[:-2], (1, 1, *extents)[-2:]
    for place in np.ndindex(*outer):
        here = [
            operand.skip(sum(i * s for i, s in zip(place, apart, strict=False)))
            for operand, apart in zip((a, c, y), steps, strict=True)
        ]
        sizes = {"B0": inner[0], "B1": inner[1], "K": a.place.shape[-1]}
        for letter, apart, own in zip("ACY", steps, strides, strict=True):
            names = {"A": "MK", "C": "KN", "Y": "MN"}[letter]
            sizes |= numbered(letter, (0, 0, *apart)[-2:])
            sizes |= {f"{letter}{axis}": s for axis, s in zip(names, own[-2:], strict=True)}
        yield from _tiles_of_product(to, step, here, sizes, m, n)


def _tiles_of_product(
    to: Lowering, step: Step, operands: list[Operand], sizes: Mapping[str, int], m: int, n: int
) -> Iterator[Launch]:
    a, c, y = operands
    lanes, fused = to.target.lanes, to.target.has("fma")
    wide = lanes * _VECTORS
    ends = (0, n // wide * wide, n // lanes * lanes, n)
    columns = zip(ends, ends[1:], (lanes, lanes, 1), (_VECTORS, 1, 1), strict=False)
    rows = [(0, m // _ROWS * _ROWS, _ROWS), (m // _ROWS * _ROWS, m, m % _ROWS)]
    for (m0, m1, height), (n0, n1, width, vectors) in product(rows, columns):
        if m0 == m1 or n0 == n1:
            continue
        kernel = MatmulKernel(width, height, fused, vectors, grid=to.target.grid)
        here = {
            "a": a.skip(m0 * sizes["AM"]),
            "c": c.skip(n0 * sizes["CN"]),
            "y": y.skip(m0 * sizes["YM"] + n0 * sizes["YN"]),
        }
        yield launch(step, kernel, here, {**sizes, "M": m1 - m0, "N": n1 - n0})
