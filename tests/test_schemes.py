"""Properties of every sparse scheme, over shapes the blocks do not divide."""

from itertools import product
from math import comb

import numpy as np
import pytest
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
    Layer,
    OneOfLibrary,
    Pattern,
    SchemeError,
    Unstructured,
    Vanilla,
    kept_macs,
    mine_patterns,
    project_across,
    scheme_from_text,
)
from refimpl.schemes.units import Units, Way, part_height

sizes = st.integers(1, 9)
partitions = st.one_of(
    st.just(Unstructured()),
    st.just(Filter()),
    st.just(Channel()),
    st.builds(Vanilla, gf=sizes, gc=sizes),
    st.builds(KGS, gf=sizes, gc=sizes),
)
nm = st.builds(
    lambda n, more, axis: NM(n, n + more, axis),
    st.integers(1, 3),
    sizes,
    st.sampled_from([0, 1, 1, 2]),
)
patterns = st.builds(Pattern, st.integers(1, 5), st.integers(1, 6), st.integers(1, 4))
bcr = st.builds(BCR, br=sizes, bc=sizes, rows=st.integers(0, 100))
schemes = st.one_of(st.just(Dense()), partitions, nm, patterns, bcr)
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


def in_parts(values, weight, parts):
    """The values of every part's filters; a depthwise weight is one part."""
    return np.split(values, len(values) // part_height(weight.shape, parts))


def possible(scheme, weight, keep, parts=1):
    """`keep`, or what the scheme can keep instead; drops schemes that do not fit the weight."""
    assume(not isinstance(scheme, NM) or scheme.axis < weight.ndim)
    if isinstance(scheme, Dense):
        return 1
    if isinstance(scheme, NM):
        longest = np.bincount(scheme.units(weight.shape, parts=parts).group).max()
        assume(longest > scheme.n)
        return scheme.n / scheme.m
    if isinstance(scheme, Pattern):
        return keep * min(1, scheme.entries / np.prod(weight.shape[2:]))
    return keep


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


@given(bcr, weights(), keeps, st.sampled_from(["layer", "strip"]))
def test_bcr_leaves_a_dense_sub_block_in_every_block(scheme, drawn, keep, scope):
    weight, parts = drawn
    mask = scheme.project(weight, keep, scope=scope, parts=parts)
    for rows in in_parts(mask.reshape(len(mask), -1), weight, parts):
        for r, c in product(range(0, len(rows), scheme.br), range(0, rows.shape[1], scheme.bc)):
            block = rows[r : r + scheme.br, c : c + scheme.bc]
            outer = block.any(axis=1)[:, None] & block.any(axis=0)
            assert (block == outer).all()


@pytest.mark.parametrize("keep", [0.1, 0.25, 0.5])
@pytest.mark.parametrize("rows", [0, 30, 50, 100])
def test_bcr_splits_the_rate_between_rows_and_columns(keep, rows):
    weight = np.random.default_rng(1).standard_normal((61, 7, 3, 3))
    scheme = BCR(16, 16, rows)
    mask = scheme.project(weight, keep)
    units = scheme.units(weight.shape)
    assert mask.mean() == pytest.approx(keep, abs=0.01)
    if rows in (0, 100):  # one way is not pruned: its units leave with their block or not at all
        way = units.spans[rows // 100]
        kept, size = np.bincount(units.group, units.total(mask) > 0), np.bincount(units.group)
        groups = np.unique(units.group[way])
        assert np.isin(kept[groups] / size[groups], [0, 1]).all()


def test_bcr_finds_a_planted_sub_block_and_is_near_the_best_of_a_small_block():
    rng = np.random.default_rng(3)
    for _ in range(20):
        weight = rng.standard_normal((4, 6))
        kept = BCR(4, 6).project(weight, 0.5 * 0.5)
        shape = (kept.any(axis=1).sum(), kept.any(axis=0).sum())
        best = max(
            np.square(weight[np.ix_(r, c)]).sum()
            for r in product(range(4), repeat=shape[0])
            for c in product(range(6), repeat=shape[1])
            if len(set(r)) == shape[0] and len(set(c)) == shape[1]
        )
        assert np.square(weight[kept]).sum() >= 0.7 * best
    planted = rng.random((4, 1)) * 0.01 * np.ones(6)
    planted[np.ix_([0, 3], [1, 2, 5])] = 1
    assert BCR(4, 6).project(planted, 0.25)[np.ix_([0, 3], [1, 2, 5])].all()


@given(nm, weights())
def test_nm_keeps_the_n_largest_of_every_m(scheme, drawn):
    weight, parts = drawn
    keep = possible(scheme, weight, 1, parts)
    mask = scheme.project(weight, keep, parts=parts)
    parted = in_parts(mask, weight, parts) if scheme.axis == 0 else [mask]
    values = in_parts(weight, weight, parts) if scheme.axis == 0 else [weight]
    for kept, value in zip(parted, values, strict=True):
        lines = np.moveaxis(kept, scheme.axis, -1).reshape(-1, kept.shape[scheme.axis])
        numbers = np.abs(np.moveaxis(value, scheme.axis, -1).reshape(lines.shape))
        for line, number in zip(lines, numbers, strict=True):
            for start in range(0, len(line), scheme.m):
                chosen, group = line[start : start + scheme.m], number[start : start + scheme.m]
                assert chosen.sum() == min(scheme.n, len(chosen))
                assert group[chosen].min() >= group[~chosen].max(initial=0)


def test_patterns_have_a_centre_and_a_library_of_the_given_size():
    weight = np.random.default_rng(0).standard_normal((32, 16, 3, 3))
    mask = Pattern(4, 6).project(weight, 0.3)
    found = np.unique(mask.reshape(-1, 9), axis=0)
    found = found[found.any(axis=1)]
    assert len(found) == 6
    assert found[:, 4].all()
    assert (found.sum(axis=1) == 4).all()
    assert mask.mean() == pytest.approx(0.3, abs=0.01)


def test_filters_of_a_strip_share_the_pattern_of_a_channel():
    weight = np.random.default_rng(0).standard_normal((10, 5, 3, 3, 3))
    mask = Pattern(6, 4, gf=4).project(weight, 0.1).reshape(10, 5, 27)
    for strip in (mask[:4], mask[4:8], mask[8:]):
        patterns = strip.any(axis=0)
        assert (patterns.sum(axis=1) <= 6).all()
        assert ((strip == patterns) | ~strip.any(axis=2, keepdims=True)).all()


def test_one_library_serves_many_layers_and_pruned_kernels_do_not_vote():
    rng = np.random.default_rng(5)
    first, second = rng.standard_normal((2, 8, 4, 3, 3))
    scheme = Pattern(4, 3)
    library = mine_patterns([first, second], scheme)
    masks = [scheme.project(w, 4 / 9, library=library) for w in (first, second)]
    used = np.unique(np.stack(masks).reshape(-1, 9), axis=0)
    assert {p.tobytes() for p in used} <= {p.tobytes() for p in library}
    again = mine_patterns([first * masks[0]], scheme)
    assert {p.tobytes() for p in again} <= {p.tobytes() for p in library}


def test_a_pattern_too_many_is_named():
    mask = np.zeros((4, 1, 3), bool)
    mask[[0, 1, 2, 3], 0, [0, 1, 2, 2]] = True
    assert Pattern(1, 3).legal(mask) is None
    assert "filter 2, channel 0" in str(Pattern(1, 2).legal(mask))
    mask[3, 0] = True, True, False
    assert "filter 3, channel 0" in str(Pattern(1, 3).legal(mask))


def test_patterns_with_room_are_completed_from_those_that_are_there():
    nonzero = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1]], bool)
    group = np.repeat(np.arange(3), 3)
    cover = OneOfLibrary(2, 2).cover(nonzero.ravel(), group)
    assert cover.reshape(3, 3).tolist() == [[1, 1, 0], [1, 1, 0], [1, 0, 1]]
    assert OneOfLibrary(2, 1).cover(nonzero.ravel(), group) is None


@given(st.lists(st.tuples(schemes, weights(), st.integers(1, 9)), min_size=1, max_size=3), keeps)
def test_one_threshold_over_many_layers(drawn, keep):
    layers = {}
    for index, (scheme, (weight, parts), positions) in enumerate(drawn):
        possible(scheme, weight, 1, parts)
        layers[f"layer{index}"] = Layer(scheme, weight, parts, positions)
    masks = project_across(layers, keep)
    for name, layer in layers.items():
        assert layer.scheme.legal(masks[name], parts=layer.parts) is None
        assert masks[name].any()


def test_the_global_budget_counts_macs_and_favours_large_weights():
    rng = np.random.default_rng(2)
    weights = {"early": rng.standard_normal((16, 8, 3, 3)), "late": rng.standard_normal((32, 16))}
    weights["late"] = weights["late"] / 3
    layers = {
        "early": Layer(KGS(4, 4), weights["early"], positions=64),
        "late": Layer(BCR(8, 8), weights["late"]),
    }
    masks = project_across(layers, 0.4)
    macs = {name: kept_macs(masks[name], layers[name].positions) for name in layers}
    assert sum(macs.values()) / (64 * weights["early"].size + 512) == pytest.approx(0.4, abs=0.01)
    assert masks["late"].mean() < masks["early"].mean()


@pytest.mark.parametrize(
    "scheme", [KGS(8, 4), Vanilla(8, 4), Pattern(4, 8), Pattern(4, 8, 4), BCR(8, 8), NM(1, 4, 0)]
)
@pytest.mark.parametrize("groups", [4, 12])
def test_strips_of_depthwise_weights_run_over_their_groups(scheme, groups):
    weight = np.random.default_rng(0).standard_normal((12, 1, 3, 3))
    keep = 0.25 if isinstance(scheme, NM) else 0.4
    mask = scheme.project(weight, keep, parts=groups)
    assert 0.1 < mask.mean() < 0.5
    assert scheme.legal(mask, parts=groups) is None
    assert (mask == scheme.project(weight, keep)).all()


def test_filters_of_a_depthwise_strip_keep_the_same_positions():
    mask = KGS(8, 4).project(np.random.default_rng(0).standard_normal((12, 1, 5)), 0.5, parts=12)
    assert (mask[:8] == mask[0]).all()
    assert (mask[8:] == mask[8]).all()
    assert 0 < mask[0].sum() < 5


def test_a_depthwise_channel_is_the_filters_that_read_it():
    mask = Channel().project(np.arange(1.0, 13).reshape(6, 1, 2), 0.4, parts=3)
    assert mask[:, 0, 0].tolist() == [False] * 4 + [True] * 2


def test_a_gate_of_one_input_is_no_depthwise_convolution():
    assert KGS(8, 1).units((12, 1), parts=4).count == 4
    assert KGS(8, 1).units((12, 1, 1), parts=4).count == 2
