"""Strips of several tiles: linear layers and recurrences at every stage; what is refused."""

from dataclasses import replace

import numpy as np
import pytest

import jit.decide
from jit.checker import check as check_program
from jit.decide.blocks import block_schedules, packed, tile_heights
from jit.decide.candidates import Layer, candidates, chosen, fewest_cycles
from jit.decide.problem import ConvProblem
from jit.decide.repack import repacked
from jit.executable import open_executable
from jit.interpret_plan import differences
from jit.launches import launches
from jit.pipeline import lower
from jit.program_text import parse
from jit.target import target
from refimpl.graph import Constant, Graph, Node, Sparsity, attributes
from refimpl.plan import PlanError, Schedule, check, evaluate
from refimpl.schemes import BCR
from refimpl.tiles import in_heights, unpack

SCHEDULE = Schedule(8, 4, (1, 2), 1, 64, False, strip=16)


def masked(rng, shape, keep=0.3, parts=1):
    mask = BCR(6, 5).project(rng.standard_normal(shape), keep, parts=parts)
    return (rng.standard_normal(shape) * mask).astype(np.float32), mask


def linear(batch: int, *, residual: bool = False) -> Graph:
    """A pruned linear layer with bias and tanh, perhaps added to its input."""
    rng = np.random.default_rng(batch)
    weight, mask = masked(rng, (37, 37))
    nodes = [Node(("s",), "linear", ("x", "w", "b"))]
    nodes += [Node(("a",), "add", ("s", "x"))] if residual else []
    nodes.append(Node(("y",), "tanh", (nodes[-1].name,)))
    constants = {"w": weight, "b": rng.standard_normal(37).astype(np.float32)}
    return Graph("linear", (("x", (batch, 37)),), tuple(nodes), ("y",),
                 {n: Constant(a) for n, a in constants.items()},
                 {"w": Sparsity(BCR(6, 5), Constant(mask))})  # fmt: skip


def gru(reset_first: bool) -> Graph:
    """A pruned GRU of 7 units, two sequences of three times."""
    rng = np.random.default_rng(5)
    hidden, mask = masked(rng, (21, 7), 0.5, parts=3)
    constants = {
        "wi": rng.standard_normal((21, 4)), "wh": hidden, "bi": rng.standard_normal(21),
        "bh": rng.standard_normal(21), "h": rng.standard_normal((2, 7)),
    }  # fmt: skip
    node = Node(("y", "last"), "gru", ("x", "wi", "wh", "bi", "bh", "h"),
                attributes(reverse=False, linear_before_reset=not reset_first))  # fmt: skip
    return Graph("gru", (("x", (3, 2, 4)),), (node,), ("y", "last"),
                 {n: Constant(a.astype(np.float32)) for n, a in constants.items()},
                 {"wh": Sparsity(BCR(6, 5), Constant(mask))})  # fmt: skip


def over_blocks(graph: Graph, name: str, schedule: Schedule = SCHEDULE):
    """The plan with every product of a pruned weight in strips of several tiles."""
    made = jit.decide.plan(graph, name)
    for step in made.steps:
        weight = unpack(made.weights[step.weight])[0] if step.weight in made.weights else None
        if weight is not None and weight.ndim == 2:
            made = repacked(made, step.name, schedule, stored=weight != 0)
    return made


GRAPHS = {
    "one row": linear(1),
    "rows and a rest": linear(5),
    "a residual": linear(3, residual=True),
    "a recurrence": gru(False),
    "a recurrence with two products": gru(True),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_every_stage_means_the_layer(name):
    made = over_blocks(GRAPHS[name], "x86-64-sse")
    x = np.random.default_rng(1).standard_normal(made.places["x"].shape)
    worst = differences(made, evaluate(made, x), x)
    assert list(worst)[:2] == ["naive", "blocks"]
    assert max(worst.values()) < 1e-12
    for launch in launches(made, target(made.target))[0]:
        for entry in lower(launch.kernel).entries:
            check_program(entry.program)
            assert parse(str(entry.program)) == entry.program


@pytest.mark.parametrize("guard", ["start", "end"])
@pytest.mark.parametrize("name", GRAPHS)
def test_code_computes_the_layer_between_guard_pages(name, guard):
    made = over_blocks(GRAPHS[name], "host", replace(SCHEDULE, rows=16, lanes=8))
    x = np.random.default_rng(1).standard_normal(made.places["x"].shape).astype(np.float32)
    with open_executable(made, "host", guard=guard) as net:
        found, *_ = net(x)
    np.testing.assert_allclose(found, evaluate(made, x)[made.outputs[0]], atol=1e-5)


def test_every_weight_is_stored_once_and_no_other():
    rng = np.random.default_rng(2)
    weight, mask = masked(rng, (37, 29))
    tiles = packed(weight, mask, SCHEDULE)
    back, stored = unpack(tiles)
    assert np.array_equal(back, weight)
    assert np.array_equal(stored, mask)
    assert tiles.stored == mask.sum()
    assert {tile.rows.size for tile in tiles} <= set(tile_heights(8))
    assert max(len(strip) for strip in tiles.strips) > 1


@pytest.mark.parametrize("most", [1, 2, 32])
def test_tiles_are_cut_along_their_rows(most):
    weight = np.ones((13, 3), np.float32)
    whole = packed(weight, weight > 0, replace(SCHEDULE, rows=16))
    cut = in_heights(whole, tile_heights(most))
    assert np.array_equal(unpack(cut)[0], weight)
    assert max(tile.rows.size for tile in cut) <= most


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
