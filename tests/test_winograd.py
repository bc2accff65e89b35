"""Winograd: exact in rationals, within its bound in floats, for every padding and ragged edge."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl.ops.contractions import conv_fast
from refimpl.winograd import (
    POINTS,
    WinogradError,
    amplification,
    convolve,
    cook_toom,
    error_bound,
    roundings,
    saving,
)

seeds = st.integers(0, 2**32 - 1)


def direct(x, w, padding, groups):
    ones = (1,) * (x.ndim - 2)
    return conv_fast(x, w, stride=ones, padding=padding, dilation=ones, groups=groups)


def matrix(rows):
    return tuple(tuple(map(Fraction, row.split())) for row in rows)


@st.composite
def transforms(draw, outputs, taps, axes):
    chosen = []
    for _ in range(axes):
        m, r = draw(st.integers(1, outputs)), draw(st.integers(1, taps))
        points = draw(st.none() | st.permutations(POINTS))
        chosen.append(cook_toom(m, r, points[: m + r - 2] if points else None))
    return chosen


@st.composite
def cases(draw, outputs, taps, extra):
    """Transforms, padding (any, beyond the kernel too), groups, and shapes of input and weight."""
    axes = draw(st.integers(1, 3))
    chosen = draw(transforms(outputs if axes < 3 else 2, taps, axes))
    padding = tuple(draw(st.tuples(st.integers(0, 3), st.integers(0, 3))) for _ in chosen)
    size = [
        max(1, t.r - sum(p)) + draw(st.integers(0, extra if axes < 3 else 2))
        for t, p in zip(chosen, padding, strict=True)
    ]
    groups = draw(st.integers(1, 2))
    channels, filters, batch = (draw(st.integers(1, 2)) for _ in range(3))
    x = (batch, groups * channels, *size)
    w = (groups * filters, channels, *(t.r for t in chosen))
    return chosen, padding, groups, x, w


@given(st.integers(1, 6), st.integers(1, 5), st.permutations(POINTS), seeds)
def test_one_axis_is_the_correlation(m, r, points, seed):
    t = cook_toom(m, r, points[: m + r - 2])
    d, g = np.split(np.random.default_rng(seed).integers(-9, 10, m + 2 * r - 1), [t.n])
    a_, g_, b_ = t.arrays(object)
    found = a_ @ ((g_ @ g) * (b_ @ d))
    assert found.tolist() == np.correlate(d, g, "valid").tolist()


@given(cases(outputs=3, taps=3, extra=4), seeds)
@settings(max_examples=40, deadline=None)
def test_exact_in_rationals(case, seed):
    chosen, padding, groups, x_shape, w_shape = case
    rng = np.random.default_rng(seed)
    x, w = rng.integers(-9, 10, x_shape), rng.integers(-9, 10, w_shape)
    exact = np.vectorize(Fraction, otypes=[object])
    found = convolve(exact(x), exact(w), chosen, padding, groups=groups)
    assert found.tolist() == direct(x.astype(float), w.astype(float), padding, groups).tolist()


@given(cases(outputs=6, taps=4, extra=9), seeds, st.sampled_from([np.float32, np.float64]))
@settings(max_examples=60, deadline=None)
def test_within_the_bound_in_floats(case, seed, dtype):
    chosen, padding, groups, x_shape, w_shape = case
    rng = np.random.default_rng(seed)
    # Of few bits and many sizes: exact in float32, and the direct sum is exact in float64.
    x = (rng.integers(-99, 100, x_shape) * 2.0 ** rng.integers(-6, 7, x_shape)).astype(dtype)
    w = (rng.integers(-99, 100, w_shape) * 2.0 ** rng.integers(-6, 7, w_shape)).astype(dtype)
    found = convolve(x, w, chosen, padding, groups=groups)
    assert found.dtype == dtype
    exact = direct(x.astype(np.float64), w.astype(np.float64), padding, groups)
    bound = error_bound(x, w, chosen, padding, groups=groups, dtype=dtype)
    assert (np.abs(found - exact) <= bound).all()
    # The amplification says how much larger than direct convolution's the bound can be.
    largest = np.abs(w).max() * np.abs(x).max() * np.prod(w_shape[1:])
    lost = roundings(chosen, w_shape[1]) * np.finfo(dtype).eps / 2
    assert (bound <= float(amplification(chosen)) * lost * float(largest) * 1.001).all()


def rounded_sum(terms, dtype, order):
    """Products (a, b) summed with one rounding an operation: in turn, in pairs, or fused."""
    if order == "fused":
        total = dtype(0)
        for a, b in terms:
            total = dtype(float(a) * float(b) + float(total))
        return total
    sums = [dtype(a * b) for a, b in terms]
    while len(sums) > 1:
        head, rest = (sums[:2], sums[2:]) if order == "in turn" else (sums[-2:], sums[:-2])
        added = dtype(head[0] + head[1])
        sums = [added, *rest] if order == "in turn" else [added, *rest][::-1]
    return sums[0]


@given(
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(1, 5),
    st.sampled_from([np.float16, np.float32]),
    st.sampled_from(["in turn", "in pairs", "fused"]),
    seeds,
)
@settings(max_examples=60, deadline=None)
def test_within_the_bound_whatever_the_order_of_sums(m, r, channels, dtype, order, seed):
    """One tile, every operation rounded: array libraries may sum float16 in float32."""
    t = cook_toom(m, r)
    rng = np.random.default_rng(seed)
    d = (rng.integers(-15, 16, (channels, t.n)) / 8).astype(dtype)
    g = (rng.integers(-15, 16, (channels, r)) / 8).astype(dtype)
    a_, g_, b_ = t.arrays(dtype)

    def apply(matrix, vector):
        used = [[j for j in range(len(row)) if row[j] != 0] for row in matrix]
        return [
            rounded_sum([(row[j], vector[j]) for j in js], dtype, order)
            for row, js in zip(matrix, used, strict=True)
        ]

    inputs, weights = [apply(b_, x) for x in d], [apply(g_, w) for w in g]
    products = [
        rounded_sum([(weights[c][j], inputs[c][j]) for c in range(channels)], dtype, order)
        for j in range(t.n)
    ]
    exact = direct(d[None].astype(float), g[None].astype(float), ((0, 0),), 1)[0, 0]
    bound = error_bound(d[None], g[None], [t], ((0, 0),), dtype=dtype)[0, 0]
    assert (np.abs(np.array(apply(a_, products), float) - exact) <= bound).all()


def test_the_bound_is_not_vain():
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((1, 16, 9, 9)), rng.standard_normal((8, 16, 3, 3))
    x, w = x.astype(np.float32), w.astype(np.float32)
    chosen, padding = [cook_toom(4, 3)] * 2, ((1, 1), (1, 1))
    exact = direct(x.astype(float), w.astype(float), padding, 1)
    error = np.abs(convolve(x, w, chosen, padding) - exact).max()
    assert error > error_bound(x, w, chosen, padding).max() / 1000


def test_a_dropped_term_breaks_the_bound():
    rng = np.random.default_rng(0)
    x, w = rng.random((1, 8, 20)).astype(np.float32), rng.random((4, 8, 3)).astype(np.float32)
    bound = error_bound(x, w, [cook_toom(4, 3)], ((1, 1),))
    exact = direct(x.astype(np.float64), w.astype(np.float64), ((1, 1),), 1)
    x[0, 3, 7] = 0
    wrong = np.abs(direct(x.astype(np.float64), w.astype(np.float64), ((1, 1),), 1) - exact)
    assert (wrong > bound).sum() == 12


def test_f_2_3_is_the_published_one():
    t = cook_toom(2, 3)
    assert t.a == matrix(["1 1 1 0", "0 1 -1 1"])
    assert t.g == matrix(["-1 0 0", "1/2 1/2 1/2", "1/2 -1/2 1/2", "0 0 1"])
    assert t.b == matrix(["-1 0 1 0", "0 1 1 0", "0 -1 1 0", "0 -1 0 1"])


def test_f_4_3_has_integer_input_transforms():
    t = cook_toom(4, 3)
    assert t.n == 6
    assert all(entry.denominator == 1 for row in (*t.b, *t.a) for entry in row)
    assert {entry.denominator for row in t.g for entry in row} == {1, 4, 6, 12, 24}


def test_one_is_none():
    assert cook_toom(1, 3).b == cook_toom(1, 3).g == cook_toom(3, 1).a
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 3, 5, 6, 7)), rng.standard_normal((4, 3, 3, 1, 2))
    none = [cook_toom(1, 3), cook_toom(1, 1), cook_toom(1, 2)]
    assert amplification(none) == saving(none) == 1
    found = convolve(x, w, none, ((1, 1), (0, 0), (0, 2)))
    np.testing.assert_allclose(found, direct(x, w, ((1, 1), (0, 0), (0, 2)), 1), rtol=1e-12)


def test_amplification_of_the_usual_transforms():
    known = {m: amplification([cook_toom(m, 3)]) for m in (1, 2, 4, 6)}
    assert known[2] == Fraction(8, 3)
    assert list(known.values()) == sorted(known.values())
    both = [cook_toom(2, 3), cook_toom(4, 3)]
    assert amplification(both) == known[2] * known[4]
    worse = cook_toom(4, 3, [0, 1, 2, 3, 4])
    assert amplification([worse]) > known[4]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [([(2, 3)] * 3, "27/8"), ([(4, 3)] * 3, "8"), ([(2, 3)] * 2, "9/4"), ([(1, 1), (4, 3)], "2")],
)
def test_saving(sizes, expected):
    assert saving([cook_toom(m, r) for m, r in sizes]) == Fraction(expected)


X, W = np.zeros((1, 2, 5)), np.zeros((4, 2, 3))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: cook_toom(0, 3), "1 or more"),
        (lambda: cook_toom(2, 3, [0, 1]), "needs 3 different points"),
        (lambda: cook_toom(2, 3, [0, 1, 1]), "given are 2"),
        (lambda: cook_toom(12, 3), "needs 13"),
        (lambda: convolve(X, W, [cook_toom(2, 2)], ((0, 0),)), "2,) taps"),
        (lambda: convolve(X, W, [cook_toom(2, 3)] * 2, ((0, 0),)), "number of spatial axes"),
        (lambda: convolve(X, W, [cook_toom(2, 3)], ((0, 0),), groups=2), "2 groups"),
        (lambda: convolve(X[..., :2], W, [cook_toom(2, 3)], ((0, 0),)), "does not fit"),
        (lambda: convolve(X.astype(np.float32), W, [cook_toom(2, 3)], ((0, 0),)), "float32"),
        (lambda: convolve(X.astype(int), W.astype(int), [cook_toom(2, 3)], ((0, 0),)), "int64"),
    ],
)
def test_refusals_are_sentences(call, words):
    with pytest.raises(WinogradError, match=r"\.$") as caught:
        call()
    assert words in str(caught.value)
