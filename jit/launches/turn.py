"""Launches that turn a matrix: whole squares, then what is left at either edge."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from jit.kernels.turn import TurnKernel
from jit.launches.form import Launch, Lowering, Operand, launch
from jit.launches.plain import vectors
from refimpl.graph import Shape
from refimpl.plan import Step


def turned(
    to: Lowering,
    step: Step,
    shape: Shape,
    x: tuple[Operand, int],
    y: tuple[Operand, int],
    bias: Operand | None = None,
) -> Iterator[Launch]:
    """y[j, i] = x[i, j] + bias[i].

    Args:
        shape: of x: (rows, columns).
        x, y: each with the elements between its rows, whose own elements are neighbours.
        bias: one value for every row of x.
    """
    (source, across), (sink, down), lanes = x, y, to.target.lanes
    for (i0, i1, tall), (j0, j1, wide) in product(*(vectors(size, lanes) for size in shape)):
        here = {"x": source.skip(i0 * across + j0), "y": sink.skip(j0 * down + i0)}
        if bias is not None:
            here["bias"] = bias.skip(i0)
        sizes = {"R": i1 - i0, "C": j1 - j0, "XR": across, "YC": down}
        yield launch(step, TurnKernel(min(tall, wide), bias is not None), here, sizes)
