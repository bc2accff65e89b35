"""Nets of several layers: rows, branches, attention."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from conformance.build import result_shape
from conformance.layers import (
    Activation,
    Attention,
    Conv,
    ConvTranspose,
    Element,
    Embedding,
    Fork,
    Layer,
    Linear,
    Net,
    Norm,
    Op,
    Pair,
)
from conformance.strategies.parts import extents, maybe_activated, schemes, sizes, windows
from conformance.strategies.plain import pooled
from refimpl.graph import Shape


@st.composite
def _chained(draw: DrawFn, shape: Shape) -> Layer:
    """A layer that fits on `shape`."""
    _, channels, *spatial = shape
    kind = draw(st.sampled_from(("conv", "block", "pool", "element")))
    activation = draw(maybe_activated())
    if kind == "pool":
        return draw(pooled(tuple(spatial)))
    if kind == "element":
        op = draw(st.sampled_from(("batch_norm", "add", "sub", "mul")))
        if op == "batch_norm":
            return Element(op, activation)
        return Pair(op, shape, activation=activation)
    scheme, keep = draw(schemes())
    ones, norm = (1,) * len(spatial), draw(st.booleans())
    if kind == "block":  # a residual around a convolution that keeps the shape
        odd = tuple(draw(st.sampled_from((1, 3))) for _ in spatial)
        pads = tuple((k // 2, k // 2) for k in odd)
        return Conv(
            channels, odd, ones, pads, ones, 1, True, norm, "self", activation, scheme, keep
        )
    kernel, stride, _, padding = draw(windows(len(spatial), dilated=False))
    kernel = tuple(min(k, s) for k, s in zip(kernel, spatial, strict=True))
    return Conv(
        draw(sizes(24)), kernel, stride, padding, ones,
        norm=norm, activation=activation, scheme=scheme, keep=keep,
    )  # fmt: skip


@st.composite
def nets(draw: DrawFn) -> Net:
    """Two to five layers in a row, with residuals around some, perhaps ending in a classifier."""
    rank = draw(st.integers(1, 3))
    spatial = draw(extents(rank, 120 if rank < 3 else 60))
    shape = (draw(st.sampled_from((1, 2))), draw(sizes(20)), *spatial)
    net = Net(shape, (draw(_chained(shape)),))
    for _ in range(draw(st.integers(1, 3))):
        net = Net(shape, (*net.layers, draw(_chained(result_shape(net)))))
    end: list[Layer] = []
    if draw(st.booleans()):
        end.append(Linear(draw(sizes(12)), activation=draw(maybe_activated())))
        end += [Op("softmax", (("axis", 1),))] * draw(st.booleans())
    return Net(shape, (*net.layers, *end))


@st.composite
def branched(draw: DrawFn) -> Net:
    """A way down and up beside the value, or a gate of its averages, then a convolution."""
    rank = draw(st.integers(1, 3))
    channels = draw(sizes(12))
    halves = draw(extents(rank, 20))
    shape = (draw(st.sampled_from((1, 2))), channels, *(2 * s for s in halves))
    gate = draw(st.booleans())
    fork = draw(_gate(channels, rank)) if gate else draw(_down_and_up(shape))
    return Net(shape, (_conv(channels, (3,) * rank), fork, _conv(draw(sizes(12)), (1,) * rank)))


def _conv(filters: int, kernel: Shape, activation: Activation | None = ("relu", ())) -> Conv:
    """A convolution that keeps spatial sizes."""
    ones = (1,) * len(kernel)
    pads = tuple((k // 2, k // 2) for k in kernel)
    return Conv(filters, kernel, ones, pads, ones, activation=activation)


@st.composite
def _gate(draw: DrawFn, channels: int, rank: int) -> Fork:
    """Squeeze and excite (Hu et al., 2018)."""
    ones, middle = (1,) * rank, draw(sizes(5))
    gate: Activation = draw(st.sampled_from((("sigmoid", ()), ("hardsigmoid", ()))))
    row = (
        Op("adaptive_avg_pool", (("output", ones),)),
        _conv(middle, ones),
        _conv(channels, ones, gate),
    )
    return Fork((), row, "mul")


@st.composite
def _down_and_up(draw: DrawFn, shape: Shape) -> Fork:
    """One level of a U-Net (Ronneberger et al., 2015)."""
    rank, filters = len(shape) - 2, draw(sizes(10))
    two, none = (2,) * rank, ((0, 0),) * rank
    window = (("kernel", two), ("stride", two), ("padding", none), ("ceil_mode", False))
    down = Op("max_pool", (*window, ("dilation", (1,) * rank)))
    zeros, ones = (0,) * rank, (1,) * rank
    up: Layer = ConvTranspose(draw(sizes(6)), two, two, none, zeros, ones)
    if draw(st.booleans()):
        mode = draw(st.sampled_from(("nearest", "linear")))
        up = Op("upsample", (("output", shape[2:]), ("ratio", (0.5,) * rank), ("mode", mode),
                             ("coordinates", "half_pixel")))  # fmt: skip
    return Fork((), (down, _conv(filters, (3,) * rank), up), "concat")


@st.composite
def transformers(draw: DrawFn) -> Net:
    """One block of attention and a pair of linear layers, on vectors or on embedded indices."""
    batch, steps = draw(st.integers(1, 2)), draw(sizes(9))
    heads, width = draw(st.integers(1, 3)), draw(sizes(6))
    channels = heads * width
    op = draw(st.sampled_from(("layer_norm", "rms_norm")))
    norm = Norm(op, (("eps", 1e-5),))
    scheme, keep = draw(schemes())
    inner: Activation = draw(st.sampled_from((("relu", ()), ("gelu", (("approximate", "none"),)))))
    wide = Linear(draw(sizes(24)), activation=inner, scheme=scheme, keep=keep, flatten=False)
    layers: tuple[Layer, ...] = (
        Fork((), (norm, Attention(heads)), "add"),
        Fork((), (norm, wide, Linear(channels, flatten=False)), "add"),
    )
    if draw(st.booleans()):
        return Net((batch, steps), (Embedding(draw(sizes(20)), channels), *layers))
    return Net((batch, steps, channels), layers)
