"""Properties of the storage formats: exact round trips, one count of bytes, damage refused."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from refimpl import tiles as tiles_form
from refimpl.schemes import BCR, KGS, NM, Dense, Filter, Pattern, Unstructured, Vanilla
from refimpl.schemes.units import part_height
from refimpl.storage import (
    BCRC,
    CSR,
    FKW,
    StorageError,
    compare,
    index_bytes,
    kept_bytes,
    pack_blocks,
    pack_scheme,
    table,
)
from refimpl.storage.blocks import block_bytes, padding_of_runs

sizes = st.integers(1, 9)
shapes = st.tuples(sizes, sizes, st.lists(st.integers(1, 3), max_size=3)).map(
    lambda drawn: (drawn[0], drawn[1], *drawn[2])
)


@st.composite
def pruned(draw):
    """A weight, its mask and its parts: unstructured or blocky, rows and all possibly empty.

    Some kept weights are zero or -0.0: what is kept is the mask's to say.
    """
    shape, parts = draw(shapes), draw(st.integers(1, 2))
    shape = (shape[0] * parts, *shape[1:])
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    coarse = draw(st.lists(st.booleans(), min_size=len(shape), max_size=len(shape)))
    drawn = tuple(1 if flat else size for flat, size in zip(coarse, shape, strict=True))
    mask = np.broadcast_to(rng.random(drawn) < draw(st.floats(0, 1)), shape)
    weight = np.round(rng.standard_normal(shape), 1).astype(np.float32)
    return np.where(mask, weight, np.float32(0)), np.array(mask), parts


def same(found, weight, mask):
    assert found[0].dtype == np.float32
    weight = np.where(mask, weight, np.float32(0))  # what is pruned has lost its sign
    assert found[0].view(np.int32).tolist() == weight.view(np.int32).tolist()
    assert (found[1] == mask).all()


@given(pruned())
def test_csr_round_trip(drawn):
    weight, mask, _ = drawn
    packed = CSR.pack(weight, mask)
    same(packed.unpack(), weight, mask)
    assert packed.stored == np.count_nonzero(mask)


@given(pruned())
def test_bcrc_round_trip(drawn):
    weight, mask, _ = drawn
    packed = BCRC.pack(weight, mask)
    same(packed.unpack(), weight, mask)
    assert packed.stored == np.count_nonzero(mask)
    assert len(packed.occurrence) - 1 == len(np.unique(mask.reshape(len(mask), -1), axis=0))


@given(pruned())
def test_bcrc_is_tiles_of_one_tile_per_strip(drawn):
    weight, mask, _ = drawn
    packed = BCRC.pack(weight, mask)
    tiles = packed.tiles()
    same(tiles_form.unpack(tiles), weight, mask)
    again = BCRC.from_tiles(tiles)
    for name in ("reorder", "row_offset", "occurrence", "column_stride", "compact_column"):
        assert np.array_equal(getattr(again, name), getattr(packed, name))
        assert getattr(again, name).dtype == np.int32
    assert np.array_equal(again.weights, packed.weights)


@given(pruned(), sizes, sizes)
def test_tiles_hold_every_kept_weight_once_and_no_other(drawn, height, run):
    weight, mask, parts = drawn
    tiles = pack_blocks(weight, mask, height=height, run=run, parts=parts)
    same(tiles_form.unpack(tiles), weight, mask)
    assert tiles.stored == np.count_nonzero(mask)
    assert index_bytes(tiles, run=run) <= index_bytes(tiles)
    for strip in tiles.strips:
        rows = [row for tile in strip for row in tile.rows.tolist()]
        assert not rows or max(rows) - min(rows) < height
        assert len({row // part_height(weight.shape, parts) for row in rows}) <= 1


@given(shapes, sizes, sizes, st.floats(0.1, 1))
def test_kernel_groups_make_one_tile_a_strip_in_whole_runs(shape, gf, gc, keep):
    scheme = KGS(gf, gc)
    weight = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    mask = scheme.project(weight, keep)
    tiles = pack_scheme(scheme, weight * mask, mask)
    assert all(len(strip) <= 1 for strip in tiles.strips)
    assert padding_of_runs(tiles, gc) == 0
    values, indices = kept_bytes(scheme, mask)
    assert values == 4 * np.count_nonzero(mask)
    assert indices == (0 if mask.all() else index_bytes(tiles, run=gc))


@given(pruned(), st.integers(1, 70), sizes)
def test_bytes_counted_from_the_mask_are_those_of_the_packed_tiles(drawn, height, run):
    weight, mask, parts = drawn
    if height > 9:  # rows by the hundred, whose sets fit no integer
        weight, mask = (np.concatenate([a] * 30) for a in (weight, mask))
    tiles = pack_blocks(weight, mask, height=height, run=run, parts=parts)
    packed = 4 * (tiles.stored + padding_of_runs(tiles, run)), index_bytes(tiles, run=run)
    assert block_bytes(mask, height=height, run=run, parts=parts) == packed


@given(shapes, sizes, sizes, st.integers(0, 2), st.floats(0.1, 1))
def test_the_tiles_that_kernels_run_are_the_exact_ones_where_a_strip_keeps_whole_columns(
    shape, gf, gc, padding, keep
):
    """Besides, those have a tile where nothing is kept, and rows of padding at the end."""
    scheme = KGS(gf, gc)
    weight = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    mask = scheme.project(weight, keep)
    heights = [min(gf, shape[0] - row) for row in range(0, shape[0], gf)]
    heights[-1] += padding
    run = tiles_form.pack(weight * mask, mask, heights, gc)
    exact = pack_scheme(scheme, weight * mask, mask)
    same(tiles_form.unpack(run), weight * mask, mask)
    for (tile,), strip in zip(run.strips, exact.strips, strict=True):
        real = tile.rows >= 0
        found = tiles_form.Tile(tile.rows[real], tile.columns, tile.values[:, real].copy())
        assert strip == ((found,) if tile.columns.size else ())


def test_bcr_makes_several_tiles_of_different_rows():
    scheme = BCR(8, 16)
    weight = np.random.default_rng(0).standard_normal((20, 50)).astype(np.float32)
    mask = scheme.project(weight, 0.4)
    tiles = pack_scheme(scheme, weight * mask, mask)
    assert max(len(strip) for strip in tiles.strips) > 1
    same(tiles_form.unpack(tiles), weight * mask, mask)


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 4), st.sampled_from([(3, 3), (2,), ()]))
def test_fkw_round_trip(filters, channels, entries, kernel):
    weight = np.random.default_rng(0).standard_normal((filters, channels, *kernel))
    weight = weight.astype(np.float32)
    scheme = Pattern(entries, 3)
    mask = scheme.project(weight, 0.6 * min(1, entries / np.prod(kernel)))
    packed = FKW.pack(weight * mask, mask)
    same(packed.unpack(), weight * mask, mask)
    assert len(packed.patterns) <= 3
    assert (np.diff(np.diff(packed.offset)) <= 0).all()


def test_an_emptied_weight_fits_every_format():
    weight = np.zeros((3, 2, 3), np.float32)
    mask = weight > 0
    for form in (CSR, BCRC, FKW):
        same(form.pack(weight, mask).unpack(), weight, mask)
    same(tiles_form.unpack(pack_blocks(weight, mask, height=2)), weight, mask)


@pytest.mark.parametrize(
    ("scheme", "best", "worst"),
    [
        (KGS(8, 4), "tiles, runs of 4", "csr"),
        (BCR(16, 48), "tiles", "bcrc"),
        (Vanilla(8, 4), "tiles, runs of 4", "csr"),
        (Pattern(4, 6), "fkw", "tiles"),
    ],
)
def test_one_table_compares_index_bytes(scheme, best, worst):
    weight = np.random.default_rng(0).standard_normal((64, 32, 3, 3)).astype(np.float32)
    mask = scheme.project(weight, 0.3)
    rows = {row.format: row for row in compare(scheme, weight * mask, mask)}
    known = {name: row.index_bytes for name, row in rows.items() if row.index_bytes}
    assert min(known, key=known.__getitem__) == best
    assert known[worst] > 2 * known[best]
    assert rows["dense"].bytes == weight.nbytes
    assert {row.stored for row in rows.values() if row.index_bytes} == {np.count_nonzero(mask)}
    text = table(list(rows.values()))
    assert len(text.splitlines()) == len(rows) + 1
    assert (rows["fkw"].stored is None) == isinstance(scheme, KGS | BCR)


@pytest.mark.parametrize("scheme", [Dense(), Filter(), Unstructured(), NM(1, 2)])
def test_every_scheme_packs(scheme):
    weight = np.random.default_rng(0).standard_normal((7, 6, 3)).astype(np.float32)
    mask = scheme.project(weight, 1 if scheme == Dense() else 0.5)
    same(tiles_form.unpack(pack_scheme(scheme, weight * mask, mask)), weight * mask, mask)


DAMAGE = {
    CSR: ("offsets", "columns", "values"),
    BCRC: ("reorder", "row_offset", "occurrence", "column_stride", "compact_column", "weights"),
    FKW: ("patterns", "offset", "reorder", "index", "stride", "weight"),
}


@given(
    st.sampled_from([(form, name) for form, names in DAMAGE.items() for name in names]),
    st.integers(-2, 40),
    st.integers(0, 10**6),
    st.booleans(),
)
def test_damage_is_refused_or_harmless(target, value, place, shorten):
    form, name = target
    weight = np.random.default_rng(0).standard_normal((6, 4, 3, 3)).astype(np.float32)
    mask = Pattern(4, 3).project(weight, 0.3)
    packed = form.pack(weight * mask, mask)
    array = getattr(packed, name)[:-1] if shorten else getattr(packed, name).copy()
    assume(array.size)
    if not shorten:
        array.flat[place % array.size] = value
    try:
        found, kept = replace(packed, **{name: array}).unpack()
    except StorageError:
        return
    assert found.shape == kept.shape == weight.shape


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: CSR.pack(np.ones((2, 2)), np.ones((2, 2), bool)), "float64"),
        (lambda: CSR.pack(np.ones((2, 2), np.float32), np.ones((2, 3), bool)), "shape"),
        (lambda: BCRC.pack(np.ones((2, 2), np.float32), np.zeros((2, 2), bool)), "(0, 0)"),
        (
            lambda: FKW.pack(np.ones((1, 2, 2), np.float32) * [[1, 0]], np.ones((1, 2, 2), bool)),
            "float64",
        ),
        (lambda: FKW.pack(*uneven()), "they keep 1, 2"),
        (lambda: pack_scheme(KGS(1, 2), *uneven()), "is pruned"),
        (lambda: BCRC.from_tiles(pack_blocks(*uneven(), height=1)), "one tile each"),
        (lambda: BCRC.from_tiles(tiles_form.Tiles((2, 2), ())), "every row once"),
    ],
)
def test_refusals_are_sentences(call, words):
    with pytest.raises(StorageError, match=r"\.$") as caught:
        call()
    assert words in str(caught.value)


def uneven():
    mask = np.array([[[True, True], [True, False]], [[False, False]] * 2])
    return mask.astype(np.float32), mask
