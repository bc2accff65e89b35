"""Strips of several tiles: linear layers and recurrences at every stage; what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from block_plans import SCHEDULE, TURNED, WIDE, WIDE_TURNED, gru, linear, masked, over_blocks

from jit.checker import check as check_program
from jit.decide.blocks import block_schedules, packed, tile_heights
from jit.decide.candidates import Layer, candidates, chosen, fewest_cycles
from jit.decide.problem import ConvProblem
from jit.executable import open_executable
from jit.interpret_plan import differences
from jit.launches import launches
from jit.pipeline import lower
from jit.program_text import parse
from jit.target import target
from refimpl.plan import PlanError, check, evaluate
from refimpl.schemes import BCR
from refimpl.tiles import in_heights, unpack

GRAPHS = {
    "one row": linear(1),
    "rows and a rest": linear(5),
    "a residual": linear(3, residual=True),
    "rows of two panels": linear(19),
    "a recurrence": gru(False),
    "a recurrence with two products": gru(True),
}


@pytest.mark.parametrize("schedule", [SCHEDULE, TURNED], ids=["filters", "rows"])
@pytest.mark.parametrize("name", GRAPHS)
def test_every_stage_means_the_layer(name, schedule):
    made = over_blocks(GRAPHS[name], "x86-64-sse", schedule)
    x = np.random.default_rng(1).standard_normal(made.places["x"].shape)
    worst = differences(made, evaluate(made, x), x)
    assert list(worst)[:2] == ["naive", "batch" if schedule.turned else "blocks"]
    assert max(worst.values()) < 1e-12
    for launch in launches(made, target(made.target))[0]:
        for entry in lower(launch.kernel).entries:
            check_program(entry.program)
            assert parse(str(entry.program)) == entry.program


@pytest.mark.parametrize("guard", ["start", "end"])
@pytest.mark.parametrize("schedule", [WIDE, WIDE_TURNED], ids=["filters", "rows"])
@pytest.mark.parametrize("name", GRAPHS)
def test_code_computes_the_layer_between_guard_pages(name, schedule, guard):
    made = over_blocks(GRAPHS[name], "host", schedule)
    x = np.random.default_rng(1).standard_normal(made.places["x"].shape).astype(np.float32)
    with open_executable(made, "host", guard=guard) as net:
        found, *_ = net(x)
    np.testing.assert_allclose(found, evaluate(made, x)[made.outputs[0]], atol=1e-5)


def test_every_weight_is_stored_once_and_few_zeros():
    rng = np.random.default_rng(2)
    weight, mask = masked(rng, (37, 29))
    tiles = packed(weight, mask, SCHEDULE)
    back, stored = unpack(tiles)
    assert np.array_equal(back, weight)
    assert np.all(stored >= mask)
    assert stored.sum() == tiles.stored < 1.25 * mask.sum()
    assert {tile.rows.size for tile in tiles} <= set(tile_heights(8))
    assert max(len(strip) for strip in tiles.strips) > 1


@pytest.mark.parametrize("most", [1, 2, 32])
def test_tiles_are_cut_along_their_rows(most):
    weight = np.ones((13, 3), np.float32)
    whole = packed(weight, weight > 0, replace(SCHEDULE, rows=16))
    cut = in_heights(whole, tile_heights(most), 16)
    assert np.array_equal(unpack(cut)[0], weight)
    assert max(tile.rows.size for tile in cut) <= most


@pytest.mark.parametrize(
    ("kept", "heights"),
    [(7, [8]), (6, [4, 2]), (13, [8, 4, 1]), (15, [8, 8]), (16, [8, 8]), (1, [1])],
)
def test_what_nearly_fills_a_tile_is_filled_with_zeros(kept, heights):
    mask = np.zeros((32, 3), bool)
    mask[16 : 16 + kept] = True
    weight = np.where(mask, np.float32(2), np.float32(0))
    tiles = packed(weight, mask, SCHEDULE)
    assert [tile.rows.size for tile in tiles] == heights
    assert np.array_equal(unpack(tiles)[0], weight)
    check_rows = np.concatenate([tile.rows for tile in tiles])
    assert np.unique(check_rows).size == check_rows.size
    assert check_rows.min() >= 16


def test_a_strip_without_other_rows_is_cut_exactly():
    weight = np.ones((7, 3), np.float32)
    tiles = packed(weight, weight > 0, SCHEDULE)
    assert [tile.rows.size for tile in tiles] == [4, 2, 1]
    assert tiles.stored == weight.size


def test_the_planner_takes_blocks_for_rows_that_differ():
    mask = BCR(64, 256).project(np.random.default_rng(0).standard_normal((512, 1024)), 0.1)
    problem, machine = ConvProblem(mask, (1,), 16), target("x86-64-avx512")
    found = candidates(problem, machine)
    picked = fewest_cycles(Layer("y", ""), found)
    assert picked.candidate.schedule.strip
    reason = chosen(problem, found, picked, machine).reason
    assert "tiles of rows and columns" in reason
    assert not list(block_schedules(ConvProblem(mask, (1,), 4), target("opencl")))
    dense = ConvProblem(np.ones((512, 1024), bool), (1,), 16)
    assert not list(block_schedules(dense, target("x86-64-avx512")))


PLAN = over_blocks(GRAPHS["one row"], "x86-64-sse")
STEP = next(s for s in PLAN.steps if s.schedule is not None)


def with_schedule(**changes):
    new = replace(STEP, schedule=replace(STEP.schedule, **changes))
    return replace(PLAN, steps=tuple(new if s is STEP else s for s in PLAN.steps))


def with_tile(**arrays):
    """The first tile of the second strip changed."""
    first, (tile, *others), *rest = PLAN.weights[STEP.weight].strips
    changed = {name: np.array(array, np.int32) for name, array in arrays.items()}
    strips = (first, (replace(tile, **changed), *others), *rest)
    tiles = replace(PLAN.weights[STEP.weight], strips=strips)
    return replace(PLAN, weights={**PLAN.weights, STEP.weight: tiles})


TILE = PLAN.weights[STEP.weight].strips[1][0]
UNSOUND = {
    "a filter of another strip": with_tile(rows=TILE.rows - 16),
    "a filter twice": with_tile(rows=np.full_like(TILE.rows, 17)),
    "a filter outside": with_tile(rows=TILE.rows + 10**6),
    "a padding row": with_tile(rows=np.full_like(TILE.rows, -1)),
    "a column outside": with_tile(columns=TILE.columns + 37),
    "a negative column": with_tile(columns=TILE.columns - 37),
    "lower tiles": with_schedule(rows=1, lanes=1),
    "other strips": with_schedule(strip=8),
    "strips without filters": with_schedule(strip=-1),
    "runs": with_schedule(run=2),
    "panels besides": with_schedule(panel=1),
}


@pytest.mark.parametrize("fault", UNSOUND)
def test_unsound_tiles_are_refused(fault):
    with pytest.raises(PlanError, match=STEP.name):
        check(UNSOUND[fault])


def test_sound_tiles_obey_the_rules():
    check(PLAN)
