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
