"""Activations mean what they should, and no float32 computation of one leaves its range."""

import math

import numpy as np
import pytest
from kernel_runs import Case, check_everywhere, check_opencl

from jit.devices import open_device
from jit.kernels.activation import ATTRIBUTES, activate
from jit.kernels.plain import MapKernel
from jit.primitives import PRIMITIVES
from jit.program import Const, Load
from jit.session import DeviceError
from refimpl.bounds import SMALLEST_NORMAL, Arithmetic, U
from refimpl.bounds.activations import Range, activation_range
from refimpl.ops.activations import SELU_ALPHA, SELU_SCALE

f32 = np.float32
ULPS = {name: row.ulp for name, row in PRIMITIVES.items()}
ROUNDED = {name for name, row in PRIMITIVES.items() if row.ulp <= 0.5}
erf = np.vectorize(math.erf, otypes=[float])


def softplus(x, beta=1.0):
    return np.logaddexp(0, beta * x) / beta


def elu(x, alpha):
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def gelu_tanh(x):
    return x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


MEANINGS = {
    ("relu", ()): lambda x: np.maximum(x, 0),
    ("clamp", (-0.1, 6.3)): lambda x: np.clip(x, -0.1, 6.3),
    ("leaky_relu", (0.01,)): lambda x: np.where(x > 0, x, 0.01 * x),
    ("leaky_relu", (-1.7,)): lambda x: np.where(x > 0, x, -1.7 * x),
    ("elu", (2.3,)): lambda x: elu(x, 2.3),
    ("sigmoid", ()): lambda x: 1 / (1 + np.exp(-x)),
    ("hardsigmoid", ()): lambda x: np.clip(x + 3, 0, 6) / 6,
    ("tanh", ()): np.tanh,
    ("silu", ()): lambda x: x / (1 + np.exp(-x)),
    ("hardswish", ()): lambda x: x * np.clip(x + 3, 0, 6) / 6,
    ("gelu", ("none",)): lambda x: x / 2 * (1 + erf(x / math.sqrt(2))),
    ("gelu", ("tanh",)): gelu_tanh,
    ("selu", ()): lambda x: SELU_SCALE * elu(x, SELU_ALPHA),
    ("celu", (0.7,)): lambda x: np.where(x > 0, x, 0.7 * np.expm1(np.minimum(x, 0) / 0.7)),
    ("softplus", (1.0,)): softplus,
    ("softplus", (2.5,)): lambda x: softplus(x, 2.5),
    ("softsign", ()): lambda x: x / (1 + np.abs(x)),
    ("mish", ()): lambda x: x * np.tanh(softplus(x)),
    ("abs", ()): np.abs,
    ("neg", ()): np.negative,
    ("exp", ()): np.exp,
    ("log", ()): np.log,
    ("sqrt", ()): np.sqrt,
    ("reciprocal", ()): lambda x: 1 / x,
    ("erf", ()): erf,
}
POSITIVE = ("log", "sqrt")


def inputs(name, rng):
    """float32 of every size, and where the functions turn; the domain of the activation."""
    s = np.concatenate([rng.standard_normal(2000) * 4, rng.standard_normal(500) * 60,
                        rng.standard_normal(500) * 10.0 ** rng.integers(-42, 12, 500),
                        [1, 3, -3, 6, -6, -104, 88, 1e-45, -1e-40, 3e38, -3e38]])  # fmt: skip
    s = s.astype(f32)
    return np.abs(s) + f32(1e-44) if name in POSITIVE else s


def in_float32(value, x, rng, *, flush=False):
    """A value of a Program in float32, its primitives as wrong as they may be."""

    def kept(y):
        return np.where(np.abs(y) < f32(SMALLEST_NORMAL), f32(0), y) if flush else y

    def visit(v):
        match v:
            case Const(number):
                return np.broadcast_to(f32(number), x.shape)
            case Load():
                return kept(x)
        args = [kept(visit(a)) for a in v.args]
        row = PRIMITIVES[v.primitive]
        if v.primitive in ROUNDED:
            return kept(row.meaning(*args))
        exact = row.meaning(*(a.astype(np.float64) for a in args))
        near = exact.astype(f32)
        step = rng.uniform(-1, 1, x.shape) * (row.ulp - 0.5) * np.spacing(np.abs(near))
        away = np.where(np.abs(exact) < SMALLEST_NORMAL, exact, exact + step)
        return kept(np.where(np.isfinite(away), away, exact).astype(f32))

    return visit(value)


@pytest.mark.parametrize("activation", MEANINGS, ids=str)
def test_the_expression_means_the_activation(activation):
    rng = np.random.default_rng(0)
    x = inputs(activation[0], rng).astype(np.float64)
    x = x[np.abs(x) < 1e3]

    def visit(v):
        match v:
            case Const(number):
                return number
            case Load():
                return x
        return PRIMITIVES[v.primitive].meaning(*map(visit, v.args))

    found = visit(activate(activation, Load("x", ())))
    with np.errstate(all="ignore"):
        wanted = MEANINGS[activation](x)
    np.testing.assert_allclose(found, wanted, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("flush", [False, True])
@pytest.mark.parametrize("error", [0.0, 1e-6, 0.3])
@pytest.mark.parametrize("activation", MEANINGS, ids=str)
def test_no_computation_leaves_the_range(activation, error, flush):
    rng = np.random.default_rng(1)
    exact = inputs(activation[0], rng)
    given = exact.astype(np.float64)
    wrong = rng.uniform(-1, 1, given.size) * error
    moved = (given + wrong).astype(f32) if error else exact
    distance = np.abs(moved.astype(np.float64) - given)
    machine = Arithmetic(ULPS, fused=False, flush=flush)
    found = activation_range(activation, Range(given - distance, given + distance), machine)
    with np.errstate(all="ignore"):
        computed = in_float32(activate(activation, Load("x", ())), moved, rng, flush=flush)
        assert (np.isnan(computed) | (found.lo <= computed)).all()
        assert (np.isnan(computed) | (computed <= found.hi)).all()


@pytest.mark.parametrize("activation", MEANINGS, ids=str)
def test_the_range_is_not_vain(activation):
    """A few roundings of the largest number on the way, no more."""
    x = np.random.default_rng(2).uniform(0.1, 6, 3000)
    x = x if activation[0] in POSITIVE else np.concatenate([x, -x])
    found = activation_range(activation, Range(x, x), Arithmetic(ULPS, fused=False))
    wanted = MEANINGS[activation](x)
    assert (found.hi - found.lo <= 40 * U * np.maximum(np.abs(wanted), 1 + np.abs(x))).all()


def test_every_activation_of_the_compiler_has_a_range():
    assert {name for name, _ in MEANINGS} == set(ATTRIBUTES)


def test_the_range_of_what_is_no_activation_is_refused():
    with pytest.raises(KeyError):
        activation_range(("swoosh", ()), Range(np.zeros(1), np.zeros(1)), Arithmetic(ULPS, True))


def code_case(activation):
    """The activation as a kernel, on a few values of either sign."""
    x = np.random.default_rng(3).uniform(0.01, 5, 8).astype(f32)
    x = x if activation[0] in POSITIVE else np.concatenate([x, -x])
    y = MEANINGS[activation](x.astype(np.float64))
    params = {"E0": x.size, "X0": 1, "Y0": 1}
    return Case(MapKernel(1, "copy", activation, lanes=4), params, {"x": x}, {"y": y})


@pytest.mark.parametrize("activation", MEANINGS, ids=str)
def test_the_code_computes_it(activation):
    check_everywhere(code_case(activation), tolerance=2e-6)


def test_the_grid_computes_every_one():
    try:
        session = open_device("opencl")
    except DeviceError as error:
        pytest.skip(str(error))
    with session:
        for activation in MEANINGS:
            check_opencl(code_case(activation), session, tolerance=2e-6)
