"""The model of floating point itself: formats, single operations, half precision."""

import numpy as np
import pytest
from one_step import PLAIN, SUMS, ULPS, f32, within

from refimpl.bounds import FLOAT16, FLOAT32, Arithmetic
from refimpl.bounds.arithmetic import Near, known
from refimpl.bounds.contractions import matmul

HALF = Arithmetic(ULPS, fused=False, format=FLOAT16)
HALF_FUSED = Arithmetic(ULPS, fused=True, format=FLOAT16)
f16 = np.float16


@pytest.fixture(autouse=True)
def _quiet():
    with np.errstate(all="ignore"):
        yield


@pytest.mark.parametrize(("form", "dtype"), [(FLOAT32, f32), (FLOAT16, f16)])
def test_formats_are_those_of_numpy(form, dtype):
    info = np.finfo(dtype)
    assert form.unit == info.eps / 2
    assert form.smallest_normal == info.smallest_normal
    assert form.smallest == info.smallest_subnormal
    assert form.largest == info.max
    rng = np.random.default_rng(0)
    x = rng.standard_normal(20_000) * 2.0 ** rng.integers(-170, 140, 20_000)
    x = np.concatenate([x, [0.0, np.inf, -np.inf, form.largest, form.largest * (1 + form.unit / 4),
                            form.largest * (1 + form.unit), form.smallest / 2]])  # fmt: skip
    assert np.array_equal(form.round(x), x.astype(dtype).astype(np.float64))
    assert np.isnan(form.round(np.array([np.nan]))).all()


def operands(rng, size, *, positive=False):
    """float32 numbers that were to be others, which is known up to their error."""
    x = rng.standard_normal(size) * 10.0 ** rng.integers(-9, 9, size)
    x = np.abs(x) if positive else x
    held = x.astype(f32)
    error = np.abs(x) * rng.choice([0, 1e-7, 1e-3, 2], size)
    # The machine's number is `held`; the exact one is somewhere within the error of it.
    exact = held + error * rng.uniform(-1, 1, size)
    return held, Near(np.maximum(exact, 0) if positive else exact, error)


TWO = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide}
ONE = {"exp": np.exp, "log": np.log, "sqrt": np.sqrt}


@pytest.mark.parametrize("name", TWO)
def test_errors_pass_through_operations_on_two(name):
    rng = np.random.default_rng(1)
    (a, near_a), (b, near_b) = (operands(rng, 20_000) for _ in range(2))
    y = getattr(PLAIN, name)(near_a, near_b)
    assert within(TWO[name](a, b), y.exact, y.error * (1 + 1e-12)) > 0.5
    assert np.isfinite(y.error).mean() > 0.6


@pytest.mark.parametrize("name", ONE)
def test_errors_pass_through_functions(name):
    rng = np.random.default_rng(2)
    a, near = operands(rng, 20_000, positive=True)
    y = getattr(PLAIN, name)(near)
    computed = ONE[name](np.float64(a)).astype(f32)
    assert within(computed, y.exact, y.error * (1 + 1e-12)) > 0.3
    assert np.isfinite(y.error).mean() > 0.4


def test_errors_pass_through_sums():
    rng = np.random.default_rng(3)
    a, near = operands(rng, (500, 31))
    y = PLAIN.total(near, 1)
    for order in SUMS:
        within(order(a)[:, None], y.exact, y.error)


def test_what_is_not_finite_keeps_its_value_unless_the_machine_may_hold_another():
    inf, two = known(np.inf), known(2.0)
    zero, near_zero = known(0.0), Near(np.array(0.0), np.array(1e-30))
    assert PLAIN.mul(inf, two).error == 0
    assert PLAIN.mul(inf, zero).error == 0, "NaN either way"
    assert PLAIN.mul(inf, near_zero).error == np.inf, "NaN, or infinity of either sign"
    assert PLAIN.div(two, inf).error == 0
    assert PLAIN.div(two, zero).error == 0
    assert PLAIN.div(two, near_zero).error == np.inf
    assert PLAIN.div(near_zero, zero).error == np.inf
    assert PLAIN.sub(inf, inf).error == 0
    past = Near(np.array(1.0), np.array(np.inf))
    assert PLAIN.mul(past, inf).error == np.inf
    assert PLAIN.add(known(3e38), known(3e38)).error == np.inf


@pytest.mark.parametrize("order", SUMS)
@pytest.mark.parametrize("scale", [1.0, 1e-4, 30.0])
def test_sums_and_products_in_half_precision(order, scale):
    rng = np.random.default_rng(4)
    used = 0.0
    for _ in range(30):
        x = (rng.standard_normal((5, 64)) * scale).astype(f16)
        y = HALF.total(known(x), 1)
        used = max(used, within(order(x)[:, None], y.exact, y.error))
        w = rng.standard_normal((64, 3)).astype(f16)
        exact = np.float64(x) @ np.float64(w)
        terms = x[:, None, :] * w.T[None]
        within(order(terms), exact, matmul(np.float64(x), np.float64(w), HALF))
        total = np.zeros((5, 3), f16)
        for k in range(64):
            product = np.float64(x[:, k, None]) * np.float64(w[k])
            total = (product + total).astype(f16)
        within(total, exact, matmul(np.float64(x), np.float64(w), HALF_FUSED))
    assert used > 0.004


def test_half_precision_is_exact_to_2048_and_overflows_past_65504():
    assert HALF.total(known(np.full((1, 1), 2048.0)), 1).error == 0
    assert HALF.total(known(np.full((1, 2), 1024.0)), 1).error == 0
    assert HALF.total(known(np.array([[2047.0, 2.0]])), 1).error > 0
    assert HALF.total(known(np.full((1, 40), 2000.0)), 1).error == np.inf
    tiny = known(np.array([2.0**-24, 3 * 2.0**-24]))
    assert (HALF.add(tiny, tiny).error == 0).all(), "denormals are numbers"
    flushing = Arithmetic(ULPS, fused=False, flush=True, format=FLOAT16)
    assert (flushing.add(tiny, tiny).error >= 2.0**-14).all()
