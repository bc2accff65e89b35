"""Properties of every sparse scheme, over shapes the blocks do not divide."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from refimpl.schemes import (
    KGS,
    SCHEMES,
    AnySubset,
    Dense,
    Exactly,
    Filter,
    SchemeError,
    Unstructured,
    Vanilla,
    kept_macs,
    scheme_from_text,
)

sizes = st.integers(1, 9)
schemes = st.one_of(
    st.just(Dense()),
    st.just(Unstructured()),
    st.just(Filter()),
    st.builds(Vanilla, gf=sizes, gc=sizes),
    st.builds(KGS, gf=sizes, gc=sizes),
)
shapes = st.tuples(sizes, sizes, st.lists(st.integers(1, 3), max_size=3)).map(
    lambda drawn: (drawn[0], drawn[1], *drawn[2])
)
seeds = st.integers(0, 2**32 - 1)
keeps = st.floats(0.01, 1)


@st.composite
def weights(draw):
    """A weight and how many parts its filters fall into."""
    shape, parts = draw(shapes), draw(st.integers(1, 3))
    shape = (shape[0] * parts, *shape[1:])
    weight = np.random.default_rng(draw(seeds)).standard_normal(shape).astype(np.float32)
    return weight, parts


@given(schemes, weights())
def test_units_partition_the_weights(scheme, drawn):
    weight, parts = drawn
    units = scheme.units(weight.shape, parts=parts)
    assert units.unit.shape == (1, *weight.shape)
    assert units.size().min() >= 1
    assert units.size().sum() == weight.size
    assert np.bincount(units.group).min() >= 1
    if units.strip is not None:
        assert len(set(np.bincount(units.strip).tolist())) == 1


@given(schemes, weights())
def test_no_unit_straddles_two_parts(scheme, drawn):
    weight, parts = drawn
    assume(scheme != Dense())
    units = scheme.units(weight.shape, parts=parts)
    halves = np.split(units.unit[0], parts)
    owned = [set(half.ravel().tolist()) for half in halves]
    assert sum(map(len, owned)) == units.count


@given(schemes, weights())
def test_score_is_the_norm_per_weight_of_the_unit(scheme, drawn):
    weight, parts = drawn
    units = scheme.units(weight.shape, parts=parts)
    members = [weight[units.unit[0] == unit] for unit in range(units.count)]
    naive = [np.linalg.norm(w.astype(np.float64)) / np.sqrt(w.size) for w in members]
    np.testing.assert_allclose(scheme.score(weight, parts=parts), naive, rtol=1e-12)


def test_score_does_not_penalise_ragged_units():
    assert np.allclose(KGS(4, 4).score(np.full((5, 6, 3), 2.0)), 2.0)


@given(schemes, weights(), keeps, st.sampled_from(["layer", "strip"]))
def test_projection_is_legal_near_and_never_empty(scheme, drawn, keep, scope):
    weight, parts = drawn
    keep = 1 if scheme == Dense() else keep
    units = scheme.units(weight.shape, parts=parts)
    assume(scope == "layer" or units.strip is not None)
    mask = scheme.project(weight, keep, scope=scope, parts=parts)
    assert mask.dtype == np.bool_
    assert mask.shape == weight.shape
    assert scheme.legal(mask, parts=parts) is None
    steps = 1 if scope == "layer" or units.strip is None else units.strip.max() + 1
    largest = units.size().max() * steps / weight.size
    assert mask.any()
    assert abs(mask.mean() - keep) <= max(largest / 2, largest - keep) + 1e-9


@given(schemes, weights(), keeps)
def test_projection_keeps_the_units_of_the_highest_score(scheme, drawn, keep):
    weight, parts = drawn
    mask = scheme.project(weight, 1 if scheme == Dense() else keep, parts=parts)
    units = scheme.units(weight.shape, parts=parts)
    score, kept = scheme.score(weight, parts=parts), units.total(mask) > 0
    assert score[kept].min() >= score[~kept].max(initial=0)


@given(st.builds(KGS, sizes, sizes) | st.builds(Vanilla, sizes, sizes), weights(), keeps)
def test_balanced_projection_keeps_equally_many_units_in_every_strip(scheme, drawn, keep):
    weight, parts = drawn
    units = scheme.units(weight.shape, parts=parts)
    kept = units.total(scheme.project(weight, keep, scope="strip", parts=parts)) > 0
    assert len(set(np.bincount(units.strip, weights=kept).tolist())) == 1


@given(schemes, weights(), keeps)
def test_projecting_a_projected_weight_changes_nothing(scheme, drawn, keep):
    weight, parts = drawn
    keep = 1 if scheme == Dense() else keep
    mask = scheme.project(weight, keep, parts=parts)
    assert (scheme.project(weight * mask, keep, parts=parts) == mask).all()


def test_ties_go_to_the_lower_unit():
    mask = Unstructured().project(np.ones((2, 4)), 0.5)
    assert mask.tolist() == [[True] * 4, [False] * 4]


@given(schemes, weights(), keeps, seeds)
def test_a_torn_unit_is_refused_with_its_place(scheme, drawn, keep, seed):
    weight, parts = drawn
    units = scheme.units(weight.shape, parts=parts)
    assume(units.size().max() > 1)
    mask = np.ones(weight.shape, bool)
    shared = np.argwhere((units.size() > 1)[units.unit[0]])
    torn = tuple(shared[seed % len(shared)].tolist())
    mask[torn] = False
    reason = scheme.legal(mask, parts=parts)
    assert reason is not None
    assert reason.startswith(str(scheme))
    assert str(torn) in reason


def test_an_emptied_layer_is_legal_but_not_for_dense():
    empty = np.zeros((3, 5, 2), bool)
    assert KGS(2, 2).legal(empty) is None
    assert "exactly 1 of its units must stay" in str(Dense().legal(empty))


def test_a_mask_of_numbers_is_refused():
    assert "booleans" in str(Filter().legal(np.ones((2, 2))))


@pytest.mark.parametrize(
    ("scheme", "bits"),
    [
        (Dense(), 0),
        (Unstructured(), 5 * 6 * 9),
        (Filter(), 5),
        (Vanilla(4, 4), 4),
        (KGS(4, 4), 4 * 9),
    ],
)
def test_degrees_of_freedom(scheme, bits):
    assert scheme.degrees_of_freedom((5, 6, 3, 3)) == bits


def test_vanilla_and_kgs_are_one_where_kernels_have_one_position():
    weight = np.random.default_rng(0).standard_normal((7, 10, 1, 1, 1))
    assert (KGS(4, 3).project(weight, 0.4) == Vanilla(4, 3).project(weight, 0.4)).all()


def test_overlapping_units_keep_a_weight_only_where_all_of_them_stay():
    """Rows and columns of a 2 x 3 block: what BCR will be made of."""
    from refimpl.schemes.units import Units

    rows, columns = np.indices((2, 3))
    units = Units(np.stack([rows, columns + 2]), np.zeros(5, int), None, AnySubset())
    kept = np.array([True, False, True, False, True])
    assert units.mask(kept).tolist() == [[True, False, True], [False] * 3]
    assert units.size().tolist() == [3, 3, 2, 2, 2]


def test_exactly_counts_per_group():
    group = np.array([0, 0, 0, 1])
    assert Exactly(2).bits(group) == np.log2(3)
    assert Exactly(2).breach(np.array([True, True, False, True]), group) is None
    assert Exactly(2).breach(np.array([True, True, False, False]), group) == 1


def test_kept_macs():
    assert kept_macs(np.array([[True, False], [True, True]]), 10) == 30


@given(schemes)
def test_text_round_trip(scheme):
    assert scheme_from_text(str(scheme)) == scheme


def test_short_form():
    assert scheme_from_text("kgs:8x4") == KGS(8, 4)
    assert scheme_from_text(" vanilla( gc=4, gf=8 ) ") == Vanilla(8, 4)
    assert {str(scheme_from_text(name)) for name in ("dense", "filter", "unstructured")} <= set(
        SCHEMES
    )


@pytest.mark.parametrize(
    "text",
    ["", "kgs", "kgs:8", "kgs:8x4x2", "kgs:0x4", "kgs(gf=8,gf=4)", "dense:3", "nope", "kgs:8x4 ;"],
)
def test_text_that_names_no_scheme(text):
    with pytest.raises(SchemeError):
        scheme_from_text(text)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: KGS(0, 4), "gf is 0"),
        (lambda: KGS(8, True), "gc is True"),
        (lambda: KGS(8, 4).units((3,)), "shape (3,)"),
        (lambda: KGS(8, 4).units((3, 0)), "positive"),
        (lambda: KGS(8, 4).units((5, 4), parts=2), "2 equal parts"),
        (lambda: KGS(8, 4).project(np.ones((4, 4)), 0), "above 0"),
        (lambda: KGS(8, 4).project(np.ones((4, 4)), float("nan")), "above 0"),
        (lambda: KGS(8, 4).project(np.full((4, 4), np.nan), 0.5), "not finite"),
        (lambda: Dense().project(np.ones((4, 4)), 0.5), "keep must be 1"),
        (lambda: Filter().project(np.ones((4, 4)), 0.5, scope="strip"), 'scope="layer"'),
    ],
)
def test_refusals_are_sentences(call, words):
    with pytest.raises(SchemeError, match=r"\.$") as caught:
        call()
    assert words in str(caught.value)
