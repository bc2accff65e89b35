"""Launches of steps that read where a table says: take, linear resampling, embedding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from jit.kernels.gather import BlendKernel, EmbeddingKernel, TakeKernel
from jit.launches.form import Launch, Lowering, Ref, launch
from jit.launches.plain import around, merged, strides_of, vectors
from refimpl.ops.resampling import moving_axes, sources
from refimpl.plan import PlanError, Step


def take(to: Lowering, step: Step) -> Iterator[Launch]:
    """The indices of one axis that a table lists."""
    a = dict(step.attributes)
    table = to.constants.add(np.array(a["indices"], np.int32))
    kernel = TakeKernel(grid=to.target.grid)
    yield from _along(to, step, a["axis"], kernel, {"table": table})


def upsample(to: Lowering, step: Step) -> Iterator[Launch]:
    """Linear resampling of one axis."""
    a, shape = dict(step.attributes), to.place(step.inputs[0]).shape[2:]
    moved = moving_axes(shape, a["output"], a["ratio"])
    if len(moved) != 1 or a["mode"] != "linear":
        raise PlanError(f"{step.name}: resampling is compiled as one linear axis at a time")
    (i,) = moved
    read, weight = sources(shape[i], a["output"][i], a["ratio"][i], a["mode"], a["coordinates"])
    columns = [read.astype(np.int32), weight.astype(np.float32)]
    refs = {
        name: to.constants.add(column[:, side])
        for names, column in zip((("lo", "hi"), ("w0", "w1")), columns, strict=True)
        for side, name in enumerate(names)
    }
    kernel = BlendKernel(to.target.has("fma"), grid=to.target.grid)
    yield from _along(to, step, 2 + i, kernel, refs)


def _along(
    to: Lowering, step: Step, axis: int, kernel: TakeKernel | BlendKernel, tables: dict[str, Ref]
) -> Iterator[Launch]:
    """A kernel of three axes: those before `axis` as one, it, those after it as one."""
    x, y = to.operand(step.inputs[0]), to.operand(step.name)
    (o, j, i), (xs, ys) = around(step, axis, y.place.shape, strides_of(x), strides_of(y))
    sizes = {"O": o, "J": j, "V": x.place.shape[axis]}
    for letter, strides in (("X", xs), ("Y", ys)):
        sizes |= {f"{letter}{a}": stride for a, stride in zip("OJI", strides, strict=True)}
    lanes = to.target.lanes if xs[2] == ys[2] == 1 else 1
    for begin, end, width in vectors(i, lanes):
        operands = {"x": x.skip(begin * xs[2]), "y": y.skip(begin * ys[2])}
        part = replace(kernel, lanes=width)
        yield launch(step, part, operands, {**sizes, "I": end - begin}, tables)


def embedding(to: Lowering, step: Step) -> Iterator[Launch]:
    """Rows of a table by the network's own input."""
    index, table, y = (to.operand(n) for n in (*step.inputs, step.name))
    rows, channels = table.place.shape
    extents, (ys,) = merged(y.place.shape[:-1], strides_of(y)[:-1])
    if len(extents) != 1:
        raise PlanError(f"{step.name}: the axes of its indices are not one")
    sizes = {"M": extents[0], "V": rows, "YM": ys[0], "YC": 1, "TV": channels, "TC": 1}
    for begin, end, width in vectors(channels, to.target.lanes):
        operands = {"table": table.skip(begin), "y": y.skip(begin)}
        kernel = EmbeddingKernel(width, grid=to.target.grid)
        yield launch(step, kernel, operands, {**sizes, "C": end - begin}, {"index": index.ref})
