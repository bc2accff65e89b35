"""Every operator against torch in float64, and the fast twins against the meaning."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from refimpl.ops import OPERATORS, ShapeError

ATTEMPTS = settings(max_examples=40, deadline=None, derandomize=True)
SEEDS = st.integers(0, 2**32 - 1)


def draw_array(seed, shape):
    """Signed values over a few orders of magnitude, some of them zero."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape) * 10.0 ** rng.integers(-2, 3, shape)
    return np.where(rng.random(shape) < 0.1, 0.0, values)


def agree(ours, theirs):
    theirs = theirs.numpy() if isinstance(theirs, torch.Tensor) else theirs
    assert ours.dtype == np.float64
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-9)


def run(name, *inputs, **attributes):
    """The operator's value, after its attributes and shape rule were found to fit it."""
    operator = OPERATORS[name]
    assert set(attributes) == set(operator.attributes)
    for key, kind in operator.attributes.items():
        assert kind.accepts(attributes[key]), (key, attributes[key])
    with np.errstate(all="ignore"):
        y = operator.evaluate(*inputs, **attributes)
    assert operator.shape(tuple(x.shape for x in inputs), attributes) == y.shape
    return y


def per_axis(draw, rank, least, most):
    return tuple(draw(st.integers(least, most)) for _ in range(rank))


def both_sides(padding):
    return tuple((p, p) for p in padding)


def spatial_sizes(draw, kernel, dilation, padding):
    """Sizes from the smallest that the window fits into."""
    axes = zip(kernel, dilation, padding, strict=True)
    return tuple(max(1, d * (k - 1) + 1 - 2 * p) + draw(st.integers(0, 4)) for k, d, p in axes)


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


NEGATIVE = [-np.inf, -1e30, -50.0, -6.0, -3.0, -1.0, -1e-9, -0.0]
POSITIVE = [0.0, 1e-300, 0.5, 1.0, 3.0, 6.0, 7.0, 800.0, np.inf]
POINTS = np.array([*NEGATIVE, *POSITIVE, np.nan])


@pytest.mark.parametrize(
    ("name", "attributes", "theirs"),
    [
        ("relu", {}, F.relu),
        ("sigmoid", {}, torch.sigmoid),
        ("tanh", {}, torch.tanh),
        ("silu", {}, F.silu),
        ("hardsigmoid", {}, F.hardsigmoid),
        ("hardswish", {}, F.hardswish),
        ("gelu", {"approximate": "none"}, F.gelu),
        ("gelu", {"approximate": "tanh"}, lambda x: F.gelu(x, approximate="tanh")),
        ("clamp", {"lo": 0.0, "hi": 6.0}, F.relu6),
        ("clamp", {"lo": -1.5, "hi": np.inf}, lambda x: torch.clamp(x, min=-1.5)),
        ("clamp", {"lo": 2.0, "hi": -2.0}, lambda x: torch.clamp(x, 2.0, -2.0)),
        ("leaky_relu", {"slope": 0.1}, lambda x: F.leaky_relu(x, 0.1)),
        ("elu", {"alpha": 1.5}, lambda x: F.elu(x, 1.5)),
        ("identity", {}, lambda x: x),
    ],
)
def test_activations_are_torchs_at_every_kind_of_point(name, attributes, theirs):
    ours = run(name, POINTS, **attributes)
    # Relative everywhere: tails near zero count too.
    np.testing.assert_allclose(ours, theirs(torch.from_numpy(POINTS)).numpy(), rtol=1e-12)


@st.composite
def pools(draw, dilated):
    """Input shape and window of pools that torch accepts, too: padding at most half a window."""
    rank = draw(st.integers(1, 3))
    kernel, stride = per_axis(draw, rank, 1, 4), per_axis(draw, rank, 1, 4)
    dilation = per_axis(draw, rank, 1, 2) if dilated else (1,) * rank
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    spatial = spatial_sizes(draw, kernel, dilation, padding)
    shape = (draw(st.integers(1, 2)), draw(st.integers(1, 3)), *spatial)
    return shape, kernel, stride, padding, dilation, draw(st.booleans())


@ATTEMPTS
@given(pools(dilated=True), st.sampled_from([0.0, np.nan, np.inf, -np.inf]), SEEDS)
def test_max_pool_is_torch_max_pool(case, planted, seed):
    shape, kernel, stride, padding, dilation, ceil_mode = case
    x = draw_array(seed, shape)
    x.flat[seed % x.size] = planted
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(kernel) - 1]
    theirs = pool(torch.from_numpy(x), kernel, stride, padding, dilation, ceil_mode)
    window = {"kernel": kernel, "stride": stride, "dilation": dilation}
    agree(run("max_pool", x, **window, padding=both_sides(padding), ceil_mode=ceil_mode), theirs)


@ATTEMPTS
@given(pools(dilated=False), st.booleans(), SEEDS)
def test_avg_pool_is_torch_avg_pool(case, count_include_pad, seed):
    shape, kernel, stride, padding, _, ceil_mode = case
    # torch's avg_pool3d alone refuses a window that fits only thanks to the padding.
    assume(len(kernel) < 3 or all(s >= k for s, k in zip(shape[2:], kernel, strict=True)))
    x = draw_array(seed, shape)
    pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[len(kernel) - 1]
    theirs = pool(torch.from_numpy(x), kernel, stride, padding, ceil_mode, count_include_pad)
    flags = {"ceil_mode": ceil_mode, "count_include_pad": count_include_pad}
    pads = both_sides(padding)
    agree(run("avg_pool", x, kernel=kernel, stride=stride, padding=pads, **flags), theirs)


@ATTEMPTS
@given(st.lists(st.tuples(st.integers(1, 7), st.integers(1, 9)), min_size=1, max_size=3), SEEDS)
def test_adaptive_pools_are_torchs(axes, seed):
    x, output = draw_array(seed, (2, 3, *(s for s, _ in axes))), tuple(o for _, o in axes)
    rank = len(axes) - 1
    average = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)[rank]
    maximum = (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)[rank]
    agree(run("adaptive_avg_pool", x, output=output), average(torch.from_numpy(x), output))
    agree(run("adaptive_max_pool", x, output=output), maximum(torch.from_numpy(x), output))


@pytest.mark.parametrize("name", ["add", "sub", "mul"])
@pytest.mark.parametrize(
    "shapes", [((2, 3, 4), (2, 3, 4)), ((2, 3, 4), (4,)), ((2, 1, 4), (3, 1)), ((2, 2), ())]
)
def test_arithmetic_broadcasts(name, shapes):
    a, b = draw_array(1, shapes[0]), np.asarray(draw_array(2, shapes[1]))
    agree(run(name, a, b), getattr(torch, name)(torch.from_numpy(a), torch.from_numpy(b)))


@pytest.mark.parametrize("shape", [(2, 3), (1, 5, 7), (2, 3, 4, 5), (1, 2, 3, 2, 3)])
def test_batch_norm_is_torchs_at_inference(shape):
    x = draw_array(0, shape)
    gamma, beta, mean, deviation = (draw_array(i, shape[1:2]) for i in range(1, 5))
    tensors = map(torch.from_numpy, (x, mean, deviation**2, gamma, beta))
    theirs = F.batch_norm(*tensors, training=False, eps=1e-3)
    agree(run("batch_norm", x, gamma, beta, mean, deviation**2, eps=1e-3), theirs)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_softmax_is_torchs(axis):
    x = draw_array(0, (3, 4, 5)) * 100
    x[0, 0, 0] = -np.inf
    agree(run("softmax", x, axis=axis), torch.softmax(torch.from_numpy(x), axis))


@pytest.mark.parametrize("axes", [(0,), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_mean_is_torchs(axes, keepdims):
    x = draw_array(0, (3, 4, 5))
    agree(run("mean", x, axes=axes, keepdims=keepdims), torch.from_numpy(x).mean(axes, keepdims))


def test_shaping_is_torchs():
    x, y = draw_array(0, (2, 3, 4, 5)), draw_array(1, (2, 1, 4, 5))
    a, b = torch.from_numpy(x), torch.from_numpy(y)
    agree(run("concat", x, y, x, axis=1), torch.cat([a, b, a], 1))
    agree(run("reshape", x, shape=(6, 20)), a.reshape(6, 20))
    agree(run("flatten", x, start=1, end=2), a.flatten(1, 2))


CONV1 = {"stride": (1,), "padding": ((0, 0),), "dilation": (1,), "groups": 1}
POOL2 = {"kernel": (3, 3), "stride": (1, 1), "padding": ((0, 0), (0, 0)), "ceil_mode": False}


@pytest.mark.parametrize(
    ("name", "shapes", "attributes", "rule"),
    [
        ("conv", [(1, 4, 5), (2, 3, 1)], CONV1, "4 channels"),
        ("conv", [(1, 4, 5), (3, 2, 1)], CONV1 | {"groups": 2}, "do not divide"),
        ("conv", [(1, 4, 5), (2, 4, 6)], CONV1, "does not fit"),
        ("conv", [(1, 4, 5), (2, 4, 1)], CONV1 | {"stride": (1, 1)}, "stride"),
        ("conv", [(4, 5), (2, 4)], CONV1, "spatial"),
        ("conv", [(1, 4, 5), (2, 4, 1), (3,)], CONV1, "bias"),
        ("linear", [(2, 3), (4, 5)], {}, "3 channels"),
        (
            "max_pool",
            [(1, 1, 9, 9)],
            POOL2 | {"padding": ((3, 0), (0, 0)), "dilation": (1, 1)},
            "extent",
        ),
        ("avg_pool", [(1, 1, 9)], POOL2 | {"count_include_pad": True}, "spatial axes"),
        ("batch_norm", [(2, 3), (3,), (3,), (4,), (3,)], {"eps": 0.1}, "mean"),
        ("add", [(2, 3), (2,)], {}, "broadcast"),
        ("concat", [(2, 3), (2, 4)], {"axis": 0}, "differ"),
        ("reshape", [(2, 3)], {"shape": (4, 2)}, "6 elements"),
        ("flatten", [(2, 3)], {"start": 1, "end": 2}, "axes"),
        ("softmax", [(2, 3)], {"axis": 2}, "axis 2"),
        ("mean", [(2, 3)], {"axes": (0, 2), "keepdims": True}, "axes"),
    ],
)
def test_shape_rules_refuse(name, shapes, attributes, rule):
    with pytest.raises(ShapeError, match=rule):
        OPERATORS[name].shape(tuple(shapes), attributes)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("conv", "stride", [1, 1]),
        ("conv", "stride", (1, 0)),
        ("conv", "stride", (True, 1)),
        ("conv", "padding", (1, 1)),
        ("conv", "padding", ((0, -1),)),
        ("conv", "groups", 1.0),
        ("conv", "groups", 2**40),
        ("batch_norm", "eps", 1),
        ("batch_norm", "eps", float("nan")),
        ("clamp", "lo", float("nan")),
        ("gelu", "approximate", "erf"),
        ("mean", "axes", (1, 0)),
        ("mean", "axes", ()),
        ("softmax", "axis", -1),
        ("max_pool", "ceil_mode", 1),
        ("reshape", "shape", (-1, 2)),
    ],
)
def test_attribute_kinds_refuse(name, key, value):
    assert not OPERATORS[name].attributes[key].accepts(value)
