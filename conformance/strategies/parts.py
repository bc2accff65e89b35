"""Hypothesis strategies for layers, nets and whole cases.

They draw structure and a seed; numbers come from NumPy (see `conformance.values`).  Every layer
is valid by construction and costs at most about `MACS` multiply-adds; sizes are awkward on
purpose: 1, primes, and one less or more than a vector.  Simple choices come first, so what fails
shrinks to something a person can read.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from conformance.cuts import Cut
from conformance.layers import (
    Activation,
    Conv,
    Element,
    Flatten,
    Layer,
    Linear,
    Net,
    Pool,
    Softmax,
)
from conformance.values import EXACT, KINDS, Kind, Values
from refimpl.graph import Shape
from refimpl.ops.windows import output_size

MACS = 200_000
"""Multiply-adds of one drawn layer, at most: what its reference computes in milliseconds."""
WEIGHTS = 20_000
"""Weights of one drawn layer, at most: the loops over weights are in Python."""

_AWKWARD = (1, 2, 3, 4, 5, 7, 8, 9, 11, 13, 15, 16, 17, 23, 31, 32, 33, 47, 48, 49, 63, 64, 65,
            127, 129, 131, 257)  # fmt: skip

_ACTIVATIONS: tuple[Activation, ...] = (
    ("relu", ()),
    ("clamp", (("lo", 0.0), ("hi", 6.0))),
    ("clamp", (("lo", -0.3), ("hi", float("inf")))),
    ("leaky_relu", (("slope", 0.01),)),
    ("elu", (("alpha", 1.3),)),
    ("sigmoid", ()),
    ("hardsigmoid", ()),
    ("tanh", ()),
    ("silu", ()),
    ("hardswish", ()),
)


@dataclass(frozen=True)
class Case:
    """One case of the suite: a net, its numbers, how it is cut, LLVM's code generation level."""

    net: Net
    values: Values
    cut: Cut | None = None
    level: int = 0


def sizes(limit: int) -> SearchStrategy[int]:
    """An awkward size from 1 to `limit`, or any other."""
    awkward = [size for size in _AWKWARD if size <= limit]
    return st.one_of(st.sampled_from(awkward), st.integers(1, max(limit, 1)))


def activations() -> SearchStrategy[Activation]:
    """Every activation that is compiled, with its numbers."""
    return st.sampled_from(_ACTIVATIONS)


def _maybe_activated() -> SearchStrategy[Activation | None]:
    return st.one_of(st.none(), activations())


@st.composite
def schemes(draw: DrawFn) -> tuple[str, float]:
    """(scheme as text, share kept), with blocks that do not divide and almost nothing kept."""
    name = draw(st.sampled_from(("dense", "unstructured", "filter", "vanilla", "kgs")))
    if name == "dense":
        return name, 1.0
    keep = draw(st.sampled_from((0.5, 0.28, 0.1, 0.01, 1e-6, 0.9, 0.0)))
    if name in ("vanilla", "kgs"):
        gf, gc = (draw(st.sampled_from((1, 2, 3, 4, 8, 16, 32, 100))) for _ in range(2))
        return f"{name}:{gf}x{gc}", keep
    return name, keep


@st.composite
def _outputs(draw: DrawFn, rank: int, budget: int) -> Shape:
    """Spatial sizes whose product is at most `budget`, the last axis longest."""
    found = []
    for axis in range(rank):
        limit = 40 if axis == 0 else 7
        found.append(draw(sizes(max(1, min(limit, budget // prod(found))))))
    return tuple(reversed(found))


@st.composite
def _windows(draw: DrawFn, rank: int, dilated: bool) -> tuple[Shape, Shape, Shape, tuple]:
    """(kernel, stride, dilation, padding) along every axis; padding below the window's extent."""
    kernel = tuple(draw(st.sampled_from((1, 3, 2, 5, 4) if rank < 3 else (1, 3, 2)))
                   for _ in range(rank))  # fmt: skip
    stride = tuple(draw(st.sampled_from((1, 2, 3))) for _ in range(rank))
    dilation = tuple(draw(st.sampled_from((1, 1, 2, 3))) if dilated else 1 for _ in range(rank))
    extents = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    padding = tuple(
        (draw(st.integers(0, min(3, e - 1))), draw(st.integers(0, min(3, e - 1)))) for e in extents
    )
    return kernel, stride, dilation, padding


@st.composite
def _inputs(
    draw: DrawFn, out: Shape, kernel: Shape, stride: Shape, dilation: Shape, padding: tuple
) -> Shape:
    """Input sizes from which a window yields `out`, with up to a stride of elements unread."""
    result = []
    for o, k, s, d, pads in zip(out, kernel, stride, dilation, padding, strict=True):
        least = (o - 1) * s + d * (k - 1) + 1 - sum(pads)
        result.append(max(1, least + draw(st.integers(0, s - 1))))
    return tuple(result)


@st.composite
def conv_layers(draw: DrawFn) -> Net:
    """One convolution of 1 to 3 dimensions: any stride, padding, dilation, groups and scheme."""
    rank = draw(st.integers(1, 3))
    kernel, stride, dilation, padding = draw(_windows(rank, dilated=True))
    batch = draw(st.sampled_from((1, 1, 2, 3)))
    groups = draw(st.sampled_from((1, 1, 1, 2, 3, 4, 16)))
    out = draw(_outputs(rank, 200))
    budget = min(WEIGHTS, MACS // prod(out) // batch) // prod(kernel) // groups
    channels = draw(sizes(max(1, min(260 // groups, budget))))
    filters = draw(sizes(max(1, min(130 // groups, budget // channels))))
    if draw(st.integers(0, 4)) == 4:  # depthwise: a channel a group
        groups, channels = groups * channels, 1
        filters = min(filters, 2)
    spatial = draw(_inputs(out, kernel, stride, dilation, padding))
    scheme, keep = draw(schemes())
    layer = Conv(
        filters * groups, kernel, stride, padding, dilation, groups,
        bias=draw(st.booleans()), norm=draw(st.booleans()),
        residual=draw(st.sampled_from(("none", "input"))),
        activation=draw(_maybe_activated()), scheme=scheme, keep=keep,
    )  # fmt: skip
    return Net((batch, channels * groups, *spatial), (layer,))


@st.composite
def linear_layers(draw: DrawFn) -> Net:
    """One linear layer, on (N, C) or on a flattened activation."""
    rank = draw(st.sampled_from((0, 0, 1, 2, 3)))
    batch, channels = draw(st.sampled_from((1, 2, 5))), draw(sizes(260))
    spatial = draw(_outputs(rank, max(1, 500 // channels)))
    inputs = channels * prod(spatial)
    filters = draw(sizes(max(1, min(200, WEIGHTS // inputs))))
    scheme, keep = draw(schemes())
    layer = Linear(filters, draw(st.booleans()), draw(_maybe_activated()), scheme, keep)
    return Net((batch, channels, *spatial), (layer,))


@st.composite
def _pooled(draw: DrawFn, spatial: Shape) -> Pool:
    """A pooling that fits into an input of these sizes."""
    rank = len(spatial)
    op = draw(st.sampled_from(("max_pool", "avg_pool", "adaptive_avg_pool", "adaptive_max_pool")))
    if op.startswith("adaptive"):
        output = tuple(draw(sizes(min(s + 2, 9))) for s in spatial)
        return Pool(op, (("output", output),))
    kernel, stride, dilation, padding = draw(_windows(rank, dilated=False))
    ceil = draw(st.booleans())
    kernel = tuple(min(k, s) for k, s in zip(kernel, spatial, strict=True))
    # torch's rule: at most half the window
    padding = tuple((min(lo, k // 2), min(hi, k // 2))
                    for (lo, hi), k in zip(padding, kernel, strict=True))  # fmt: skip
    given = [("kernel", kernel), ("stride", stride), ("padding", padding), ("ceil_mode", ceil)]
    if op == "max_pool":
        given.append(("dilation", dilation))
    else:
        given.append(("count_include_pad", draw(st.booleans())))
    return Pool(op, tuple(given))


@st.composite
def pools(draw: DrawFn) -> Net:
    """One maximum or average pooling, fixed or adaptive, of 1 to 3 dimensions."""
    rank = draw(st.integers(1, 3))
    shape = (draw(st.sampled_from((1, 2))), draw(sizes(40)), *draw(_outputs(rank, 300)))
    return Net(shape, (draw(_pooled(shape[2:])),))


@st.composite
def elements(draw: DrawFn) -> Net:
    """One elementwise operation, a batch norm or an activation, or softmax or a flatten."""
    rank = draw(st.integers(0, 3))
    shape = (draw(st.sampled_from((1, 2, 3))), draw(sizes(70)), *draw(_outputs(rank, 120)))
    if draw(st.integers(0, 5)) == 5:
        layers: tuple[Layer, ...] = (Softmax(),) if rank == 0 else (Flatten(), Softmax())
        return Net(shape, layers)
    op = draw(st.sampled_from(("none", "batch_norm", "add", "sub", "mul")))
    if op == "none":
        return Net(shape, (Element(op, draw(activations())),))
    return Net(shape, (Element(op, draw(_maybe_activated())),))


@st.composite
def _chained(draw: DrawFn, shape: Shape) -> tuple[Layer, Shape]:
    """A layer that fits on `shape`, and the shape it makes."""
    batch, channels, *spatial = shape
    kind = draw(st.sampled_from(("conv", "block", "pool", "element")))
    if kind == "block":  # a residual around a convolution that keeps the shape
        odd = tuple(draw(st.sampled_from((1, 3))) for _ in spatial)
        pads, ones = tuple((k // 2, k // 2) for k in odd), (1,) * len(odd)
        scheme, keep = draw(schemes())
        return Conv(
            channels, odd, ones, pads, ones, 1, True, draw(st.booleans()), "self",
            draw(_maybe_activated()), scheme, keep,
        ), shape  # fmt: skip
    if kind == "pool":
        layer = draw(_pooled(tuple(spatial)))
        return layer, (batch, channels, *_pooled_sizes(layer, tuple(spatial)))
    if kind == "element":
        op = draw(st.sampled_from(("batch_norm", "add", "sub", "mul")))
        return Element(op, draw(_maybe_activated())), shape
    kernel, stride, _, padding = draw(_windows(len(spatial), dilated=False))
    kernel = tuple(min(k, s) for k, s in zip(kernel, spatial, strict=True))
    scheme, keep = draw(schemes())
    layer = Conv(
        draw(sizes(24)), kernel, stride, padding, (1,) * len(spatial),
        norm=draw(st.booleans()), activation=draw(_maybe_activated()), scheme=scheme, keep=keep,
    )  # fmt: skip
    windows = zip(spatial, kernel, stride, padding, strict=True)
    return layer, (batch, layer.filters, *(output_size(*axis) for axis in windows))


def _pooled_sizes(pool: Pool, spatial: Shape) -> Shape:
    given = dict(pool.attributes)
    if "output" in given:
        return given["output"]
    axes = zip(spatial, given["kernel"], given["stride"], given["padding"], strict=True)
    return tuple(output_size(*axis, ceil_mode=given["ceil_mode"]) for axis in axes)


@st.composite
def nets(draw: DrawFn) -> Net:
    """Two to five layers in a row, with residuals around some, perhaps ending in a classifier."""
    rank = draw(st.integers(1, 3))
    spatial = draw(_outputs(rank, 120 if rank < 3 else 60))
    start = shape = (draw(st.sampled_from((1, 2))), draw(sizes(20)), *spatial)
    layers: list[Layer] = []
    for _ in range(draw(st.integers(2, 4))):
        layer, shape = draw(_chained(shape))
        layers.append(layer)
    if draw(st.booleans()):
        layers.append(Linear(draw(sizes(12)), activation=draw(_maybe_activated())))
        layers += [Softmax()] * draw(st.booleans())
    return Net(start, tuple(layers))


@st.composite
def cuts(draw: DrawFn) -> Cut:
    """Any legal way to cut a convolution."""
    return Cut(
        vectors=draw(st.sampled_from((1, 2, 3, 4, 6, 8))),
        narrower=draw(st.integers(0, 4)),
        tile=(draw(st.integers(1, 3)), draw(st.integers(1, 6))),
        channels=draw(sizes(64)),
        filters_first=draw(st.booleans()),
    )


@st.composite
def cases(
    draw: DrawFn, structures: SearchStrategy[Net], *, kinds: tuple[Kind, ...] = KINDS
) -> Case:
    """A net with numbers of one of the kinds (half of them exact), cut by the planner or not."""
    exact: tuple[Kind, ...] = tuple(kind for kind in kinds if kind in EXACT)
    either: SearchStrategy[Kind] = st.one_of(
        st.sampled_from(exact or kinds), st.sampled_from(kinds)
    )
    values = Values(draw(either), draw(st.integers(0, 2**32 - 1)))
    cut = draw(st.one_of(st.none(), cuts()))
    return Case(draw(structures), values, cut, draw(st.sampled_from((0, 0, 0, 2))))
