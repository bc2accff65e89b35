"""CSR and FKW as they are: every rank and stride, at every stage; who is refused, and when."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_panels import one_layer

import jit.decide
from jit.decide.repack import repacked
from jit.executable import open_executable
from jit.interpret_plan import differences
from jit.kernels.listed import ListedKernel
from jit.launches import launches
from jit.launches.listed import covers
from jit.llvm import emit_assembly, emit_ir
from jit.pipeline import lower
from jit.plan_file import load_plan, save_plan
from jit.shrink import shrink
from jit.target import llvm_target, target, target_names
from refimpl.graph import Constant, Graph, Sparsity
from refimpl.plan import Plan, PlanError, Schedule, check, evaluate, stored_macs
from refimpl.schemes import Pattern
from refimpl.storage import FKW
from refimpl.tiles import unpack


def in_patterns(graph: Graph, keep: float = 0.1) -> Graph:
    """The layer with kernels that keep one of some patterns each, or nothing."""
    scheme, weight = Pattern(2, 3), graph.constants["w"].array
    noise = np.random.default_rng(4).standard_normal(weight.shape)
    mask = scheme.project(noise, keep)
    return replace(
        graph,
        constants={**graph.constants, "w": Constant((noise * mask).astype(np.float32))},
        sparsity={"w": Sparsity(scheme, Constant(mask))},
    )


LAYERS = {
    "one axis, strided": one_layer((5, 3, 3), (11,), stride=2),
    "two axes": one_layer((7, 6, 3, 2), (5, 6)),
    "two axes, strides and holes": one_layer((6, 5, 3, 3), (9, 11), stride=3, dilation=2, batch=2),
    "three axes": one_layer((3, 5, 2, 3, 3), (3, 4, 3)),
    "a residual": one_layer((5, 5, 1, 1), (3, 3), residual=True, batch=2),
    "a product": one_layer((9, 7), (), batch=6),
    "a vector": one_layer((9, 7), ()),
    "nothing kept": one_layer((5, 3, 3, 3), (4, 4), keep=0.0),
}
CASES = [(name, "csr", layer) for name, layer in LAYERS.items()]
CASES += [(name, "fkw", in_patterns(LAYERS[name])) for name in list(LAYERS)[:4]]
CASES += [("one of one", "fkw", LAYERS["a residual"]), ("none", "fkw", LAYERS["nothing kept"])]


def multiplied(plan: Plan):
    return next(s for s in plan.steps if s.op == "conv")


@pytest.mark.parametrize(("name", "storage", "layer"), CASES, ids=lambda x: str(x)[:20])
def test_every_stage_means_the_layer(name, storage, layer):
    made = jit.decide.plan(layer, "x86-64-sse", algorithms=(storage,))
    step = multiplied(made)
    assert step.choice.winner == step.schedule.storage == storage, name
    assert stored_macs(made, step) == step.kept_macs
    x = np.random.default_rng(1).standard_normal(made.places["x"].shape)
    worst = differences(made, evaluate(made, x), x)
    assert list(worst)[:3] == ["naive", "lists", "positions"]
    assert max(worst.values()) < 1e-12


@pytest.mark.parametrize("guard", ["start", "end"])
@pytest.mark.parametrize(("name", "storage", "layer"), CASES, ids=lambda x: str(x)[:20])
def test_code_computes_the_layer_between_guard_pages(name, storage, layer, guard):
    made = jit.decide.plan(layer, "host", algorithms=(storage,))
    lanes = multiplied(made).schedule.lanes
    # Beside the planner's tile one that leaves most of its elements behind.
    wide = Schedule(1, lanes, (1, 5 * lanes), 1, 9, False, storage=storage)
    x = np.random.default_rng(1).standard_normal(made.places["x"].shape).astype(np.float32)
    for plan in (made, repacked(made, multiplied(made).name, wide)):
        with open_executable(plan, "host", guard=guard) as net:
            (found,) = net(x)
        wanted = evaluate(plan, x)[plan.outputs[0]]
        np.testing.assert_allclose(found, wanted, atol=1e-5, err_msg=name)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(1, 20))
def test_tiles_cover_every_position_once(runs, reach):
    starts = np.cumsum([0, *(n + 5 for n in runs[:-1])])
    corner = np.concatenate([s + np.arange(n) for s, n in zip(starts, runs, strict=True)])
    start, begin = covers(corner, reach)
    assert begin[0] == 0
    assert begin[-1] == corner.size
    for tile, first in enumerate(start):
        inside = corner[begin[tile] : begin[tile + 1]] - first
        assert inside[0] == 0
        assert inside[-1] < reach


def test_formats_are_chosen_only_by_name():
    graph = in_patterns(LAYERS["two axes"])
    for algorithms in (("direct",), ("winograd",), ("direct", "winograd")):
        made = jit.decide.plan(graph, "x86-64-avx2", algorithms=algorithms)
        assert not multiplied(made).schedule.storage
        assert not {"csr", "fkw"} & dict(multiplied(made).choice.candidates).keys()
    asked = multiplied(jit.decide.plan(graph, "x86-64-avx2", algorithms=("direct", "csr", "fkw")))
    assert {"csr", "fkw"} < dict(asked.choice.candidates).keys()


def test_a_weight_that_fkw_cannot_hold_is_refused_by_name():
    with pytest.raises(PlanError, match=r"s: fkw cannot hold its weight.*pattern:4x8"):
        jit.decide.plan(LAYERS["two axes"], algorithms=("fkw",))
    with pytest.raises(PlanError, match="s: csr cannot hold its weight, or not on this target"):
        jit.decide.plan(LAYERS["two axes"], "opencl", algorithms=("csr",))
    made = jit.decide.plan(LAYERS["two axes"], algorithms=("direct", "fkw"))
    assert not multiplied(made).schedule.storage


def test_fkw_comes_in_the_order_of_the_format():
    made = jit.decide.plan(in_patterns(LAYERS["two axes"]), "x86-64-sse", algorithms=("fkw",))
    tiles = made.weights[multiplied(made).weight]
    assert [int(strip[0].rows[0]) for strip in tiles.strips] == FKW.pack(
        *unpack(tiles)
    ).reorder.tolist()


def test_an_index_serves_all_weights_of_a_kernel():
    """Per kernel of four weights: one index, four weights, four addresses, and the products."""
    machine = llvm_target("x86-64-avx512")
    for entries, vectors in ((1, 6), (4, 3)):
        kernel = ListedKernel(entries, 16, vectors, 16, None, False, True)
        assembly = emit_assembly(emit_ir([lower(kernel).program], machine), machine)
        body = max(assembly.split("\n.L"), key=lambda text: text.count("fmadd")).splitlines()
        count = {word: sum(word in line for line in body) for word in ("fmadd", "movslq", "broad")}
        assert count == {"fmadd": entries * vectors, "movslq": 1, "broad": entries}


def test_every_cpu_compiles_them():
    for name in target_names():
        if not target(name).grid:
            made = jit.decide.plan(in_patterns(LAYERS["two axes"]), name, algorithms=("fkw",))
            for launch in launches(made, target(name))[0]:
                emit_ir([lower(launch.kernel).program], llvm_target(name))


def test_they_are_shared_by_threads():
    made = jit.decide.plan(LAYERS["three axes"], "host", threads=3, algorithms=("csr",))
    x = np.random.default_rng(1).standard_normal(made.places["x"].shape).astype(np.float32)
    with open_executable(made, "host") as net:
        (found,) = net(x)
    np.testing.assert_allclose(found, evaluate(made, x)[made.outputs[0]], atol=1e-5)


def test_files_and_shrunk_layers_keep_the_format(tmp_path):
    made = jit.decide.plan(in_patterns(LAYERS["two axes"]), "x86-64-sse", algorithms=("fkw",))
    save_plan(made, tmp_path / "net.safetensors")
    assert load_plan(tmp_path / "net.safetensors") == made
    small = shrink(made, multiplied(made).name)
    assert multiplied(small).schedule.storage == "fkw"
    x = np.random.default_rng(2).standard_normal(small.places["x"].shape)
    assert max(differences(small, evaluate(small, x), x).values()) < 1e-12


PLAN = jit.decide.plan(in_patterns(LAYERS["two axes"]), "x86-64-sse", algorithms=("fkw",))
STEP = multiplied(PLAN)


def with_schedule(**changes):
    new = replace(STEP, schedule=replace(STEP.schedule, **changes))
    return replace(PLAN, steps=tuple(new if s is STEP else s for s in PLAN.steps))


def backwards():
    tiles = PLAN.weights[STEP.weight]
    return replace(
        PLAN, weights={**PLAN.weights, STEP.weight: replace(tiles, strips=tiles.strips[::-1])}
    )


UNSOUND = {
    "no such format": with_schedule(storage="coo"),
    "a panel besides": with_schedule(panel=1),
    "loads apart": with_schedule(apart=True),
    "strips of two": with_schedule(rows=2),
    "half vectors": with_schedule(tile=(1, 6)),
    "a larger tile": with_schedule(tile=(1, 4 * STEP.schedule.tile[1])),
    "another order": backwards(),
}


@pytest.mark.parametrize("fault", UNSOUND)
def test_unsound_lists_are_refused(fault):
    with pytest.raises(PlanError, match=STEP.name):
        check(UNSOUND[fault])


def test_sound_lists_obey_the_rules():
    check(PLAN)
