"""Layers that treat elements alike, move them, or gather them along axes."""

from __future__ import annotations

from math import prod

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from conformance.build import result_shape
from conformance.layers import Element, Fork, Layer, Net, Norm, Op, Pair
from conformance.strategies.parts import (
    activations,
    extents,
    maybe_activated,
    shapes,
    sizes,
    windows,
)
from refimpl.graph import Shape


@st.composite
def pooled(draw: DrawFn, spatial: Shape) -> Op:
    """A pooling that fits into an input of these sizes."""
    rank = len(spatial)
    op = draw(st.sampled_from(("max_pool", "avg_pool", "adaptive_avg_pool", "adaptive_max_pool")))
    if op.startswith("adaptive"):
        output = tuple(draw(sizes(min(s + 2, 9))) for s in spatial)
        return Op(op, (("output", output),))
    kernel, stride, dilation, padding = draw(windows(rank, dilated=op == "max_pool"))
    ceil = draw(st.booleans())
    kernel = tuple(min(k, s) for k, s in zip(kernel, spatial, strict=True))
    dilation = tuple(
        d if d * (k - 1) < s else 1 for d, k, s in zip(dilation, kernel, spatial, strict=True)
    )
    # torch's rule: at most half the window
    padding = tuple((min(lo, k // 2), min(hi, k // 2))
                    for (lo, hi), k in zip(padding, kernel, strict=True))  # fmt: skip
    given = [("kernel", kernel), ("stride", stride), ("padding", padding), ("ceil_mode", ceil)]
    if op == "max_pool":
        given.append(("dilation", dilation))
    else:
        given.append(("count_include_pad", draw(st.booleans())))
    return Op(op, tuple(given))


@st.composite
def pools(draw: DrawFn) -> Net:
    """One maximum or average pooling, fixed or adaptive, of 1 to 3 dimensions."""
    rank = draw(st.integers(1, 3))
    shape = (draw(st.sampled_from((1, 2))), draw(sizes(40)), *draw(extents(rank, 300)))
    return Net(shape, (draw(pooled(shape[2:])),))


@st.composite
def elements(draw: DrawFn) -> Net:
    """One activation or batch norm, or an operator of two values of one shape."""
    rank = draw(st.integers(0, 3))
    shape = (draw(st.sampled_from((1, 2, 3))), draw(sizes(70)), *draw(extents(rank, 120)))
    op = draw(st.sampled_from(("none", "batch_norm", "add", "sub", "mul")))
    if op == "none":
        return Net(shape, (Element(op, draw(activations())),))
    activation = draw(maybe_activated())
    if op == "batch_norm":
        return Net(shape, (Element(op, activation),))
    return Net(shape, (Pair(op, shape, activation=activation),))


_PAIRS = ("add", "sub", "mul", "div", "maximum", "minimum", "prelu")


@st.composite
def pairs(draw: DrawFn) -> Net:
    """One operator of two values of which either repeats along some axes, or is a constant."""
    op = draw(st.sampled_from(_PAIRS))
    whole = draw(shapes(1, 5))
    x, other = (tuple(draw(st.sampled_from((size, size, 1))) for size in whole) for _ in "ab")
    # Axes that are not there repeat as well.
    other = other[draw(st.integers(0, len(other))) :]
    if op == "prelu":
        x = whole
    source = draw(st.sampled_from(("input", "constant") if other else ("constant",)))
    first = op == "prelu" or draw(st.booleans())
    return Net(x, (Pair(op, other, source, first, draw(maybe_activated())),))


@st.composite
def _moved(draw: DrawFn, shape: Shape) -> Layer:
    """Something that moves, repeats or leaves out elements of a value of this shape."""
    rank = len(shape)
    axis = draw(st.integers(0, rank - 1))
    size = shape[axis]
    op = draw(st.sampled_from(("transpose", "slice", "pad", "take", "reshape", "expand", "concat")))
    match op:
        case "transpose":
            return Op(op, (("order", tuple(draw(st.permutations(range(rank))))),))
        case "slice":
            return Op(op, (("axis", axis), *draw(_slices(size))))
        case "pad":
            return Op(op, draw(_paddings(shape)))
        case "take":
            indices = draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=9))
            return Op(op, (("axis", axis), ("indices", tuple(indices))))
        case "reshape":
            return Op(op, (("shape", draw(_reshaped(shape))),))
        case "expand":
            more = tuple(draw(st.lists(st.sampled_from((1, 2, 3)), max_size=max(0, 5 - rank))))
            ones = tuple(draw(st.sampled_from((1, 2, 3))) if s == 1 else s for s in shape)
            return Op(op, (("shape", (*more, *ones)),))
    cut = Op("slice", (("axis", axis), *draw(_slices(size))))
    return Fork((cut,), () if draw(st.booleans()) else (cut,), "concat", axis)


@st.composite
def _slices(draw: DrawFn, size: int) -> tuple[tuple[str, int], ...]:
    """start, step and size of a slice of an axis, forwards or backwards."""
    start, end = draw(st.integers(0, size - 1)), draw(st.integers(0, size - 1))
    step = draw(st.sampled_from((1, 2, 3))) * (1 if start <= end else -1)
    return (("start", start), ("step", step), ("size", abs(end - start) // abs(step) + 1))


@st.composite
def _paddings(draw: DrawFn, shape: Shape) -> tuple[tuple[str, object], ...]:
    mode = draw(st.sampled_from(("constant", "reflect", "edge", "wrap")))
    padding = []
    for size in shape:
        most = {"reflect": min(size - 1, 2), "wrap": min(size, 2)}.get(mode, 2)
        padding.append((draw(st.integers(0, most)), draw(st.integers(0, most))))
    values = (0.0, 1.0, 0.1, float("-inf")) if mode == "constant" else (0.0,)
    value = draw(st.sampled_from(values))
    return (("padding", tuple(padding)), ("mode", mode), ("value", value))


@st.composite
def _reshaped(draw: DrawFn, shape: Shape) -> Shape:
    """All axes merged, two of them merged, or one of them split."""
    axis = draw(st.integers(0, len(shape) - 1))
    way = draw(st.sampled_from(("merge", "split", "flat")))
    if way == "flat":
        return (prod(shape),)
    if way == "merge":
        return (*shape[:axis], prod(shape[axis : axis + 2]), *shape[axis + 2 :])
    parts = [n for n in range(1, shape[axis] + 1) if shape[axis] % n == 0]
    part = draw(st.sampled_from(parts))
    return (*shape[:axis], part, shape[axis] // part, *shape[axis + 1 :])


@st.composite
def movements(draw: DrawFn) -> Net:
    """One to three moves in a row, perhaps between arithmetic."""
    shape = draw(shapes(1, 4, 300))
    net = Net(shape, (draw(_moved(shape)),))
    for _ in range(draw(st.integers(0, 2))):
        after = result_shape(net)
        if len(after) > 5 or prod(after) > 3000:
            break
        extra: tuple[Layer, ...] = (Pair("add", after),) if draw(st.booleans()) else ()
        net = Net(shape, (*net.layers, *extra, draw(_moved(after))))
    return net


@st.composite
def reductions(draw: DrawFn) -> Net:
    """A sum, average or extreme over any axes, or softmax or its logarithm along any."""
    shape = draw(shapes(1, 5))
    op = draw(st.sampled_from(("sum", "mean", "max", "min", "softmax", "log_softmax")))
    every = range(len(shape))
    if op.endswith("softmax"):
        return Net(shape, (Op(op, (("axis", draw(st.sampled_from(every))),)),))
    axes = draw(st.lists(st.sampled_from(every), min_size=1, unique=True))
    given = (("axes", tuple(sorted(axes))), ("keepdims", draw(st.booleans())))
    return Net(shape, (Op(op, given),))


@st.composite
def norms(draw: DrawFn) -> Net:
    """A layer, root mean square, group, instance or local response norm."""
    op = draw(st.sampled_from(("layer_norm", "rms_norm", "group_norm", "local_response_norm")))
    eps = ("eps", draw(st.sampled_from((1e-5, 0.01))))
    if op in ("layer_norm", "rms_norm"):
        shape = draw(shapes(1, 4))
        return Net(shape, (Norm(op, (eps,), draw(st.integers(1, len(shape)))),))
    batch, rank = draw(st.sampled_from((1, 2))), draw(st.integers(0, 3))
    groups, each = draw(sizes(6)), draw(sizes(6))
    shape = (batch, groups * each, *draw(extents(rank, 60)))
    if op == "group_norm":
        return Net(shape, (Norm(op, (eps, ("groups", groups))),))
    numbers = (("size", draw(sizes(7))), ("alpha", draw(st.sampled_from((1e-4, 0.5)))),
               ("beta", draw(st.sampled_from((0.75, 1.0)))), ("k", 2.0))  # fmt: skip
    return Net(shape, (Op(op, numbers),))


@st.composite
def resamplings(draw: DrawFn) -> Net:
    """An upsampling, or downsampling, of 1 to 3 dimensions."""
    sizes_in = draw(extents(draw(st.integers(1, 3)), 40))
    mode = draw(st.sampled_from(("nearest", "linear")))
    known = ("half_pixel", "asymmetric", "align_corners")
    coordinates = draw(st.sampled_from(known[: 2 if mode == "nearest" else 3]))
    output, ratio = [], []
    for size in sizes_in:
        o = draw(st.one_of(st.sampled_from((size, 2 * size)), sizes(min(2 * size + 3, 15))))
        aligned = (size - 1) / max(o - 1, 1)
        output.append(o)
        ratio.append(float(aligned if coordinates == "align_corners" else size / o))
    shape = (draw(st.sampled_from((1, 2))), draw(sizes(20)), *sizes_in)
    given = (("output", tuple(output)), ("ratio", tuple(ratio)), ("mode", mode),
             ("coordinates", coordinates))  # fmt: skip
    return Net(shape, (Op("upsample", given),))
