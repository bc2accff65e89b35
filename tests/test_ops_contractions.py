"""Convolution and products against torch in float64, and the fast twins against the meaning."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from operators import ATTEMPTS, SEEDS, agree, both_sides, draw_array, per_axis, run, spatial_sizes

from refimpl.ops import OPERATORS


@st.composite
def convolutions(draw):
    """Shapes and attributes of legal convolutions of 1 to 3 spatial axes."""
    rank = draw(st.integers(1, 3))
    kernel, stride = per_axis(draw, rank, 1, 3), per_axis(draw, rank, 1, 3)
    dilation, padding = per_axis(draw, rank, 1, 2), per_axis(draw, rank, 0, 2)
    groups, channels = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    filters = draw(st.integers(1, 3)) * groups
    spatial = spatial_sizes(draw, kernel, dilation, padding)
    x = (draw(st.integers(1, 2)), channels * groups, *spatial)
    return x, (filters, channels, *kernel), stride, padding, dilation, groups


@ATTEMPTS
@given(convolutions(), st.booleans(), SEEDS)
def test_conv_is_torch_conv(case, biased, seed):
    x_shape, w_shape, stride, padding, dilation, groups = case
    arrays = [draw_array(seed, x_shape), draw_array(seed + 1, w_shape)]
    arrays += [draw_array(seed + 2, w_shape[:1])] if biased else []
    window = {"stride": stride, "dilation": dilation, "groups": groups}
    convolve = (F.conv1d, F.conv2d, F.conv3d)[len(stride) - 1]
    theirs = convolve(*map(torch.from_numpy, arrays), padding=padding, **window)
    agree(run("conv", *arrays, padding=both_sides(padding), **window), theirs)
    agree(OPERATORS["conv"].fast(*arrays, padding=both_sides(padding), **window), theirs)


@ATTEMPTS
@given(convolutions(), st.sampled_from([np.nan, np.inf, 1.0]), SEEDS)
def test_fast_conv_is_conv_with_pruned_weights_and_uneven_padding(case, planted, seed):
    x_shape, w_shape, stride, padding, dilation, groups = case
    uneven = tuple((p, max(p - 1, 0)) for p in padding)
    extents = [d * (k - 1) + 1 for d, k in zip(dilation, w_shape[2:], strict=True)]
    sizes = [s + sum(p) for s, p in zip(x_shape[2:], uneven, strict=True)]
    assume(all(size >= extent for size, extent in zip(sizes, extents, strict=True)))
    kept = np.random.default_rng(seed).random(w_shape) < 0.5
    x, w = draw_array(seed, x_shape), draw_array(seed + 1, w_shape) * kept
    x.flat[seed % x.size] = planted
    attributes = {"stride": stride, "padding": uneven, "dilation": dilation, "groups": groups}
    with np.errstate(all="ignore"):
        ours = OPERATORS["conv"].evaluate(x, w, **attributes, kept=kept)
        agree(OPERATORS["conv"].fast(x, w, **attributes, kept=kept), ours)


@pytest.mark.parametrize("twin", ["evaluate", "fast"])
def test_pruned_weights_are_absent_not_zero(twin):
    x = np.array([[np.inf, 2.0]])
    w, kept = np.array([[0.0, 3.0]]), np.array([[False, True]])
    assert getattr(OPERATORS["linear"], twin)(x, w, kept=kept) == 6.0
    with np.errstate(all="ignore"):
        assert np.isnan(getattr(OPERATORS["linear"], twin)(x, w))


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("op", ["conv", "linear"])
def test_twins_agree_on_everything_that_is_not_finite(op, seed):
    rng = np.random.default_rng(seed)
    ends = np.array([np.inf, -np.inf, np.nan, 0.0, 1.0, -2.0, 3.0])
    spatial, kernel = ((4,), (2,)) if op == "conv" else ((), ())
    x = rng.choice(ends, (2, 4, *spatial), p=[0.05, 0.05, 0.03, 0.27, 0.2, 0.2, 0.2])
    w = rng.choice(ends, (6, 2 if op == "conv" else 4, *kernel), p=[0.04] * 3 + [0.22] * 4)
    kept = rng.random(w.shape) < 0.6
    w = np.where(kept, w, 0.0)
    window = {"stride": (1,), "padding": ((1, 0),), "dilation": (1,), "groups": 2}
    attributes = window if op == "conv" else {}
    with np.errstate(all="ignore"):
        for mask in (kept, None):
            meant = OPERATORS[op].evaluate(x, w, **attributes, kept=mask)
            np.testing.assert_array_equal(OPERATORS[op].fast(x, w, **attributes, kept=mask), meant)


@ATTEMPTS
@given(st.lists(st.integers(1, 3), max_size=3), st.integers(1, 5), st.integers(1, 5), SEEDS)
def test_linear_is_torch_linear(lead, channels, filters, seed):
    x, w = draw_array(seed, (*lead, channels)), draw_array(seed + 1, (filters, channels))
    b = draw_array(seed + 2, (filters,))
    theirs = F.linear(*map(torch.from_numpy, (x, w, b)))
    agree(run("linear", x, w, b), theirs)
    agree(OPERATORS["linear"].fast(x, w, b), theirs)
    agree(run("linear", x, w), F.linear(torch.from_numpy(x), torch.from_numpy(w)))


@st.composite
def transposed(draw):
    """Shapes and attributes of transposed convolutions that torch accepts, too."""
    x, w, stride, padding, dilation, groups = draw(convolutions())
    margins = zip(stride, dilation, strict=True)
    margin = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in margins)
    axes = zip(x[2:], w[2:], stride, padding, dilation, margin, strict=True)
    assume(all((s - 1) * t + d * (k - 1) + 1 - 2 * p + e > 0 for s, k, t, p, d, e in axes))
    return x, (x[1], draw(st.integers(1, 3)), *w[2:]), stride, padding, margin, dilation, groups


@ATTEMPTS
@given(transposed(), st.booleans(), st.sampled_from([np.nan, np.inf, 1.0]), SEEDS)
def test_conv_transpose_is_torchs(case, biased, planted, seed):
    x_shape, w_shape, stride, padding, margin, dilation, groups = case
    arrays = [draw_array(seed, x_shape), draw_array(seed + 1, w_shape)]
    arrays += [draw_array(seed + 2, (w_shape[1] * groups,))] if biased else []
    window = {"stride": stride, "output_padding": margin, "dilation": dilation, "groups": groups}
    convolve = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[len(stride) - 1]
    theirs = convolve(*map(torch.from_numpy, arrays), padding=padding, **window)
    attributes = {**window, "padding": both_sides(padding)}
    agree(run("conv_transpose", *arrays, **attributes), theirs)
    arrays[0].flat[seed % arrays[0].size] = planted
    with np.errstate(all="ignore"):
        ours = OPERATORS["conv_transpose"].fast(*arrays, **attributes)
    agree(ours, run("conv_transpose", *arrays, **attributes))


@ATTEMPTS
@given(convolutions(), SEEDS)
def test_conv_transpose_is_the_adjoint_of_conv(case, seed):
    """<conv(x), y> = <x, conv_transpose(y)>, with uneven padding, which torch does not have."""
    x_shape, w_shape, stride, padding, dilation, groups = case
    attributes = {"stride": stride, "dilation": dilation, "groups": groups}
    attributes["padding"] = tuple((p, p + i % 2) for i, p in enumerate(padding))
    x, w = draw_array(seed, x_shape), draw_array(seed + 1, w_shape)
    across = run("conv", x, w, **attributes)
    y = draw_array(seed + 2, across.shape)
    sizes = (x.shape[2:], y.shape[2:], w.shape[2:])
    axes = zip(*sizes, stride, dilation, attributes["padding"], strict=True)
    margin = tuple(s - ((o - 1) * t + d * (k - 1) + 1 - sum(p)) for s, o, k, t, d, p in axes)
    assume(min(margin) >= 0)
    back = run("conv_transpose", y, w, **attributes, output_padding=margin)
    np.testing.assert_allclose((across * y).sum(), (x * back).sum(), rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize(
    ("a", "b"),
    [((3, 4), (4, 1)), ((2, 5, 3), (3, 7)), ((2, 1, 5, 3), (4, 3, 2)), ((1, 1), (6, 1, 1))],
)
def test_matmul_is_torchs(a, b):
    x, y = draw_array(0, a), draw_array(1, b)
    agree(run("matmul", x, y), torch.matmul(torch.from_numpy(x), torch.from_numpy(y)))
