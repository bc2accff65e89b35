"""What single schemes promise: BCR, NM, Pattern, depthwise weights, and the global budget."""

from itertools import product

import numpy as np
import pytest
from drawn_schemes import bcr, keeps, nm, possible, schemes, weights
from hypothesis import given
from hypothesis import strategies as st

from refimpl.schemes import (
    BCR,
    KGS,
    NM,
    Channel,
    Layer,
    OneOfLibrary,
    Pattern,
    Vanilla,
    kept_macs,
    mine_patterns,
    project_across,
)
from refimpl.schemes.units import part_height


def in_parts(values, weight, parts):
    """The values of every part's filters; a depthwise weight is one part."""
    return np.split(values, len(values) // part_height(weight.shape, parts))


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
