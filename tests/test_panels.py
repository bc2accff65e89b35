"""Packed panels: every rank, stride and order of filters, at every stage; what is refused."""

from dataclasses import replace
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jit.decide
from jit.checker import check as check_program
from jit.decide.candidates import Layer, candidates, chosen, fewest_cycles
from jit.decide.panels import HEIGHTS, row_order, union_columns
from jit.decide.problem import ConvProblem
from jit.decide.repack import repacked
from jit.executable import open_executable
from jit.interpret_plan import differences
from jit.kernels.panel import PanelKernel
from jit.launches import launches
from jit.launches.panel import pieces
from jit.llvm import emit_ir, emit_object
from jit.pipeline import lower
from jit.shrink import shrink
from jit.target import llvm_target, target
from refimpl.graph import Constant, Graph, Node, Sparsity, attributes
from refimpl.plan import Plan, PlanError, Schedule, check, evaluate
from refimpl.schemes import KGS, Filter, Unstructured
from refimpl.tiles import alike, pack, unpack


def one_layer(
    weight_shape, spatial, *, stride=1, dilation=1, batch=1, residual=False, keep=0.5, seed=0
) -> Graph:
    """A pruned layer with bias and tanh, after a relu, so that its input lies in blocks."""
    rng = np.random.default_rng(seed)
    rank = len(spatial)
    mask = rng.random(weight_shape) < keep
    weight = (rng.standard_normal(weight_shape) * mask).astype(np.float32)
    x = (batch, weight_shape[1], *spatial)
    given_ = attributes(
        stride=(stride,) * rank,
        padding=tuple((k // 2, (k - 1) // 2) for k in weight_shape[2:]),
        dilation=(dilation,) * rank,
        groups=1,
    )
    nodes = [
        Node(("r",), "relu", ("x",)),
        Node(("s",), "conv" if rank else "linear", ("r", "w", "b"), given_ if rank else ()),
    ]
    last = "s"
    if residual:
        nodes.append(Node(("a",), "add", ("s", "x")))
        last = "a"
    nodes.append(Node(("y",), "tanh", (last,)))
    constants = {
        "w": Constant(weight),
        "b": Constant(rng.standard_normal(weight_shape[0]).astype(np.float32)),
    }
    return Graph("layer", (("x", x),), tuple(nodes), ("y",), constants,
                 {"w": Sparsity(Unstructured(), Constant(mask))})  # fmt: skip


def over_panels(graph: Graph, name: str, schedule: Schedule, *, backwards: bool = True) -> Plan:
    made = jit.decide.plan(graph, name)
    step = next(s for s in made.steps if s.op == "conv")
    order = np.arange(made.weights[step.weight].shape[0])
    return repacked(made, step.name, schedule, order[::-1] if backwards else None)


LAYERS = {
    "one axis, strided": one_layer((5, 3, 3), (11,), stride=2),
    "two axes": one_layer((7, 6, 3, 2), (5, 6)),
    "two axes, strides and holes": one_layer((6, 5, 3, 3), (9, 11), stride=3, dilation=2, batch=2),
    "three axes": one_layer((3, 5, 2, 3, 3), (3, 4, 3)),
    "a residual": one_layer((5, 5, 1, 1), (3, 3), residual=True, batch=2),
    "a product": one_layer((9, 7), (), batch=6),
    "whole strips": one_layer((8, 4, 3, 3), (3, 7)),
    "whole strips and a residual": one_layer((8, 8, 3), (13,), residual=True, batch=2),
    "nothing kept": one_layer((5, 3, 3, 3), (4, 4), keep=0.0),
}
CUTS = [Schedule(2, 4, (1, 8), 1, 3, False, panel=2),
        Schedule(4, 4, (1, 8), 1, 2, False, panel=2), Schedule(1, 4, (1, 12), 1, 9, False, panel=1),
        Schedule(3, 2, (1, 2), 1, 3, False, panel=5)]  # fmt: skip


@pytest.mark.parametrize("schedule", CUTS, ids=lambda s: f"{s.rows}x{s.tile[1]}")
@pytest.mark.parametrize("layer", LAYERS)
def test_every_stage_means_the_layer(layer, schedule):
    made = over_panels(LAYERS[layer], "x86-64-sse", schedule, backwards="whole" not in layer)
    x = np.random.default_rng(1).standard_normal(made.places["x"].shape)
    worst = differences(made, evaluate(made, x), x)
    assert list(worst)[:3] == ["naive", "panel", "positions"]
    assert max(worst.values()) < 1e-12


@pytest.mark.parametrize(("rows", "guard"), [(5, "start"), (5, "end"), (8, "end")])
@pytest.mark.parametrize("layer", LAYERS)
def test_code_computes_the_layer_between_guard_pages(layer, guard, rows):
    lanes = target("host").lanes
    made = over_panels(
        LAYERS[layer],
        "host",
        Schedule(rows, lanes, (1, 2 * lanes), 1, 4, False, panel=3),
        backwards=rows == 5,
    )
    x = np.random.default_rng(1).standard_normal(made.places["x"].shape).astype(np.float32)
    with open_executable(made, "host", guard=guard) as net:
        (found,) = net(x)
    wanted = evaluate(made, x)[made.outputs[0]]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_whole_strips_in_order_are_stored_together():
    schedule = Schedule(4, 4, (1, 8), 1, 2, False, panel=2)
    for layer, together in (("whole strips and a residual", True), ("two axes", False)):
        for backwards in (False, True):
            made = over_panels(LAYERS[layer], "x86-64-sse", schedule, backwards=backwards)
            kernels = [launch.kernel for launch in launches(made, target("x86-64-sse"))[0]]
            (panel,) = (k for k in kernels if isinstance(k, PanelKernel))
            assert panel.turned == (together and not backwards)


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=8),
    st.sampled_from([1, 4, 16]),
    st.integers(1, 3),
)
def test_pieces_bring_every_position_where_it_belongs(runs, lanes, vectors):
    """Played as the kernel plays them, for two columns one after another."""
    starts = np.cumsum([0, *(n + 5 for n in runs[:-1])])
    corner = np.concatenate([s + np.arange(n) for s, n in zip(starts, runs, strict=True)])
    positions = lanes * vectors
    memory = np.arange(corner.max() + 2 * lanes + 100)
    start, to = pieces(corner, positions, lanes)
    assert start.shape == to.shape
    assert len(to) == -(-corner.size // positions)
    for tile, (sources, places) in enumerate(zip(start, to, strict=True)):
        panel = np.full(2 * positions + lanes, -1)
        for column in range(2):
            for source, place in zip(sources, places, strict=True):
                begin = corner[source] + 50 * column
                at = column * positions + place
                panel[at : at + lanes] = memory[begin : begin + lanes]
        inside = corner[tile * positions : (tile + 1) * positions]
        for column in range(2):
            found = panel[column * positions :][: inside.size]
            assert np.array_equal(found, inside + 50 * column)
        assert (panel[: 2 * positions] >= 0).all()


def test_inner_loops_hold_their_sums_in_registers():
    """At most one instruction beside its multiply-adds, loads and five of the loop: no spills."""
    for name, rows, vectors in (("x86-64-avx512", 8, 3), ("x86-64-avx512", 4, 6),
                                ("x86-64-avx2", 4, 3), ("cortex-a76", 4, 5)):  # fmt: skip
        machine = llvm_target(name)
        kernel = PanelKernel(rows, machine.lanes, vectors, 4, machine.lanes, None, False, True)
        assembly = _assembly(kernel, machine)
        block = max(
            assembly.split("\n.L"), key=lambda text: text.count("fmadd") + text.count("fmla")
        )
        body = [line for line in block.splitlines()[1:] if line.startswith("\t")]
        body = body[
            : next(
                (i + 1 for i, line in enumerate(body) if line.split()[0] in ("jl", "b.lt")),
                len(body),
            )
        ]
        products = sum("fmadd" in line or "fmla" in line for line in body)
        assert products == rows * vectors
        assert len(body) <= products + rows + vectors + 7, "\n".join(body)


def _assembly(kernel, machine):
    from jit.llvm import emit_assembly

    return emit_assembly(emit_ir([lower(kernel).program], machine), machine)


@pytest.mark.parametrize("name", ["x86-64-sse", "x86-64-avx2", "x86-64-avx512", "cortex-a53"])
def test_the_planner_takes_panels_where_rows_differ(name):
    rng = np.random.default_rng(0)
    problem = ConvProblem(rng.random((64, 64, 3, 3)) < 0.3, (1, 28, 28), target(name).lanes)
    best = candidates(problem, target(name))[0]
    assert best.schedule.panel
    assert best.schedule.rows == 1
    assert "panel" in best.name
    dense = ConvProblem(np.ones((64, 64, 3, 3), bool), (1, 28, 28), target(name).lanes)
    assert not candidates(dense, target(name))[0].schedule.panel
    assert not candidates(replace(problem, panels=False), target(name))[0].schedule.panel
    assert not candidates(replace(problem, x_block=4), target("opencl"))[0].schedule.panel


def test_small_strips_of_kernel_groups_are_packed_without_zeros():
    mask = KGS(8, 4).project(np.random.default_rng(0).standard_normal((256, 128, 3, 3)), 0.28)
    problem, machine = ConvProblem(mask, (1, 28, 28), 16), target("x86-64-avx512")
    best = fewest_cycles(Layer("y", ""), candidates(problem, machine))
    assert best.candidate.schedule.panel
    assert "zeros" not in chosen(problem, [best.candidate], best, machine).reason


@given(st.integers(0, 2**32 - 1), st.sampled_from(HEIGHTS), st.integers(1, 40))
@settings(max_examples=30)
def test_like_filters_together_store_no_more(seed, rows, filters):
    rng = np.random.default_rng(seed)
    kinds = rng.random((3, 70)) < 0.4
    keep = kinds[rng.integers(0, 3, filters)]
    order = alike(keep, rows)
    assert np.array_equal(np.sort(order), np.arange(filters))
    problem = ConvProblem(keep.reshape(filters, 70), (1, 40), 16)
    chosen = union_columns(keep, row_order(problem, rows), rows).sum()
    assert chosen <= union_columns(keep, np.arange(filters), rows).sum()


def test_pruned_filters_take_no_products():
    """They are gathered in strips of their own, which hold nothing."""
    mask = Filter().project(np.random.default_rng(0).standard_normal((64, 8, 3, 3)), 0.25)
    problem = ConvProblem(mask, (1, 14, 14), 16)
    columns = union_columns(problem.columns, row_order(problem, 8), 8)
    assert columns.sum() * 8 == mask.sum()


def test_a_permuted_weight_unpacks_to_itself():
    rng = np.random.default_rng(3)
    stored = rng.random((7, 3, 2)) < 0.5
    weight = (rng.standard_normal((7, 3, 2)) * stored).astype(np.float32)
    tiles = pack(weight, stored, [3, 3, 3], 2, rng.permutation(7))
    back, held = unpack(tiles)
    assert np.array_equal(back, weight)
    assert (held >= stored).all()


def test_a_shrunk_layer_stays_over_panels():
    made = over_panels(LAYERS["two axes"], "x86-64-sse", CUTS[0])
    step = next(s for s in made.steps if s.op == "conv")
    small = shrink(made, step.name)
    x = np.random.default_rng(2).standard_normal(small.places["x"].shape)
    assert next(s for s in small.steps if s.op == "conv").schedule.panel == 2
    assert max(differences(small, evaluate(small, x), x).values()) < 1e-12


PLAN = over_panels(LAYERS["two axes"], "x86-64-sse", CUTS[0])
STEP = next(s for s in PLAN.steps if s.op == "conv")
STRIPS = PLAN.weights[STEP.weight].strips


def with_schedule(**changes):
    new = replace(STEP, schedule=replace(STEP.schedule, **changes))
    return replace(PLAN, steps=tuple(new if s is STEP else s for s in PLAN.steps))


def with_rows(strip, rows):
    tile = replace(STRIPS[strip][0], rows=np.array(rows, np.int32))
    strips = tuple((tile,) if i == strip else s for i, s in enumerate(STRIPS))
    tiles = replace(PLAN.weights[STEP.weight], strips=strips)
    return replace(PLAN, weights={**PLAN.weights, STEP.weight: tiles})


UNSOUND = {
    "a larger panel": with_schedule(panel=3),
    "negative panels": with_schedule(panel=-1),
    "panels without end": with_schedule(panel=2**30),
    "more channels in a block": with_schedule(channel_block=6),
    "half vectors": with_schedule(tile=(1, 6)),
    "two rows of tiles": with_schedule(tile=(2, 8)),
    "taller strips": with_schedule(rows=5),
    "runs": with_schedule(run=2),
    "a filter twice": with_rows(0, [6, 5, 4, 4]),
    "a filter outside": with_rows(0, [7, 5, 4, 3]),
    "padding before the end": with_rows(0, [6, 5, 4, -1]),
    "scratch of another": replace(
        PLAN,
        steps=tuple(replace(s, scratch=s.scratch[::-1]) if s is STEP else s for s in PLAN.steps),
    ),
}


@pytest.mark.parametrize("fault", UNSOUND)
def test_unsound_panels_are_refused(fault):
    with pytest.raises(PlanError, match=STEP.name):
        check(UNSOUND[fault])


def test_sound_panels_obey_the_rules():
    check(PLAN)
    for launch in launches(PLAN, target(PLAN.target))[0]:
        check_program(lower(launch.kernel).program)
    assert prod(PLAN.places[f"{STEP.name}:panel"].shape) > 0
    assert emit_object(
        emit_ir([lower(launch.kernel).program], llvm_target("x86-64-sse")),
        llvm_target("x86-64-sse"),
    )


def test_threads_have_panels_of_their_own():
    graph = one_layer((64, 64, 3, 3), (28, 28), keep=0.1)
    made = jit.decide.plan(graph, "host", threads=3, algorithms=("direct",))
    step = next(s for s in made.steps if s.op == "conv")
    assert step.schedule.panel
    x = np.random.default_rng(1).standard_normal(made.places["x"].shape).astype(np.float32)
    with open_executable(made, "host") as net:
        (found,) = net(x)
    np.testing.assert_allclose(found, evaluate(made, x)[made.outputs[0]], atol=1e-5)
