"""Launches of softmax, of reductions over axes, and of norms."""

from __future__ import annotations

from collections.abc import Iterator

from jit.kernels.norms import LocalResponseKernel, NormKernel
from jit.kernels.plain import ReduceKernel
from jit.kernels.softmax import SoftmaxKernel
from jit.launches.form import Launch, Lowering, launch
from jit.launches.plain import around, merged, numbered, row_major, strides_of
from refimpl.plan import PlanError, Step


def softmax(to: Lowering, step: Step) -> Iterator[Launch]:
    """Softmax over an axis, or its logarithm."""
    x, y = to.operand(step.inputs[0]), to.operand(step.name)
    axis = dict(step.attributes)["axis"]
    (o, c, i), (xs, ys) = around(step, axis, y.place.shape, strides_of(x), strides_of(y))
    sizes = {"O": o, "C": c, "I": i}
    for letter, strides in (("X", xs), ("Y", ys)):
        sizes |= {f"{letter}{a}": stride for a, stride in zip("OCI", strides, strict=True)}
    along_c = xs[1] == ys[1] == 1 and i == 1
    kernel = SoftmaxKernel(
        log=step.op == "log_softmax",
        lanes=to.target.lanes if along_c else 1,
        dense="c" if along_c else "i",
        grid=to.target.grid,
    )
    yield launch(step, kernel, {"x": x, "y": y}, sizes)


REDUCE = {"sum": "add", "mean": "add", "max": "maximum", "min": "minimum"}
"""What each reduction joins two elements with."""


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
        REDUCE[step.op],  # type: ignore[arg-type]
        mean=step.op == "mean",
        lanes=to.target.lanes if xr[-1] == 1 else 1,
        grid=to.target.grid,
    )
    sizes = {**numbered("E", outer), **numbered("R", inner)}
    sizes |= {**numbered("X", xo), **numbered("XR", xr), **numbered("Y", yo)}
    yield launch(step, kernel, {"x": x, "y": y}, sizes)


def norm(to: Lowering, step: Step) -> Iterator[Launch]:
    """Layer norm and RMS norm, over as many last axes as gamma has."""
    x, gamma, y = (to.operand(name) for name in (*step.inputs[:2], step.name))
    shape, axes = x.place.shape, len(gamma.place.shape)
    cut = len(shape) - axes
    xs, ys = strides_of(x), strides_of(y)
    rows, (xr, yr) = merged(shape[:cut], xs[:cut], ys[:cut])
    inner, (xi, yi, gi) = merged(shape[cut:], xs[cut:], ys[cut:], row_major(gamma.place.shape))
    if len(rows) > 2 or len(inner) > 2:
        raise PlanError(f"{step.name}: {step.op} of {shape} over {axes} axes is not compiled")
    sizes = dict(zip("ABPQ", (1, 1, *rows)[-2:] + (1, 1, *inner)[-2:], strict=True))
    for letter, outside, inside in (("X", xr, xi), ("Y", yr, yi), ("G", (), gi)):
        strides = (0, 0, *outside)[-2:] + (0, 0, *inside)[-2:]
        sizes |= {f"{letter}{a}": s for a, s in zip("ABPQ", strides, strict=True)}
    yield from _norm(to, step, sizes, "layer" if step.op == "layer_norm" else "rms", "element")


def group_norm(to: Lowering, step: Step) -> Iterator[Launch]:
    """Group norm: every group of channels of every image by itself."""
    x, y = to.operand(step.inputs[0]), to.operand(step.name)
    groups, (n, c, *_) = dict(step.attributes)["groups"], y.place.shape
    own = c // groups
    inner, steps = merged(y.place.shape[2:], strides_of(x)[2:], strides_of(y)[2:])
    if len(inner) != 1:
        raise PlanError(f"{step.name}: the positions of {y.place.shape} are not one axis")
    sizes = {"A": n, "B": groups, "P": own, "Q": inner[0], "GB": own, "GP": 1}
    for letter, operand, positions in (("X", x, steps[0]), ("Y", y, steps[1])):
        images, channels = operand.place.layout.axis_strides(operand.place.shape)[:2]
        strides = (images, channels * own, channels, positions[0])
        sizes |= {f"{letter}{a}": s for a, s in zip("ABPQ", strides, strict=True)}
    yield from _norm(to, step, sizes, "layer", "row")


def _norm(
    to: Lowering, step: Step, sizes: dict[str, int], kind: str, gamma: str
) -> Iterator[Launch]:
    names = dict(zip(("x", "gamma", "beta"), step.inputs, strict=False)) | {"y": step.name}
    operands = {letter: to.operand(name) for letter, name in names.items()}
    steps = ["XQ", "YQ"] + (["GQ"] if gamma == "element" else [])
    dense = sizes["Q"] > 1 and all(sizes[name] == 1 for name in steps)
    kernel = NormKernel(
        kind,  # type: ignore[arg-type]
        dict(step.attributes)["eps"],
        gamma,  # type: ignore[arg-type]
        beta="beta" in names,
        fused=to.target.has("fma"),
        lanes=to.target.lanes if dense else 1,
        grid=to.target.grid,
    )
    yield launch(step, kernel, operands, sizes)


def local_response_norm(to: Lowering, step: Step) -> Iterator[Launch]:
    """Every element by those of neighbouring channels at its place."""
    x, y = to.operand(step.inputs[0]), to.operand(step.name)
    (o, c, i), (xs, ys) = around(step, 1, y.place.shape, strides_of(x), strides_of(y))
    a = dict(step.attributes)
    sizes = {"O": o, "C": c, "I": i}
    for letter, strides in (("X", xs), ("Y", ys)):
        sizes |= {f"{letter}{axis}": s for axis, s in zip("OCI", strides, strict=True)}
    kernel = LocalResponseKernel(
        a["size"],
        a["size"] // 2,
        a["alpha"] / a["size"],
        a["beta"],
        a["k"],
        to.target.has("fma"),
        grid=to.target.grid,
    )
    yield launch(step, kernel, {"x": x, "y": y}, sizes)
