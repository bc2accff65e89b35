"""Launches of steps whose values have evenly spaced axes: they are walked over by strides.

Axes that lie one inside the other are walked over as one, so kernels of few axes serve all.  Where
the last axis is contiguous it is walked over in vectors, and its ragged end in a launch of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from math import prod

import numpy as np

from jit.kernels.activation import Activation
from jit.kernels.gather import BlendKernel, EmbeddingKernel, TakeKernel
from jit.kernels.matmul import MatmulKernel
from jit.kernels.plain import MapKernel, ReduceKernel
from jit.kernels.softmax import SoftmaxKernel
from jit.launches.form import Launch, Lowering, Operand, Ref, launch
from refimpl.graph import Shape
from refimpl.ops.resampling import sources
from refimpl.plan import ELEMENTWISE, PlanError, Step

Strides = tuple[int, ...]
_MOST_AXES = 6


def strides_of(operand: Operand, shape: Shape | None = None) -> Strides:
    """Elements between neighbours along every axis of `shape` (the operand's own where None).

    Axes that the operand does not have, or has one position of, repeat: their stride is 0.
    """
    own, place = operand.place.shape, operand.place
    steps = place.layout.axis_strides(own)
    wanted = own if shape is None else shape
    steps = (0,) * (len(wanted) - len(own)) + steps
    sizes = (1,) * (len(wanted) - len(own)) + tuple(own)
    return tuple(0 if size == 1 else step for size, step in zip(sizes, steps, strict=True))


def merged(extents: Shape, *strides: Strides) -> tuple[Shape, list[Strides]]:
    """The same walk over fewer axes: none of one position, neighbours joined where they can be.

    Returns:
        (extents, strides of each operand), at least one axis.
    """
    kept = [axis for axis, extent in enumerate(extents) if extent > 1]
    sizes: list[int] = []
    steps: list[list[int]] = [[] for _ in strides]
    for axis in kept:
        inside = sizes and all(
            have[-1] == given[axis] * extents[axis]
            for have, given in zip(steps, strides, strict=True)
        )
        for have, given in zip(steps, strides, strict=True):
            have[-1:] = [given[axis]] if inside else [*have[-1:], given[axis]]
        sizes[-1:] = [sizes[-1] * extents[axis]] if inside else [*sizes[-1:], extents[axis]]
    if not sizes:
        return (1,), [(0,) for _ in strides]
    return tuple(sizes), [tuple(s) for s in steps]


# -- maps --------------------------------------------------------------------------------------


def walk(
    to: Lowering,
    step: Step,
    op: str,
    extents: Shape,
    operands: Mapping[str, Operand],
    strides: Mapping[str, Strides],
    *,
    activation: Activation | None = None,
    value: float = 0.0,
) -> Iterator[Launch]:
    """y[i] = act(op(x[i], z[i])) over a box: whole vectors along its last axis, then the rest."""
    extents, steps = merged(extents, *(strides[letter] for letter in operands))
    by = dict(zip(operands, steps, strict=True))
    if len(extents) > _MOST_AXES:
        raise PlanError(f"{step.name}: {step.op} walks over {len(extents)} axes; 6 are compiled")
    z_constant = "z" in by and by["z"][-1] == 0
    dense = all(s[-1] == 1 or (letter == "z" and z_constant) for letter, s in by.items())
    lanes = to.target.lanes if dense else 1
    whole = extents[-1] // lanes * lanes
    for begin, end, width in ((0, whole, lanes), (whole, extents[-1], 1)):
        if begin == end:
            continue
        kernel = MapKernel(
            len(extents),
            op,  # type: ignore[arg-type]
            activation,
            lanes=width,
            z_constant=z_constant,
            value=value,
            grid=to.target.grid,
        )
        sizes = {f"E{a}": e for a, e in enumerate((*extents[:-1], end - begin))}
        for letter, s in by.items():
            sizes |= {f"{letter.upper()}{a}": stride for a, stride in enumerate(s)}
        here = {letter: o.skip(begin * by[letter][-1]) for letter, o in operands.items()}
        yield launch(step, kernel, here, sizes)


def copy(
    to: Lowering, step: Step, x: Operand, y: Operand, extents: Shape, xs: Strides, ys: Strides
) -> Iterator[Launch]:
    """y = x over a box."""
    yield from walk(to, step, "copy", extents, {"x": x, "y": y}, {"x": xs, "y": ys})


def pairs(to: Lowering, step: Step) -> Iterator[Launch]:
    """An operator of one or two values, which repeat along axes as NumPy says."""
    y = to.operand(step.name)
    operands = {letter: to.operand(n) for letter, n in zip("xz", step.inputs, strict=False)}
    operands["y"] = y
    op = "copy" if step.op == "activation" else step.op
    strides = {letter: strides_of(o, y.place.shape) for letter, o in operands.items()}
    yield from walk(to, step, op, y.place.shape, operands, strides, activation=step.activation)


# -- movement ----------------------------------------------------------------------------------


def reshape(to: Lowering, step: Step) -> Iterator[Launch]:
    """The same elements in row-major order."""
    x, y = to.operand(step.inputs[0]), to.operand(step.name)
    padded = [o for o in (x, y) if strides_of(o) != row_major(o.place.shape)]
    if len(padded) == 2 and x.place.shape != y.place.shape:
        raise PlanError(f"{step.name}: rows of {x.place.shape} and {y.place.shape} are both padded")
    shape = (padded or [x])[0].place.shape
    xs, ys = (strides_of(o) if o in padded else row_major(shape) for o in (x, y))
    yield from copy(to, step, x, y, shape, xs, ys)


def row_major(shape: Shape) -> Strides:
    """The strides of an array without gaps; 0 along axes of one position."""
    return tuple(0 if size == 1 else prod(shape[i + 1 :]) for i, size in enumerate(shape))


def transpose(to: Lowering, step: Step) -> Iterator[Launch]:
    """y's axis i is x's axis order[i]."""
    x, y = to.operand(step.inputs[0]), to.operand(step.name)
    xs = strides_of(x)
    moved = tuple(xs[axis] for axis in dict(step.attributes)["order"])
    yield from copy(to, step, x, y, y.place.shape, moved, strides_of(y))


def slice_(to: Lowering, step: Step) -> Iterator[Launch]:
    """Every step-th index of one axis, forwards."""
    x, y = to.operand(step.inputs[0]), to.operand(step.name)
    a, steps = dict(step.attributes), list(strides_of(x))
    if a["step"] < 0:
        raise PlanError(f"{step.name}: slices backwards are compiled as takes")
    start = x.skip(a["start"] * steps[a["axis"]])
    steps[a["axis"]] *= a["step"]
    yield from copy(to, step, start, y, y.place.shape, tuple(steps), strides_of(y))


def concat(to: Lowering, step: Step) -> Iterator[Launch]:
    """One box of y after another."""
    y, axis = to.operand(step.name), dict(step.attributes)["axis"]
    ys, begin = strides_of(y), 0
    for name in step.inputs:
        x = to.operand(name)
        part = y.skip(begin * ys[axis])
        yield from copy(to, step, x, part, x.place.shape, strides_of(x), ys)
        begin += x.place.shape[axis]


def pad(to: Lowering, step: Step) -> Iterator[Launch]:
    """y is filled, then x written over its middle."""
    x, y = to.operand(step.inputs[0]), to.operand(step.name)
    a, ys = dict(step.attributes), strides_of(y)
    if a["mode"] != "constant":
        raise PlanError(f"{step.name}: padding by {a['mode']} is compiled as takes")
    shape = y.place.shape
    yield from walk(to, step, "fill", shape, {"y": y}, {"y": ys}, value=a["value"])
    skip = sum(lo * stride for (lo, _), stride in zip(a["padding"], ys, strict=True))
    yield from copy(to, step, x, y.skip(skip), x.place.shape, strides_of(x), ys)


def expand(to: Lowering, step: Step) -> Iterator[Launch]:
    """x repeated along axes of one position."""
    x, y = to.operand(step.inputs[0]), to.operand(step.name)
    shape = y.place.shape
    yield from copy(to, step, x, y, shape, strides_of(x, shape), strides_of(y))


# -- by tables ---------------------------------------------------------------------------------


def take(to: Lowering, step: Step) -> Iterator[Launch]:
    """The indices of one axis that a table lists."""
    a = dict(step.attributes)
    table = to.constants.add(np.array(a["indices"], np.int32))
    kernel = TakeKernel(grid=to.target.grid)
    yield from _along(to, step, a["axis"], kernel, {"table": table})


def upsample(to: Lowering, step: Step) -> Iterator[Launch]:
    """Linear resampling of one axis."""
    a, shape = dict(step.attributes), to.place(step.inputs[0]).shape[2:]
    still = zip(a["output"], shape, a["ratio"], strict=True)
    moved = [i for i, (o, size, ratio) in enumerate(still) if o != size or ratio != 1.0]
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
    xs, ys = strides_of(x), strides_of(y)
    shape = y.place.shape
    before, bs = merged(shape[:axis], xs[:axis], ys[:axis])
    after, us = merged(shape[axis + 1 :], xs[axis + 1 :], ys[axis + 1 :])
    if len(before) > 1 or len(after) > 1:
        raise PlanError(f"{step.name}: the axes around axis {axis} are not one")
    dense = us[0][0] == 1 and us[1][0] == 1
    lanes = to.target.lanes if dense else 1
    whole = after[0] // lanes * lanes
    sizes = {"O": before[0], "J": shape[axis], "V": x.place.shape[axis]}
    sizes |= {"XO": bs[0][0], "XJ": xs[axis], "XI": us[0][0]}
    sizes |= {"YO": bs[1][0], "YJ": ys[axis], "YI": us[1][0]}
    for begin, end, width in ((0, whole, lanes), (whole, after[0], 1)):
        if begin < end:
            operands = {"x": x.skip(begin * us[0][0]), "y": y.skip(begin * us[1][0])}
            part = replace(kernel, lanes=width)
            yield launch(step, part, operands, {**sizes, "I": end - begin}, tables)


def embedding(to: Lowering, step: Step) -> Iterator[Launch]:
    """Rows of a table by the network's own input."""
    index, table, y = (to.operand(n) for n in (*step.inputs, step.name))
    rows, channels = table.place.shape
    extents, (ys,) = merged(y.place.shape[:-1], strides_of(y)[:-1])
    if len(extents) > 1:
        raise PlanError(f"{step.name}: the axes of its indices are not one")
    sizes = {"M": extents[0], "V": rows, "YM": ys[0], "YC": 1, "TV": channels, "TC": 1}
    lanes = to.target.lanes
    whole = channels // lanes * lanes
    for begin, end, width in ((0, whole, lanes), (whole, channels, 1)):
        if begin < end:
            operands = {"table": table.skip(begin), "y": y.skip(begin)}
            kernel = EmbeddingKernel(width, grid=to.target.grid)
            yield launch(step, kernel, operands, {**sizes, "C": end - begin}, {"index": index.ref})


# -- reductions --------------------------------------------------------------------------------


def softmax(to: Lowering, step: Step) -> Iterator[Launch]:
    """Softmax over an axis, or its logarithm."""
    x, y = to.operand(step.inputs[0]), to.operand(step.name)
    axis, shape = dict(step.attributes)["axis"], y.place.shape
    xs, ys = strides_of(x), strides_of(y)
    before, bs = merged(shape[:axis], xs[:axis], ys[:axis])
    after, us = merged(shape[axis + 1 :], xs[axis + 1 :], ys[axis + 1 :])
    if len(before) > 1 or len(after) > 1:
        raise PlanError(f"{step.name}: the axes around axis {axis} are not one")
    sizes = {"O": before[0], "C": shape[axis], "I": after[0]}
    for letter, b, own, u in (("X", bs[0], xs, us[0]), ("Y", bs[1], ys, us[1])):
        sizes |= {f"{letter}O": b[0], f"{letter}C": own[axis], f"{letter}I": u[0]}
    kernel = SoftmaxKernel(log=step.op == "log_softmax", grid=to.target.grid)
    yield launch(step, kernel, {"x": x, "y": y}, sizes)


_REDUCE = {"sum": "add", "mean": "add", "max": "maximum", "min": "minimum"}


def reduce(to: Lowering, step: Step) -> Iterator[Launch]:
    """A sum, mean, maximum or minimum over some axes."""
    x, y = to.operand(step.inputs[0]), to.operand(step.name)
    a, shape, xs = dict(step.attributes), x.place.shape, strides_of(x)
    kept = [axis for axis in range(len(shape)) if axis not in a["axes"]]
    ys = strides_of(y)
    if a["keepdims"]:
        ys = tuple(ys[axis] for axis in kept)
    outer, (xo, yo) = merged(tuple(shape[i] for i in kept), tuple(xs[i] for i in kept), ys)
    reduced = tuple(shape[i] for i in a["axes"])
    inner, (xr,) = merged(reduced, tuple(xs[i] for i in a["axes"]))
    kernel = ReduceKernel(
        len(outer),
        len(inner),
        _REDUCE[step.op],  # type: ignore[arg-type]
        mean=step.op == "mean",
        grid=to.target.grid,
    )
    sizes = {**_numbered("E", outer), **_numbered("R", inner)}
    sizes |= {**_numbered("X", xo), **_numbered("XR", xr), **_numbered("Y", yo)}
    yield launch(step, kernel, {"x": x, "y": y}, sizes)


# -- products ----------------------------------------------------------------------------------

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
            sizes |= _numbered(letter, (0, 0, *apart)[-2:])
            sizes |= {f"{letter}{axis}": s for axis, s in zip(names, own[-2:], strict=True)}
        yield from _tiles_of_product(to, step, here, sizes, m, n)


def _tiles_of_product(
    to: Lowering, step: Step, operands: list[Operand], sizes: Mapping[str, int], m: int, n: int
) -> Iterator[Launch]:
    a, c, y = operands
    lanes, fused = to.target.lanes, to.target.has("fma")
    wide = lanes * _VECTORS
    columns = [
        (0, n // wide * wide, lanes, _VECTORS),
        (n // wide * wide, n // lanes * lanes, lanes, 1),
    ]
    columns.append((n // lanes * lanes, n, 1, 1))
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


def _numbered(letter: str, values: Sequence[int]) -> dict[str, int]:
    return {f"{letter}{i}": value for i, value in enumerate(values)}


Rule = Callable[[Lowering, Step], Iterator[Launch]]

RULES: dict[str, Rule] = {
    **dict.fromkeys((*ELEMENTWISE,), pairs),
    "reshape": reshape,
    "transpose": transpose,
    "slice": slice_,
    "concat": concat,
    "pad": pad,
    "expand": expand,
    "take": take,
    "upsample": upsample,
    "embedding": embedding,
    "matmul": matmul,
    "softmax": softmax,
    "log_softmax": softmax,
    **dict.fromkeys(_REDUCE, reduce),
}
