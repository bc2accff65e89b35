"""The error bounds hold over every order of summation that was thought of, and are not vain."""

from itertools import pairwise

import numpy as np
import pytest

from refimpl.bounds import SMALLEST_NORMAL, Arithmetic, U, bounded_step, gamma, quantum
from refimpl.graph import Constant
from refimpl.layout import Layout
from refimpl.ops import OPERATORS
from refimpl.plan import Place, Plan, Schedule, Step
from refimpl.tiles import pack

ULPS = {"exp": 2.0, "expm1": 4.0, "tanh": 4.0, "sigmoid": 4.0}
FUSED, PLAIN = Arithmetic(ULPS, fused=True), Arithmetic(ULPS, fused=False)
FLUSHING = Arithmetic(ULPS, fused=False, flush=True)
f32 = np.float32


def linear_plan(weight, bias, activation=None, residual=False):
    """A Plan of one linear layer on (1, C)."""
    filters, channels = weight.shape
    tiles = pack(weight, np.ones(weight.shape, bool), [1] * filters, channels)
    places = {
        "x": Place((1, channels), Layout(1), "input"),
        "r": Place((1, filters), Layout(1), "input"),
        "y": Place((1, filters), Layout(1), "output"),
    }
    step = Step(
        "y", "conv", ("x",), (("stride", ()), ("padding", ()), ("dilation", ())), "w", "b",
        "r" if residual else "", activation, Schedule(1, 1, (1, 1), 1, channels, False),
    )  # fmt: skip
    constants = {"b": Constant(bias)}
    return Plan("one", "host", 1, ("x", "r"), ("y",), places, (step,), {"w": tiles}, constants, 0)


def element_plan(op, shapes, out, attributes=(), activation=None, constants=None):
    """A Plan of one step that is no convolution."""
    names = ["x", "z"][: len(shapes)]
    places = {
        n: Place(s, Layout(1, ((0, 0),) * (len(s) - 2)), "input")
        for n, s in zip(names, shapes, strict=True)
    }
    places["y"] = Place(out, Layout(1, ((0, 0),) * (len(out) - 2)), "output")
    weight, bias = ("scale", "shift") if constants else ("", "")
    step = Step("y", op, tuple(names), attributes, weight, bias, "", activation)
    return Plan("one", "host", 1, tuple(names), ("y",), places, (step,), {}, constants or {}, 0)


def bound_of(plan, values, machine):
    return bounded_step(plan, plan.steps[0], values, machine)


def fma(a, b, c):
    """One rounding (float64 holds a product of two float32 exactly; its sum is close enough)."""
    return f32(np.float64(a) * np.float64(b) + np.float64(c))


def sequential(w, x, b, fused):
    total = b
    for wi, xi in zip(w, x, strict=True):
        total = fma(wi, xi, total) if fused else f32(total + f32(wi * xi))
    return total


def pairwise_sum(w, x, b, fused):
    terms = [f32(wi * xi) for wi, xi in zip(w, x, strict=True)] + [b]
    while len(terms) > 1:
        odd = [terms.pop()] if len(terms) % 2 else []
        terms = [f32(p + q) for p, q in zip(terms[::2], terms[1::2], strict=True)] + odd
    return terms[0]


def blocked(w, x, b, fused):
    """Blocks of 8 that each begin at the sum so far, walked backwards."""
    total = b
    for start in range(0, len(w), 8):
        part = total
        for i in reversed(range(start, min(start + 8, len(w)))):
            part = fma(w[i], x[i], part) if fused else f32(part + f32(w[i] * x[i]))
        total = part
    return total


def strided(w, x, b, fused):
    """Four partial sums, added at the end; at least two terms each, so fused meets its n."""
    parts = [sequential(w[i::4], x[i::4], f32(0), fused) for i in range(min(4, len(w)))]
    total = b
    for part in parts:
        total = f32(total + part)
    return total


ORDERS = (sequential, pairwise_sum, blocked, strided)


def draw(rng, n, kind):
    """Weights and inputs: tame, of wildly different size, cancelling, or near underflow."""
    w, x = rng.standard_normal(n), rng.standard_normal(n)
    if kind == "wild":
        w, x = w * 10.0 ** rng.integers(-18, 18, n), x * 10.0 ** rng.integers(-18, 18, n)
    if kind == "cancelling":
        half = n // 2
        w[half : 2 * half], x[half : 2 * half] = -w[:half], x[:half] * (1 + 1e-7)
    if kind == "tiny":
        w, x = w * 1e-22, x * 1e-22
    return w.astype(f32), x.astype(f32)


@pytest.mark.parametrize("kind", ["tame", "wild", "cancelling", "tiny"])
@pytest.mark.parametrize("order", ORDERS)
def test_no_order_of_summation_exceeds_the_bound(order, kind):
    rng = np.random.default_rng(len(kind))
    used = 0.0
    for n in (1, 2, 3, 7, 8, 9, 31, 64, 255):
        for _ in range(8):
            w, x = draw(rng, n, kind)
            b = f32(rng.standard_normal() * (1e-43 if kind == "tiny" else 1))
            plan = linear_plan(w[None], np.array([b]))
            for fused, machine in ((False, PLAIN), (True, FUSED)):
                # Only sums that begin as the bias may claim one rounding less.
                sharp = machine if order in (sequential, blocked) else PLAIN
                exact, bound = bound_of(plan, {"x": x[None]}, sharp)
                with np.errstate(all="ignore"):
                    error = abs(np.float64(order(w, x, b, fused)) - exact[0, 0])
                if np.isfinite(bound[0, 0]):
                    assert error <= bound[0, 0] * (1 + 1e-9), (n, fused)
                    used = max(used, error / max(bound[0, 0], 1e-300))
    assert used > 0.01, "the bound is vain"


def test_the_bound_is_met_to_a_third_where_roundings_conspire():
    """1 + many halves of its last place: sequential summation loses every one of them."""
    n = 64
    w, x = np.full(n, U, f32), np.ones(n, f32)
    plan = linear_plan(w[None], np.ones(1, f32))
    exact, bound = bound_of(plan, {"x": x[None] * f32(1 - U)}, FUSED)
    error = abs(float(sequential(w, x * f32(1 - U), f32(1), True)) - exact[0, 0])
    assert 0.33 * bound[0, 0] < error <= bound[0, 0]


def test_a_dropped_term_hides_under_the_bound_and_not_in_the_exact_class():
    """Why there are two classes of cases: at long reductions a bound is too kind."""
    rng = np.random.default_rng(0)
    n = 10_000
    w, x = rng.standard_normal((1, n)).astype(f32), rng.standard_normal((1, n)).astype(f32)
    w[0, n // 2] = x[0, n // 2] = 0.5
    plan = linear_plan(w, np.zeros(1, f32))
    _, bound = bound_of(plan, {"x": x}, FUSED)
    assert bound[0, 0] > 0.25, "the dropped product, 0.25, passes"
    w, x = np.rint(4 * w), np.rint(4 * x)
    assert w[0, n // 2] * x[0, n // 2] == 4
    plan = linear_plan(w.astype(f32), np.zeros(1, f32))
    assert bound_of(plan, {"x": x}, FUSED)[1][0, 0] == 0, "integers: nothing passes"


def test_integers_are_exact_until_a_partial_sum_may_pass_2_to_24():
    for scale in (1.0, 2.0**-20, 2.0**60):
        w = np.array([[3, -5, 7]], f32) * f32(scale)
        plan = linear_plan(w, np.ones(1, f32) * f32(scale), ("relu", ()), residual=True)
        x = np.array([[1000.0, 2, 4]])
        values = {"x": x, "r": np.array([[scale]])}
        assert bound_of(plan, values, PLAIN)[1] == 0
        values["x"] = x * 10_000
        assert bound_of(plan, values, PLAIN)[1] > 0
        values["x"], values["r"] = x, np.array([[scale * (1 + 2.0**-23)]])
        assert bound_of(plan, values, PLAIN)[1] > 0


def test_quantum():
    assert quantum(np.array([3.0, 6.0, -12.0])) == 1
    assert quantum(np.array([0.0, 0.75, np.inf, np.nan])) == 0.25
    assert quantum(np.zeros(3)) == np.inf
    assert quantum(np.array([2.0**-149])) == 2.0**-149


def test_what_may_overflow_is_not_judged_and_non_finite_inputs_are_left_out():
    plan = linear_plan(np.array([[1e30, 1e30]], f32), np.zeros(1, f32))
    assert np.isfinite(bound_of(plan, {"x": np.array([[1e8, 1e8]])}, PLAIN)[1])
    assert bound_of(plan, {"x": np.array([[1e9, -1e9]])}, PLAIN)[1] == np.inf
    exact, bound = bound_of(plan, {"x": np.array([[np.inf, 1.0]])}, PLAIN)
    assert exact == np.inf
    assert np.isfinite(bound)


def test_flushing_widens_the_bound_by_what_it_may_lose():
    w, x = np.array([[1e-30, 1.0]], f32), np.array([[1e-9, 1e-39]])
    plan = linear_plan(w, np.zeros(1, f32))
    exact, bound = bound_of(plan, {"x": x}, FLUSHING)
    assert abs(0.0 - exact[0, 0]) <= bound[0, 0] <= 20 * SMALLEST_NORMAL
    assert bound_of(plan, {"x": x}, PLAIN)[1] < 1e-44


def ulped(rng, y, ulps):
    """y rounded to float32 and moved by up to `ulps` units in the last place."""
    near = y.astype(f32)
    steps = rng.integers(-ulps, ulps + 1, near.shape)
    return near + steps.astype(f32) * np.spacing(near) * f32(0.5)


def in_float32(rng, name, numbers, s):
    """An activation as it is compiled, its primitives as wrong as they may be."""
    one, zero = f32(1), f32(0)
    number = [f32(a) for a in numbers]
    exact = s.astype(np.float64)
    sigmoid = ulped(rng, 1 / (1 + np.exp(-exact)), 6)
    ramp = np.minimum(np.maximum(s * f32(1 / 6) + f32(0.5), zero), one)
    match name:
        case "relu":
            return np.maximum(s, zero)
        case "clamp":
            return np.minimum(np.maximum(s, number[0]), number[1])
        case "leaky_relu":
            return np.maximum(s, zero) + np.minimum(s, zero) * number[0]
        case "elu":
            below = ulped(rng, np.expm1(np.minimum(exact, 0)), 6)
            return np.maximum(s, zero) + below * number[0]
        case "sigmoid":
            return sigmoid
        case "tanh":
            return ulped(rng, np.tanh(exact), 6)
        case "hardsigmoid":
            return ramp
        case "silu":
            return s * sigmoid
    return s * ramp


@pytest.mark.parametrize(
    ("name", "numbers"),
    [("relu", ()), ("clamp", (-0.1, 6.3)), ("leaky_relu", (0.01,)), ("leaky_relu", (1.7,)),
     ("elu", (1.0,)), ("elu", (2.3,)), ("sigmoid", ()), ("tanh", ()), ("hardsigmoid", ()),
     ("silu", ()), ("hardswish", ())],
)  # fmt: skip
def test_an_activation_carries_the_error_of_what_goes_in(name, numbers):
    rng = np.random.default_rng(1)
    s = np.concatenate([rng.standard_normal(4000) * 4, rng.standard_normal(500) * 60,
                        rng.standard_normal(500) * 1e-30, [0.0, 3, -3, 6, -104, 88]])  # fmt: skip
    w = rng.standard_normal((s.size, 1)).astype(f32)
    plan = linear_plan(w, s.astype(f32), (name, numbers))
    x = np.array([[0.001]])
    exact, bound = bound_of(plan, {"x": x.astype(f32)}, PLAIN)
    with np.errstate(all="ignore"):
        computed = in_float32(rng, name, numbers, s.astype(f32) + w[:, 0] * f32(0.001))
    assert (np.abs(computed - exact[0]) <= bound[0] * (1 + 1e-9)).all()
    assert np.isfinite(bound).all()


def test_the_sign_of_a_computed_zero_is_not_judged_by_its_reciprocal():
    w = np.array([[1.0, -1.0]], f32)
    plan = linear_plan(w, np.zeros(1, f32), ("reciprocal", ()))
    assert bound_of(plan, {"x": np.array([[2.0, 2.0]])}, PLAIN)[1] == np.inf
    assert bound_of(plan, {"x": np.array([[2.0, 3.0]])}, PLAIN)[1] < 1e-6
    alone = element_plan("activation", [(1, 1)], (1, 1), activation=("reciprocal", ()))
    exact, bound = bound_of(alone, {"x": np.array([[-0.0]])}, PLAIN)
    assert exact == -np.inf
    assert bound == 0


def test_what_is_no_activation_has_no_error_model():
    assert "softmax" in OPERATORS
    plan = linear_plan(np.ones((1, 1), f32), np.zeros(1, f32), ("softmax", (1,)))
    with pytest.raises(KeyError):
        bound_of(plan, {"x": np.ones((1, 1))}, PLAIN)


def test_average_pooling():
    rng = np.random.default_rng(2)
    x = (rng.standard_normal((1, 3, 7, 9)) * 10.0 ** rng.integers(-6, 6, (1, 3, 7, 9))).astype(f32)
    attributes = (("ceil_mode", False), ("count_include_pad", False), ("kernel", (3, 5)),
                  ("padding", ((0, 0), (0, 0))), ("stride", (1, 1)))  # fmt: skip
    plan = element_plan("avg_pool", [x.shape], (1, 3, 5, 5), attributes)
    exact, bound = bound_of(plan, {"x": x}, PLAIN)
    total = np.zeros(exact.shape, f32)
    for i, j in np.ndindex(3, 5):
        total += x[:, :, i : i + 5, j : j + 5]
    assert (np.abs(total / f32(15) - exact) <= bound).all()
    whole = bound_of(plan, {"x": np.rint(x)}, PLAIN)
    assert (whole[1] <= 1.01 * U * np.abs(whole[0]).max() + 1e-5 * np.abs(x).mean()).all()


def test_affine_softmax_and_pairs():
    rng = np.random.default_rng(3)
    for _ in range(30):
        x, z = (rng.standard_normal((2, 33)).astype(f32) * f32(30) for _ in range(2))
        scale, shift = (rng.standard_normal(33).astype(f32) for _ in range(2))
        constants = {"scale": Constant(scale), "shift": Constant(shift)}
        plan = element_plan("affine", [x.shape], x.shape, constants=constants)
        exact, bound = bound_of(plan, {"x": x}, PLAIN)
        assert (np.abs((x * scale + shift) - exact) <= bound).all()
        plan = element_plan("softmax", [x.shape], x.shape, (("axis", 1),))
        exact, bound = bound_of(plan, {"x": x}, PLAIN)
        e = ulped(rng, np.exp((x - x.max(1, keepdims=True)).astype(np.float64)), 2)
        assert (np.abs(e / e.sum(1, keepdims=True, dtype=f32) - exact) <= bound).all()
        for op, function in (("add", np.add), ("sub", np.subtract), ("mul", np.multiply)):
            plan = element_plan(op, [x.shape] * 2, x.shape)
            exact, bound = bound_of(plan, {"x": x, "z": z}, PLAIN)
            assert (np.abs(function(x, z) - exact) <= bound).all()


def test_softmax_of_what_is_not_finite_keeps_a_usable_bound():
    x = np.array([[0.0, -np.inf, 3e38, -3e38], [0.0, 1.0, -np.inf, 2.0]])
    plan = element_plan("softmax", [x.shape], x.shape, (("axis", 1),))
    exact, bound = bound_of(plan, {"x": x}, PLAIN)
    assert (exact[0] == [0, 0, 1, 0]).all()
    assert np.isfinite(bound).all()


def test_gamma_grows_and_ends():
    values = gamma(np.array([0, 1, 100, 1e6]))
    assert all(a < b for a, b in pairwise(values))
    assert gamma(2.0**24) == np.inf
