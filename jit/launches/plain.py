"""Launches of steps whose values have evenly spaced axes: they are walked over by strides.

Axes that lie one inside the other are walked over as one, so kernels of few axes serve all.  Where
the last axis is contiguous it is walked over in vectors, and its ragged end in a launch of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod

from jit.kernels.activation import Activation
from jit.kernels.plain import MapKernel
from jit.launches.form import Launch, Lowering, Operand, launch
from refimpl.graph import Shape
from refimpl.plan import PlanError, Step

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
    for begin, end, width in vectors(extents[-1], lanes):
        kernel = MapKernel(
            len(extents),
            op,  # type: ignore[arg-type]
            activation,
            lanes=width,
            z_constant=z_constant,
            value=value,
            grid=to.target.grid,
        )
        sizes = numbered("E", (*extents[:-1], end - begin))
        for letter, s in by.items():
            sizes |= numbered(letter.upper(), s)
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


def numbered(letter: str, values: Sequence[int]) -> dict[str, int]:
    """Parameters that are called after an axis: X0, X1, and so on."""
    return {f"{letter}{i}": value for i, value in enumerate(values)}


def around(
    step: Step, axis: int, shape: Shape, *strides: Strides
) -> tuple[tuple[int, ...], list[Strides]]:
    """The axes before `axis` and those after it, each as one.

    Returns:
        ((extent before, extent at, extent after), the three strides of each operand).

    Raises:
        PlanError: they are not evenly spaced as one.
    """
    before, bs = merged(shape[:axis], *(s[:axis] for s in strides))
    after, us = merged(shape[axis + 1 :], *(s[axis + 1 :] for s in strides))
    if len(before) != 1 or len(after) != 1:
        raise PlanError(f"{step.name}: the axes around axis {axis} are not one")
    steps = [(b[0], s[axis], u[0]) for b, s, u in zip(bs, strides, us, strict=True)]
    return (before[0], shape[axis], after[0]), steps


def vectors(extent: int, lanes: int) -> list[tuple[int, int, int]]:
    """(begin, end, lanes): whole vectors, then what is left one by one."""
    whole = extent // lanes * lanes
    parts = [(0, whole, lanes), (whole, extent, 1)]
    return [part for part in parts if part[0] < part[1]]
