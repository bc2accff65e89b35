"""Bounds of what is no convolution: over every order that was thought of, and not in vain."""

import numpy as np
import pytest
from one_step import FLUSHING, FUSED, KINDS, PLAIN, SUMS, drawn, f32, one_step, ulped, within

from refimpl.bounds import U

orders = pytest.mark.parametrize("order", SUMS)
kinds = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(autouse=True)
def _quiet():
    with np.errstate(all="ignore"):
        yield


def draws(kind, *shapes, times=5):
    rng = np.random.default_rng(sum(map(ord, kind)))
    for _ in range(times):
        yield rng, *(drawn(rng, shape, kind) for shape in shapes)


# -- elementwise -------------------------------------------------------------------------------

PAIRS = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide,
         "maximum": np.maximum, "minimum": np.minimum}  # fmt: skip


@kinds
@pytest.mark.parametrize("op", PAIRS)
@pytest.mark.parametrize(
    "shapes", [((3, 5, 7), (3, 5, 7)), ((2, 5, 1, 3), (5, 4, 1)), ((4, 1), (7,))]
)
def test_pairs_under_broadcasting(op, shapes, kind):
    for _, a, b in draws(kind, *shapes):
        share = within(PAIRS[op](a, b), *one_step(op, [a, b]))
        assert share <= 1
        if op in ("maximum", "minimum"):
            assert (one_step(op, [a, b])[1] == 0).all()


@pytest.mark.parametrize("op", PAIRS)
def test_pairs_are_exact_where_the_result_is_a_float32(op):
    rng = np.random.default_rng(0)
    a = rng.integers(-4000, 4001, (3, 50)).astype(f32)
    b = 2.0 ** rng.integers(-9, 10, (3, 50)).astype(f32)
    assert (one_step(op, [a, b])[1] == 0).all()


@pytest.mark.parametrize("op", PAIRS)
def test_pairs_of_what_is_not_finite(op):
    ends = np.array([0.0, -0.0, 1.0, -2.0, np.inf, -np.inf, np.nan, 3e38, 1e-45], f32)
    a, b = np.meshgrid(ends, ends)
    exact, bound = one_step(op, [a, b])
    within(PAIRS[op](a, b), exact, bound)
    # Unjudged is only what may be infinite in one and finite in the other.
    assert (np.abs(exact[np.isinf(bound)]) >= 3e38).all()


def test_flushing_may_turn_a_denormal_operand_or_result_to_0():
    tiny, rng = f32(2.0**-126), np.random.default_rng(0)

    def flush(x):
        return np.where(np.abs(x) < tiny, f32(0), x)

    a, b = (drawn(rng, (400,), "wild") * f32(1e-28) for _ in range(2))
    for op, function in PAIRS.items():
        if op != "div":
            within(flush(function(flush(a), flush(b))), *one_step(op, [a, b], FLUSHING))
    assert (one_step("div", [a, b], FLUSHING)[1][np.abs(b) < tiny] == np.inf).all()


@kinds
def test_prelu(kind):
    for _, x, slope in draws(kind, (2, 5, 3), (5, 1)):
        below = np.minimum(x, f32(0)) * slope
        exact, bound = one_step("prelu", [x, slope])
        within(np.maximum(x, f32(0)) + below, exact, bound)
        assert (bound[x > 0] == 0).all()
    ends = np.array([0.0, 1, -1, np.inf, -np.inf, np.nan], f32)
    x, slope = np.meshgrid(ends, ends)
    y = np.maximum(x, f32(0)) + np.minimum(x, f32(0)) * slope
    within(y, *one_step("prelu", [x, slope]))


# -- movement ----------------------------------------------------------------------------------

MOVES = [
    ("reshape", {"shape": (5, 6)}), ("transpose", {"order": (2, 0, 1)}),
    ("slice", {"axis": 1, "start": 2, "step": -1, "size": 3}), ("expand", {"shape": (4, 2, 3, 5)}),
    ("take", {"axis": 2, "indices": (4, 0, 0)}), ("max", {"axes": (1,), "keepdims": False}),
    ("min", {"axes": (0, 2), "keepdims": True}),
    ("pad", {"padding": ((0, 1), (2, 0), (0, 0)), "mode": "constant", "value": 0.5}),
    ("pad", {"padding": ((0, 1), (2, 0), (3, 1)), "mode": "reflect", "value": 0.0}),
    ("upsample", {"output": (7,), "ratio": (5 / 7,), "mode": "nearest",
                  "coordinates": "half_pixel"}),
    ("upsample", {"output": (5,), "ratio": (1.0,), "mode": "linear",
                  "coordinates": "half_pixel"}),
]  # fmt: skip


@pytest.mark.parametrize(("op", "attributes"), MOVES)
def test_what_moves_or_chooses_is_exact(op, attributes):
    x = drawn(np.random.default_rng(0), (2, 3, 5), "wild")
    assert (one_step(op, [x], **attributes)[1] == 0).all()


def test_concat_is_exact():
    a, b = np.ones((2, 3), f32), np.full((2, 1), 0.1, f32)
    assert (one_step("concat", [a, b], axis=1)[1] == 0).all()


def test_padding_errs_by_the_rounding_of_its_value():
    x = np.ones((2, 2), f32)
    exact, bound = one_step("pad", [x], padding=((1, 0), (0, 1)), mode="constant", value=0.1)
    within(np.pad(x, ((1, 0), (0, 1)), constant_values=f32(0.1)), exact, bound)
    assert (bound[exact == 1] == 0).all()
    infinite = one_step("pad", [x], padding=((1, 0), (0, 1)), mode="constant", value=-np.inf)
    assert (infinite[1] == 0).all()


# -- resampling --------------------------------------------------------------------------------


def blended(x, fused, output, ratio, half):
    """Linear resampling of the last axis, in float32."""
    p = (np.arange(output) + 0.5) * ratio - 0.5 if half else np.arange(output) * ratio
    lo = np.floor(p).astype(int)
    w1 = (p - lo).astype(f32)
    w0 = (1 - (p - lo)).astype(f32)
    a, b = (x[..., np.clip(lo + i, 0, x.shape[-1] - 1)] for i in (0, 1))
    if fused:
        return (np.float64(b) * w1 + np.float64(a * w0)).astype(f32)
    return a * w0 + b * w1


@kinds
@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize(("size", "output"), [(1, 3), (2, 7), (5, 3), (4, 8)])
def test_linear_upsampling(size, output, half, kind):
    attributes = {"output": (output,), "ratio": (size / output,), "mode": "linear",
                  "coordinates": "half_pixel" if half else "asymmetric"}  # fmt: skip
    for _, x in draws(kind, (2, 3, size)):
        for fused, machine in ((False, PLAIN), (True, FUSED)):
            y = blended(x, fused, output, size / output, half)
            within(y, *one_step("upsample", [x], machine, **attributes))


def test_upsampling_of_integers_to_twice_the_size_is_exact_and_to_other_sizes_is_not():
    x = np.arange(-8, 8, dtype=f32).reshape(1, 1, 4, 4)
    same = {"mode": "linear", "coordinates": "half_pixel"}
    assert (one_step("upsample", [x], output=(4, 8), ratio=(1.0, 0.5), **same)[1] == 0).all()
    assert one_step("upsample", [x], output=(4, 7), ratio=(1.0, 4 / 7), **same)[1].any()
    x[0, 0, 1, 1] = np.inf
    one_axis = one_step("upsample", [x], output=(4, 8), ratio=(1.0, 0.5), **same)[0]
    assert np.isfinite(one_axis[:, :, [0, 2, 3]]).all(), "rows do not meet"
    with pytest.raises(KeyError, match="several axes"):
        one_step("upsample", [x], output=(7, 7), ratio=(4 / 7, 4 / 7), **same)


# -- reductions --------------------------------------------------------------------------------


@orders
@kinds
def test_sums_and_means(order, kind):
    used = 0.0
    for _, x in draws(kind, (3, 4, 31)):
        rows = x.transpose(1, 0, 2).reshape(4, -1)
        total = order(rows)
        used = max(used, within(total, *one_step("sum", [x], axes=(0, 2), keepdims=False)))
        mean = total / f32(rows.shape[1])
        within(mean, *one_step("mean", [x], axes=(0, 2), keepdims=False))
    assert used > 0.001 or kind == "denormal", "the bound is vain"


def test_sums_of_integers_are_exact_and_means_where_they_divide():
    x = np.arange(24, dtype=f32).reshape(2, 3, 4)
    assert (one_step("sum", [x], axes=(1, 2), keepdims=True)[1] == 0).all()
    assert (one_step("mean", [x * 2], axes=(2,), keepdims=True)[1] == 0).all()
    assert one_step("mean", [x], axes=(0, 1, 2), keepdims=True)[1] == 0
    assert (one_step("mean", [x], axes=(1,), keepdims=True)[1] == 0).all()
    assert one_step("mean", [x[:1, :, :1] + [[[0], [0], [2]]]], axes=(1,), keepdims=True)[1] > 0


def test_a_sum_does_not_see_a_term_that_is_smaller_than_its_bound():
    x = drawn(np.random.default_rng(1), (1, 4000), "tame")
    exact, bound = one_step("sum", [x], axes=(1,), keepdims=False)
    x[0, 5] = 0
    missing = one_step("sum", [x], axes=(1,), keepdims=False)[0] - exact
    assert 0 < abs(missing) < bound


@orders
@kinds
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_softmax_and_its_logarithm(axis, order, kind):
    for rng, x in draws(kind, (3, 17, 5), times=3):
        rows = np.moveaxis(x, axis, -1)
        d = rows - rows.max(axis=-1, keepdims=True)
        e = ulped(rng, np.exp(np.float64(d)), "exp")
        s = order(e)[..., None]
        exact, bound = one_step("softmax", [x], axis=axis)
        within(np.moveaxis(e / s, -1, axis), exact, bound)
        assert np.isfinite(bound).all()
        y = d - ulped(rng, np.log(np.float64(s)), "log")
        within(np.moveaxis(y, -1, axis), *one_step("log_softmax", [x], axis=axis))


def test_softmax_with_infinities():
    x = np.array([[0.0, -np.inf, 3e38, -3e38], [0, np.inf, 1, 2], [0, np.nan, 1, 2]], f32)
    exact, bound = one_step("softmax", [x], axis=1)
    d = x - x.max(1, keepdims=True)
    e = np.exp(np.float64(d)).astype(f32)
    within(e / e.sum(1, keepdims=True), exact, bound)
    assert np.isfinite(bound).all()
    assert (exact[0] == [0, 0, 1, 0]).all()
    exact, bound = one_step("log_softmax", [x], axis=1)
    assert np.isinf(bound[0]).tolist() == [False, False, False, True], "-6e38 overflows"
    assert (exact[1:, :1] != exact[1:, :1]).all()


# -- normalisation -----------------------------------------------------------------------------


def normalised(x, order, eps):
    """(x - mean) * (1 / sqrt(var + eps)) over the last axis in float32, in two passes."""
    m = f32(x.shape[-1])
    d = x - (order(x) / m)[..., None]
    return d * (f32(1) / np.sqrt(order(d * d) / m + f32(eps)))[..., None]


@orders
@kinds
def test_layer_norm(order, kind):
    for _, x, gamma, beta in draws(kind, (2, 3, 4, 7), (4, 7), (4, 7)):
        z = normalised(x.reshape(2, 3, 28), order, 1e-5).reshape(x.shape)
        exact, bound = one_step("layer_norm", [x, gamma, beta], eps=1e-5)
        within(z * gamma + beta, exact, bound)
        if kind in ("tame", "cancelling"):
            assert np.isfinite(bound).all()


@orders
@kinds
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_group_norm(groups, order, kind):
    for _, x, gamma, beta in draws(kind, (2, 6, 3, 5), (6,), (6,), times=3):
        z = normalised(x.reshape(2, groups, -1), order, 1e-3).reshape(x.shape)
        each = (1, 6, 1, 1)
        y = z * gamma.reshape(each) + beta.reshape(each)
        within(y, *one_step("group_norm", [x, gamma, beta], groups=groups, eps=1e-3))


@orders
@kinds
def test_rms_norm(order, kind):
    for _, x, gamma in draws(kind, (3, 5, 13), (13,)):
        root = np.sqrt(order(x * x) / f32(13) + f32(1e-6))[..., None]
        within(x * (f32(1) / root) * gamma, *one_step("rms_norm", [x, gamma], eps=1e-6))


def test_normalising_large_numbers_that_differ_little_is_bounded_by_the_error_of_their_mean():
    """What the bound cannot see: a mean that is off by as much as its own rounding."""
    rng = np.random.default_rng(3)
    x = (1e6 + rng.standard_normal((4, 64))).astype(f32)
    ones, zeros = np.ones(64, f32), np.zeros(64, f32)
    exact, bound = one_step("layer_norm", [x, ones, zeros], eps=1e-5)
    assert (bound > 1).all()
    x64 = np.float64(x)
    d = x64 - x64.mean(1, keepdims=True) * (1 - 32 * U)
    assert (np.abs(d / np.sqrt((d * d).mean(1, keepdims=True)) - exact) < bound).all()
    near = one_step("layer_norm", [(x64 - 1e6).astype(f32), ones, zeros], eps=1e-5)
    assert near[1].max() < 1e-4


@kinds
@pytest.mark.parametrize("size", [1, 2, 5])
def test_local_response_norm(size, kind):
    attributes = {"size": size, "alpha": 0.3, "beta": 0.75, "k": 1.5}
    for rng, x in draws(kind, (2, 7, 3)):
        square = x * x
        windows = [square[:, max(0, c - size // 2) : c + -(-size // 2)] for c in range(7)]
        total = np.stack([SUMS[0](np.moveaxis(w, 1, -1)) for w in windows], axis=1)
        base = total * f32(0.3 / size) + f32(1.5)
        power = ulped(rng, np.log(np.float64(base)), "log") * f32(-0.75)
        y = x * ulped(rng, np.exp(np.float64(power)), "exp")
        exact, bound = one_step("local_response_norm", [x], **attributes)
        within(y, exact, bound)
        assert kind != "tame" or (bound < 1e-4).all()


# -- products ----------------------------------------------------------------------------------


@orders
@kinds
def test_matrix_products(order, kind):
    for _, a, b in draws(kind, (2, 1, 3, 31), (4, 31, 5)):
        terms = a[..., :, None, :] * np.swapaxes(b, -1, -2)[..., None, :, :]
        within(order(terms), *one_step("matmul", [a, b]))
        total = np.zeros((2, 4, 3, 5), f32)
        for k in range(31):
            product = np.float64(a[..., :, k, None]) * np.float64(b[..., k, None, :])
            total = (product + total).astype(f32)
        within(total, *one_step("matmul", [a, b], FUSED))


def test_matrix_products_of_integers_are_exact():
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-8, 9, shape).astype(f32) for shape in ((3, 500), (500, 2)))
    assert (one_step("matmul", [a, b])[1] == 0).all()


def dropped(x, *place):
    """x without one element."""
    y = x.copy()
    y[place] = 0
    return y


def test_what_the_bounds_cannot_see():
    """A mistake of each kind whose whole effect lies within the bound."""
    rng = np.random.default_rng(7)
    a, b = drawn(rng, (1, 3000), "tame"), drawn(rng, (3000, 1), "tame")
    a[0, 9] = b[9, 0] = 1e-3
    small = np.concatenate([drawn(rng, (1, 30), "tame"), [[-20]]], axis=1).astype(f32)
    flat = (1 + 1e-7 * drawn(rng, (1, 1, 6), "tame")).astype(f32)
    linear = {"output": (12,), "ratio": (0.5,), "mode": "linear"}
    cases = [
        ("matmul", [a, b], [dropped(a, 0, 9), b], {}, {}),
        # A channel so far below the largest that its share is less than a rounding.
        ("softmax", [small], [np.where(small == -20, f32(-30), small)], {"axis": 1}, {}),
        ("log_softmax", [small[:, :30]], [small[:, :30] + f32(1e-8)], {"axis": 1}, {}),
        # Weights of the wrong coordinates, where neighbours are alike.
        ("upsample", [flat], [flat], {**linear, "coordinates": "half_pixel"},
         {"coordinates": "asymmetric"}),
        ("local_response_norm", [small], [dropped(small, 0, 3)],
         {"size": 3, "alpha": 1e-9, "beta": 0.75, "k": 1.0}, {}),
        ("rms_norm", [a, np.ones(3000, f32)], [dropped(a, 0, 9), np.ones(3000, f32)],
         {"eps": 1e-5}, {}),
    ]  # fmt: skip
    for op, right, wrong, attributes, other in cases:
        exact, bound = one_step(op, right, **attributes)
        mistaken, _ = one_step(op, wrong, **{**attributes, **other})
        unseen = np.abs(mistaken - exact) <= bound
        assert (unseen & (mistaken != exact)).any(), op


def test_what_has_no_model_is_refused_by_name():
    with pytest.raises(KeyError, match="sigmoid"):
        one_step("sigmoid", [np.ones((1, 2), f32)])
