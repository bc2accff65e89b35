"""Properties of every sparse scheme, over shapes the blocks do not divide."""

from math import comb
from pathlib import Path

import numpy as np
import pytest
from drawn_schemes import keeps, nm, partitions, patterns, possible, schemes, seeds, sizes, weights
from hypothesis import assume, given
from hypothesis import strategies as st

from refimpl.schemes import (
    BCR,
    KGS,
    NM,
    SCHEMES,
    AnySubset,
    Channel,
    Dense,
    Exactly,
    Filter,
    Pattern,
    SchemeError,
    Unstructured,
    Vanilla,
    kept_macs,
    mine_patterns,
    scheme_from_text,
)
from refimpl.schemes.gallery import gallery
from refimpl.schemes.units import Units, Way


@given(schemes, weights())
def test_every_way_partitions_the_weights(scheme, drawn):
    weight, parts = drawn
    possible(scheme, weight, 1, parts)
    units = scheme.units(weight.shape, parts=parts)
    assert units.shape == weight.shape
    assert units.size().min() >= 1
    assert units.size().sum() == weight.size * len(units.ways)
    assert [span.start for span in units.spans] == [0, *(s.stop for s in units.spans[:-1])]
    assert units.spans[-1].stop == units.count
    assert np.bincount(units.group).min() >= 1
    owned = [set(units.group[span].tolist()) for span in units.spans]
    assert sum(map(len, owned)) == units.group.max() + 1
    if units.strip is not None:
        assert len(units.strip) == len(weight)
    strips = units.strips()
    assert strips.shape == (units.count,)
    assert np.bincount(strips).min() >= 1
    at_weights = units.strip if units.strip is not None else np.zeros(len(weight), int)
    assert (
        strips[units.unit].reshape(-1, len(weight), weight[0].size) == at_weights[:, None]
    ).all()


@given(schemes, weights())
def test_no_unit_and_no_group_straddles_two_parts(scheme, drawn):
    weight, parts = drawn
    assume(scheme != Dense() and (weight.ndim == 2 or weight.shape[1] > 1))
    possible(scheme, weight, 1, parts)
    units = scheme.units(weight.shape, parts=parts)
    owned = [set(part.ravel().tolist()) for part in np.split(units.unit, parts, axis=1)]
    assert sum(map(len, owned)) == units.count


@given(schemes, weights())
def test_score_is_the_norm_per_weight_of_the_unit(scheme, drawn):
    weight, parts = drawn
    possible(scheme, weight, 1, parts)
    units = scheme.units(weight.shape, parts=parts)
    members = [weight[(units.unit == unit).any(axis=0)] for unit in range(units.count)]
    naive = [np.linalg.norm(w.astype(np.float64)) / np.sqrt(w.size) for w in members]
    np.testing.assert_allclose(scheme.score(weight, parts=parts), naive, rtol=1e-12)


def test_score_does_not_penalise_ragged_units():
    assert np.allclose(KGS(4, 4).score(np.full((5, 6, 3), 2.0)), 2.0)


@given(schemes, weights(), keeps, st.sampled_from(["layer", "strip"]))
def test_projection_is_legal_and_never_empty(scheme, drawn, keep, scope):
    weight, parts = drawn
    keep = possible(scheme, weight, keep, parts)
    assume(scope == "layer" or scheme.units(weight.shape, parts=parts).strip is not None)
    mask = scheme.project(weight, keep, scope=scope, parts=parts)
    assert mask.dtype == np.bool_
    assert mask.shape == weight.shape
    assert scheme.legal(mask, parts=parts) is None
    assert mask.any()


@given(partitions, weights(), keeps, st.sampled_from(["layer", "strip"]))
def test_projection_comes_as_near_as_units_allow(scheme, drawn, keep, scope):
    weight, parts = drawn
    units = scheme.units(weight.shape, parts=parts)
    assume(scope == "layer" or units.strip is not None)
    mask = scheme.project(weight, keep, scope=scope, parts=parts)
    steps = 1 if scope == "layer" or units.strip is None else units.strip.max() + 1
    largest = units.size().max() * steps / weight.size
    assert abs(mask.mean() - keep) <= max(largest / 2, largest - keep) + 1e-9


@given(partitions, weights(), keeps)
def test_projection_keeps_the_units_of_the_highest_score(scheme, drawn, keep):
    weight, parts = drawn
    mask = scheme.project(weight, keep, parts=parts)
    units = scheme.units(weight.shape, parts=parts)
    score, kept = scheme.score(weight, parts=parts), units.total(mask) > 0
    assert score[kept].min() >= score[~kept].max(initial=0)


@given(st.builds(KGS, sizes, sizes) | st.builds(Vanilla, sizes, sizes), weights(), keeps)
def test_balanced_projection_keeps_equally_many_units_in_every_strip(scheme, drawn, keep):
    weight, parts = drawn
    units = scheme.units(weight.shape, parts=parts)
    kept = units.total(scheme.project(weight, keep, scope="strip", parts=parts)) > 0
    assert len(set(np.bincount(units.strips(), weights=kept).tolist())) == 1


@given(st.one_of(partitions, nm, patterns), weights(), keeps)
def test_projecting_a_projected_weight_changes_nothing(scheme, drawn, keep):
    weight, parts = drawn
    keep = possible(scheme, weight, keep, parts)
    mask = scheme.project(weight, keep, parts=parts)
    assert (scheme.project(weight * mask, keep, parts=parts) == mask).all()


@given(schemes, weights(), keeps)
def test_a_legal_mask_is_its_own_cover(scheme, drawn, keep):
    weight, parts = drawn
    mask = scheme.project(weight, possible(scheme, weight, keep, parts), parts=parts)
    assert (scheme.cover(mask, parts=parts) == mask).all()


@given(schemes, weights(), keeps, st.floats(0, 1))
def test_a_cover_is_legal_and_keeps_what_it_covers(scheme, drawn, keep, holes):
    weight, parts = drawn
    mask = scheme.project(weight, possible(scheme, weight, keep, parts), parts=parts)
    nonzero = mask & (np.random.default_rng(0).random(weight.shape) >= holes)
    cover = scheme.cover(nonzero, parts=parts)
    if isinstance(scheme, Pattern) and cover is None:
        return  # a greedy completion of patterns may need more of them than there were
    assert scheme.legal(cover, parts=parts) is None
    assert not (nonzero & ~cover).any()
    assert isinstance(scheme, Pattern) or np.count_nonzero(cover) <= np.count_nonzero(mask)


@given(schemes, weights(), seeds)
def test_saliency_makes_a_legal_mask_at_every_threshold(scheme, drawn, seed):
    weight, parts = drawn
    possible(scheme, weight, 1, parts)
    saliency = scheme.saliency(weight, parts=parts)
    levels = np.unique(saliency[saliency > -np.inf])
    assert scheme.legal(saliency >= levels[seed % len(levels)], parts=parts) is None


def test_ties_go_to_the_larger_unit_and_then_to_the_lower_number():
    mask = Unstructured().project(np.ones((2, 4)), 0.5)
    assert mask.tolist() == [[True] * 4, [False] * 4]
    ragged = Vanilla(1, 2).project(np.ones((1, 3)), 0.4)
    assert ragged.tolist() == [[True, True, False]]


def test_a_smaller_unit_that_left_does_not_come_back_to_fit_the_budget_better():
    """Units of 2, 1, 2, 1 weights: 2.8 of 6 are wanted, for which 2 + 2 was too many."""
    weight, keep = np.array([[3.0], [3], [1], [2], [2], [0.5]]), 2.8 / 6
    mask = Vanilla(2, 1).project(weight, keep, parts=2)
    assert mask.ravel().tolist() == [True, True, False, False, False, False]
    assert (Vanilla(2, 1).project(weight * mask, keep, parts=2) == mask).all()


@given(schemes, weights(), seeds)
def test_a_torn_unit_is_refused_with_its_place(scheme, drawn, seed):
    weight, parts = drawn
    possible(scheme, weight, 1, parts)
    units = scheme.units(weight.shape, parts=parts)
    shared = np.argwhere((units.size() > 1)[units.unit].all(axis=0))
    assume(len(shared))
    torn = tuple(shared[seed % len(shared)].tolist())
    mask = np.ones(weight.shape, bool)
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
        (Channel(), 6),
        (BCR(4, 20), 5 * 3 + 2 * 54),
        (NM(2, 4), 5 * 9 * np.log2(6)),
        (Pattern(4, 8), np.log2(comb(126, 8)) + 5 * 6 * 3 + 5 * 6),
    ],
)
def test_degrees_of_freedom(scheme, bits):
    assert scheme.degrees_of_freedom((5, 6, 3, 3)) == pytest.approx(bits)


def test_vanilla_and_kgs_are_one_where_kernels_have_one_position():
    weight = np.random.default_rng(0).standard_normal((7, 10, 1, 1, 1))
    assert (KGS(4, 3).project(weight, 0.4) == Vanilla(4, 3).project(weight, 0.4)).all()


def test_overlapping_units_keep_a_weight_only_where_all_of_them_stay():
    """Rows and columns of a 2 x 3 block: what BCR is made of."""
    rows = Way(np.arange(2), np.zeros(3, int), AnySubset())
    columns = Way(np.zeros(2, int), np.arange(3), AnySubset())
    units = Units((2, 3), (rows, columns), np.zeros(5, int), None)
    assert units.unit.tolist() == [[[0] * 3, [1] * 3], [[2, 3, 4]] * 2]
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
    again = scheme_from_text(str(scheme))
    assert again == scheme
    assert str(again) == str(scheme)


def test_short_form():
    assert scheme_from_text("kgs:8x4") == KGS(8, 4)
    assert scheme_from_text("nm:2x4") == scheme_from_text("nm(n=2,m=4)") == NM(2, 4, 1)
    assert scheme_from_text("nm:2x4x0") == NM(2, 4, axis=0)
    assert scheme_from_text("pattern(library=8,entries=4)") == Pattern(4, 8)
    assert scheme_from_text("bcr:16x32x30").rows == 30
    assert scheme_from_text("bcr:16x32") == BCR(16, 32, rows=0) != BCR(32, 16)
    assert scheme_from_text(" vanilla( gc=4, gf=8 ) ") == Vanilla(8, 4)
    assert {str(scheme_from_text(name)) for name in ("dense", "filter", "unstructured")} <= set(
        SCHEMES
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "kgs",
        "kgs:8",
        "kgs:8x4x2",
        "kgs:0x4",
        "kgs(gf=8,gf=4)",
        "nm:2",
        "nm:5x4",
        "dense:3",
        "nope",
        "kgs:8x4 ;",
    ],
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
        (lambda: NM(5, 4), "5 of 4"),
        (lambda: NM(1, 4, -1), "0 or more"),
        (lambda: NM(2, 4).project(np.ones((4, 4)), 0.4), "keep must be 0.5"),
        (lambda: NM(2, 4, 3).units((4, 4, 3)), "no axis 3"),
        (lambda: NM(2, 4).project(np.ones((8, 1, 3, 3)), 0.5), "at most 2 neighbours"),
        (lambda: BCR(4, 4, 101), "0 to 100"),
        (lambda: Pattern(4, 8).project(np.ones((4, 4, 3, 3)), 0.5), "at most 0.444"),
        (
            lambda: Pattern(4, 8).project(np.ones((2, 2, 3)), 1, library=np.ones((1, 4), bool)),
            "by 3 positions",
        ),
        (lambda: mine_patterns([], Pattern(4, 8)), "one kernel shape"),
        (lambda: KGS(8, 4).saliency(np.full((4, 4), np.inf)), "not finite"),
    ],
)
def test_refusals_are_sentences(call, words):
    with pytest.raises(SchemeError, match=r"\.$") as caught:
        call()
    assert words in str(caught.value)


def test_the_pictures_in_the_documentation_are_what_projection_finds():
    page = Path(__file__).parents[1] / "docs" / "schemes.md"
    assert page.read_text() == gallery(), "draw them anew, as the page says"
