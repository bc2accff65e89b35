"""Activations, arithmetic, normalisation and reductions against torch in float64."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from operators import POINTS, agree, draw_array, run


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
        ("selu", {}, F.selu),
        ("celu", {"alpha": 1.5}, lambda x: F.celu(x, 1.5)),
        ("celu", {"alpha": -0.5}, lambda x: F.celu(x, -0.5)),
        # torch leaves the logarithm out past a threshold: here, where it is 0 in float64 too.
        ("softplus", {"beta": 1.0}, lambda x: F.softplus(x, 1, 600)),
        ("softplus", {"beta": -0.3}, lambda x: F.softplus(x, -0.3, 600)),
        ("softsign", {}, F.softsign),
        ("mish", {}, F.mish),
        ("abs", {}, torch.abs),
        ("neg", {}, torch.neg),
        ("exp", {}, torch.exp),
        ("log", {}, torch.log),
        ("sqrt", {}, torch.sqrt),
        ("reciprocal", {}, torch.reciprocal),
        ("erf", {}, torch.erf),
        ("identity", {}, lambda x: x),
    ],
)
def test_activations_are_torchs_at_every_kind_of_point(name, attributes, theirs):
    ours = run(name, POINTS, **attributes)
    # Relative everywhere: tails near zero count too.
    np.testing.assert_allclose(ours, theirs(torch.from_numpy(POINTS)).numpy(), rtol=1e-12)


@pytest.mark.parametrize("shape", [(17,), (1, 17), (17, 1), (3, 1, 17)])
def test_prelu_is_torchs_with_a_slope_for_each_channel(shape):
    x = np.broadcast_to(POINTS, (2, 17, len(POINTS)))
    slope = draw_array(0, (17,))
    theirs = F.prelu(torch.from_numpy(x.copy()), torch.from_numpy(slope)).numpy()
    np.testing.assert_array_equal(run("prelu", x, slope.reshape(17, 1)), theirs)


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "maximum", "minimum"])
@pytest.mark.parametrize(
    "shapes", [((2, 3, 4), (2, 3, 4)), ((2, 3, 4), (4,)), ((2, 1, 4), (3, 1)), ((2, 2), ())]
)
def test_arithmetic_broadcasts(name, shapes):
    a, b = draw_array(1, shapes[0]), np.asarray(draw_array(2, shapes[1]))
    a.flat[0] = np.nan
    agree(run(name, a, b), getattr(torch, name)(torch.from_numpy(a), torch.from_numpy(b)))


@pytest.mark.parametrize("shape", [(2, 3), (1, 5, 7), (2, 3, 4, 5), (1, 2, 3, 2, 3)])
def test_batch_norm_is_torchs_at_inference(shape):
    x = draw_array(0, shape)
    gamma, beta, mean, deviation = (draw_array(i, shape[1:2]) for i in range(1, 5))
    tensors = map(torch.from_numpy, (x, mean, deviation**2, gamma, beta))
    theirs = F.batch_norm(*tensors, training=False, eps=1e-3)
    agree(run("batch_norm", x, gamma, beta, mean, deviation**2, eps=1e-3), theirs)


@pytest.mark.parametrize(
    ("shape", "axes"), [((5,), 1), ((2, 3), 1), ((2, 3, 5), 2), ((1, 7, 1), 3)]
)
def test_layer_and_rms_norm_are_torchs(shape, axes):
    x = draw_array(0, shape)
    gamma, beta = draw_array(1, shape[-axes:]), draw_array(2, shape[-axes:])
    a, g, b = map(torch.from_numpy, (x, gamma, beta))
    agree(run("layer_norm", x, gamma, beta, eps=1e-3), F.layer_norm(a, gamma.shape, g, b, 1e-3))
    agree(run("rms_norm", x, gamma, eps=1e-3), F.rms_norm(a, gamma.shape, g, 1e-3))


@pytest.mark.parametrize(("channels", "groups"), [(1, 1), (6, 1), (6, 2), (6, 3), (7, 7)])
@pytest.mark.parametrize("spatial", [(), (5,), (2, 3), (2, 1, 3)])
def test_group_norm_is_torchs_and_instance_norm_is_one_of_it(channels, groups, spatial):
    x = draw_array(0, (2, channels, *spatial))
    gamma, beta = draw_array(1, (channels,)), draw_array(2, (channels,))
    a, g, b = map(torch.from_numpy, (x, gamma, beta))
    ours = run("group_norm", x, gamma, beta, groups=groups, eps=1e-3)
    agree(ours, F.group_norm(a, groups, g, b, 1e-3))
    if groups == channels and np.prod(spatial) > 1:
        agree(ours, F.instance_norm(a, weight=g, bias=b, eps=1e-3))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("shape", [(2, 7, 3), (1, 1, 2, 3), (2, 4, 1, 2, 3)])
def test_local_response_norm_is_torchs(size, shape):
    x = draw_array(0, shape)
    theirs = F.local_response_norm(torch.from_numpy(x), size, 1e-2, 0.75, 1.5)
    agree(run("local_response_norm", x, size=size, alpha=1e-2, beta=0.75, k=1.5), theirs)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_softmaxes_are_torchs(name, axis):
    x = draw_array(0, (3, 4, 5)) * 100
    x[0, 0, 0] = -np.inf
    x[2, 3, 4] = np.nan
    agree(run(name, x, axis=axis), getattr(torch, name)(torch.from_numpy(x), axis))


@pytest.mark.parametrize(
    ("name", "theirs"),
    [("mean", torch.mean), ("sum", torch.sum), ("max", torch.amax), ("min", torch.amin)],
)
@pytest.mark.parametrize("axes", [(0,), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_reductions_are_torchs(name, theirs, axes, keepdims):
    x = draw_array(0, (3, 4, 5))
    x[0, 0, 0] = np.nan
    ours = run(name, x, axes=axes, keepdims=keepdims)
    agree(ours, theirs(torch.from_numpy(x), axes, keepdim=keepdims))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_local_response_norm_is_onnxs_with_channels_reversed_where_the_window_is_even(size):
    x = draw_array(0, (2, 7, 3, 2))
    theirs = np.empty(x.shape)
    for c in range(7):
        # The operator's definition; the package's own reference leaves the last channel out.
        first, last = max(0, c - (size - 1) // 2), min(6, c + math.ceil((size - 1) / 2))
        squares = (x[:, first : last + 1] ** 2).sum(1)
        theirs[:, c] = x[:, c] / (1.5 + 1e-2 / size * squares) ** 0.75
    order = slice(None, None, -1 if size % 2 == 0 else 1)
    ours = run("local_response_norm", x[:, order], size=size, alpha=1e-2, beta=0.75, k=1.5)
    agree(ours[:, order], theirs)
