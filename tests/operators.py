"""What the tests of operators share: values to compute on, and how results are compared."""

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st

from refimpl.ops import OPERATORS

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


NEGATIVE = [-np.inf, -1e30, -50.0, -6.0, -3.0, -1.0, -1e-9, -0.0]
POSITIVE = [0.0, 1e-300, 0.5, 1.0, 3.0, 6.0, 7.0, 800.0, np.inf]
POINTS = np.array([*NEGATIVE, *POSITIVE, np.nan])


WINDOW2 = {"stride": (2, 1), "padding": ((1, 0), (0, 2))}
POOL2 = {**WINDOW2, "kernel": (2, 3), "ceil_mode": True}
OVER = {"axes": (1, 2), "keepdims": False}
LAYER = [(5, 2, 3), (4, 3), (4, 4), (4,), (4,), (2, 4)]
GRU = [(5, 2, 3), (12, 3), (12, 4), (12,), (12,), (2, 4)]
LSTM = [(5, 2, 3), (16, 3), (16, 4), (16,), (16,), (2, 4), (2, 4)]

EXAMPLES = {
    "conv": ([(2, 4, 5, 3), (6, 2, 3, 1), (6,)], {**WINDOW2, "dilation": (1, 2), "groups": 2}),
    "linear": ([(2, 5, 3), (7, 3)], {}),
    "conv_transpose": (
        [(2, 4, 5, 3), (4, 3, 3, 1), (6,)],
        {**WINDOW2, "output_padding": (1, 0), "dilation": (1, 2), "groups": 2},
    ),
    "winograd_conv": (
        [(2, 4, 5, 3), (6, 4, 4, 4), (6,)],
        {"outputs": (2, 3), "padding": ((1, 0), (0, 1))},
    ),
    "matmul": ([(3, 1, 5, 2), (4, 2, 7)], {}),
    "rnn": (LAYER, {"activation": "relu", "reverse": True}),
    "gru": (GRU, {"linear_before_reset": False, "reverse": False}),
    "lstm": (LSTM, {"reverse": True}),
    "embedding": ([(2, 3), (5, 7)], {}),
    "max_pool": ([(2, 3, 7, 5)], {**POOL2, "dilation": (1, 2), "padding": ((1, 0), (0, 1))}),
    "avg_pool": ([(2, 3, 7, 5)], {**POOL2, "count_include_pad": True}),
    "adaptive_avg_pool": ([(2, 3, 7, 5)], {"output": (3, 6)}),
    "adaptive_max_pool": ([(2, 3, 7, 5)], {"output": (3, 6)}),
    "batch_norm": ([(2, 3, 5), (3,), (3,), (3,), (3,)], {"eps": 1e-5}),
    "layer_norm": ([(2, 3, 5), (3, 5), (3, 5)], {"eps": 1e-5}),
    "group_norm": ([(2, 6, 5), (6,), (6,)], {"groups": 3, "eps": 1e-5}),
    "rms_norm": ([(2, 3, 5), (5,)], {"eps": 1e-5}),
    "local_response_norm": ([(2, 7, 3)], {"size": 4, "alpha": 1e-4, "beta": 0.75, "k": 1.0}),
    "gelu": ([(2, 3)], {"approximate": "tanh"}),
    "clamp": ([(2, 3)], {"lo": -float("inf"), "hi": 6.0}),
    "leaky_relu": ([(2, 3)], {"slope": 0.01}),
    "elu": ([(2, 3)], {"alpha": 1.0}),
    "celu": ([(2, 3)], {"alpha": 0.5}),
    "softplus": ([(2, 3)], {"beta": 2.0}),
    "prelu": ([(2, 3, 5), (3, 1)], {}),
    "softmax": ([(2, 3, 5)], {"axis": 1}),
    "log_softmax": ([(2, 3, 5)], {"axis": 2}),
    **{name: ([(2, 3, 5)], OVER) for name in ("mean", "sum", "max", "min")},
    **{name: ([(2, 1, 5), (3, 1)], {}) for name in ("add", "sub", "mul", "div")},
    **{name: ([(2, 1, 5), ()], {}) for name in ("maximum", "minimum")},
    "concat": ([(2, 3), (2, 1), (2, 5)], {"axis": 1}),
    "reshape": ([(2, 3)], {"shape": (3, 1, 2)}),
    "flatten": ([(2, 3, 5)], {"start": 0, "end": 1}),
    "transpose": ([(2, 3, 5)], {"order": (2, 0, 1)}),
    "slice": ([(2, 7)], {"axis": 1, "start": 6, "step": -3, "size": 3}),
    "pad": ([(2, 3)], {"padding": ((0, 0), (2, 1)), "mode": "reflect", "value": 0.0}),
    "expand": ([(3, 1)], {"shape": (2, 3, 5)}),
    "take": ([(2, 3)], {"axis": 1, "indices": (2, 0, 0, 1)}),
    "upsample": (
        [(2, 3, 5)],
        {"output": (7,), "ratio": (5 / 7,), "mode": "linear", "coordinates": "half_pixel"},
    ),
    **{
        name: ([(2, 3, 5)], {})
        for name in OPERATORS
        if not OPERATORS[name].attributes and OPERATORS[name].arity == (1, 1)
    },
}
"""The shapes of the inputs and the attributes of one legal node of every operator."""
