"""Layers that multiply and sum: convolutions, linear layers, products of matrices, embeddings."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from conformance.layers import Conv, ConvTranspose, Embedding, Linear, Net, Op, Pair
from conformance.strategies.parts import (
    MACS,
    WEIGHTS,
    extents,
    inputs_for,
    maybe_activated,
    schemes,
    sizes,
    windows,
)
from refimpl.graph import Shape


@st.composite
def conv_layers(draw: DrawFn) -> Net:
    """One convolution of 1 to 3 dimensions: any stride, padding, dilation, groups and scheme."""
    rank = draw(st.integers(1, 3))
    kernel, stride, dilation, padding = draw(windows(rank, dilated=True))
    batch = draw(st.sampled_from((1, 1, 2, 3)))
    groups = draw(st.sampled_from((1, 1, 1, 2, 3, 4, 16)))
    out = draw(extents(rank, 200))
    budget = min(WEIGHTS, MACS // prod(out) // batch) // prod(kernel) // groups
    channels = draw(sizes(max(1, min(260 // groups, budget))))
    filters = draw(sizes(max(1, min(130 // groups, budget // channels))))
    if draw(st.integers(0, 4)) == 4:  # depthwise: a channel a group
        groups, channels = groups * channels, 1
        filters = min(filters, 2)
    spatial = draw(inputs_for(out, kernel, stride, dilation, padding))
    scheme, keep = draw(schemes())
    layer = Conv(
        filters * groups, kernel, stride, padding, dilation, groups,
        bias=draw(st.booleans()), norm=draw(st.booleans()),
        residual=draw(st.sampled_from(("none", "input"))),
        activation=draw(maybe_activated()), scheme=scheme, keep=keep,
    )  # fmt: skip
    return Net((batch, channels * groups, *spatial), (layer,))


@st.composite
def patterned_layers(draw: DrawFn) -> Net:
    """One convolution whose kernels keep a pattern each, or nothing: what FKW can hold."""
    net = draw(conv_layers())
    (layer,) = net.layers
    assert isinstance(layer, Conv)
    positions = prod(layer.kernel)
    entries = draw(st.integers(1, max(1, positions // 2)))
    share = draw(st.sampled_from((0.99, 0.6))) * entries / positions
    scheme = f"pattern:{entries}x{draw(st.sampled_from((8, 2)))}"
    return replace(net, layers=(replace(layer, scheme=scheme, keep=share),))


@st.composite
def tiled_layers(draw: DrawFn) -> tuple[Net, Shape]:
    """A convolution of stride 1 in 1 to 3 dimensions, and outputs of a tile along every axis.

    Tiles divide the outputs or overlap at the end; an axis may stay direct, but not all of them.
    """
    rank = draw(st.integers(1, 3))
    tiled = draw(st.integers(0, rank - 1))
    kernel, outputs, out = [], [], []
    for axis in range(rank):
        r = draw(st.sampled_from((3, 2, 4, 5, 3) if axis == tiled else (3, 1, 2)))
        most = 1 if r == 1 else min(9 - r, 6 if rank < 3 else 4)
        outputs.append(draw(st.integers(2 if axis == tiled else 1, most)))
        kernel.append(r)
        out.append(draw(st.integers(outputs[-1], outputs[-1] * 2 + (9 if axis == 0 else 3))))
    padding = tuple((draw(st.integers(0, r - 1)), draw(st.integers(0, r - 1))) for r in kernel)
    batch = draw(st.sampled_from((1, 1, 2, 3)))
    budget = max(1, min(WEIGHTS, MACS // prod(out) // batch) // prod(kernel))
    # Blocks of fewer channels than a vector lie plain, and are never tiled.
    channels = draw(sizes(min(70, max(1, budget))).map(lambda c: max(c, 16)))
    filters = draw(sizes(max(1, min(100, budget // channels))))
    least = zip(out, kernel, padding, strict=True)
    spatial = tuple(max(1, o + r - 1 - sum(pair)) for o, r, pair in least)
    scheme, keep = draw(schemes())
    layer = Conv(
        filters, tuple(kernel), (1,) * rank, padding, (1,) * rank,
        bias=draw(st.booleans()), norm=draw(st.booleans()),
        residual=draw(st.sampled_from(("none", "input"))),
        activation=draw(maybe_activated()), scheme=scheme, keep=keep,
    )  # fmt: skip
    return Net((batch, channels, *spatial), (layer,)), tuple(outputs)


@st.composite
def point_layers(draw: DrawFn) -> Net:
    """The same with points of transformed kernels for weights, any of them pruned."""
    net, outputs = draw(tiled_layers())
    (layer,) = net.layers
    assert isinstance(layer, Conv)
    return replace(net, layers=(replace(layer, tile=outputs),))


@st.composite
def linear_layers(draw: DrawFn) -> Net:
    """One linear layer, on (N, C) or on a flattened activation."""
    rank = draw(st.sampled_from((0, 0, 1, 2, 3)))
    batch, channels = draw(st.sampled_from((1, 2, 5))), draw(sizes(260))
    spatial = draw(extents(rank, max(1, 500 // channels)))
    inputs = channels * prod(spatial)
    filters = draw(sizes(max(1, min(200, WEIGHTS // inputs))))
    scheme, keep = draw(schemes())
    layer = Linear(filters, draw(st.booleans()), draw(maybe_activated()), scheme, keep)
    return Net((batch, channels, *spatial), (layer,))


@st.composite
def transposed_layers(draw: DrawFn) -> Net:
    """One transposed convolution of 1 to 3 dimensions, with all that torch's has."""
    rank = draw(st.integers(1, 3))
    sizes_in = draw(extents(rank, 30))
    kernel, stride, dilation, _ = draw(windows(rank, dilated=True))
    more = tuple(draw(st.integers(0, max(s, d) - 1))
                 for s, d in zip(stride, dilation, strict=True))  # fmt: skip
    axes = zip(sizes_in, kernel, stride, dilation, more, strict=True)
    # What is cut away at the ends leaves at least one position.
    most = [((size - 1) * s + d * (k - 1) + e) // 2 for size, k, s, d, e in axes]
    cuts = [st.integers(0, min(3, m)) for m in most]
    padding = tuple((draw(cut), draw(cut)) for cut in cuts)
    groups = draw(st.sampled_from((1, 1, 2, 3)))
    channels, filters = draw(sizes(12)) * groups, draw(sizes(12)) * groups
    layer = ConvTranspose(
        filters, kernel, stride, padding, more, dilation, groups,
        draw(st.booleans()), draw(maybe_activated()),
    )  # fmt: skip
    return Net((draw(st.sampled_from((1, 2))), channels, *sizes_in), (layer,))


@st.composite
def products(draw: DrawFn) -> Net:
    """A product of two stacks of matrices, either of them the value or a constant."""
    m, k, n = (draw(sizes(limit)) for limit in (20, 70, 40))
    stack = tuple(draw(st.sampled_from((1, 2, 3))) for _ in range(draw(st.integers(0, 2))))
    others = [tuple(draw(st.sampled_from((1, size))) for size in stack) for _ in "ab"]
    a, b = (stack[draw(st.integers(0, len(stack))):] if draw(st.booleans()) else other
            for other in others)  # fmt: skip
    first = draw(st.booleans())
    left, right = (*a, m, k), (*b, k, n)
    source = draw(st.sampled_from(("input", "constant")))
    x, other = (left, right) if first else (right, left)
    return Net(x, (Pair("matmul", other, source, first),))


@st.composite
def embeddings(draw: DrawFn) -> Net:
    """Rows of a table, of indices of any shape; perhaps reshaped or transposed before or after."""
    shape = tuple(draw(sizes(7)) for _ in range(draw(st.integers(1, 3))))
    net = Net(shape, (Embedding(draw(sizes(40)), draw(sizes(33))),))
    if draw(st.booleans()):
        order = tuple(draw(st.permutations(range(len(shape) + 1))))
        net = Net(shape, (*net.layers, Op("transpose", (("order", order),))))
    if draw(st.booleans()):
        net = Net(shape, (*net.layers, Linear(draw(sizes(9)), flatten=False)))
    return net
