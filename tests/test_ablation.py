"""Plans without optimisations: each is left out for real, and what is computed stays the same."""

import numpy as np
import pytest
from test_panels import one_layer

import jit.decide
from jit.checker import check as check_program
from jit.decide import OPTIMISATIONS
from jit.executable import open_executable
from jit.interpret_plan import differences
from jit.launches import launches
from jit.llvm import emit_assembly, emit_ir
from jit.pipeline import lower
from jit.plan_file import load_plan, save_plan
from jit.program import For, walk
from jit.target import llvm_target, target
from refimpl.graph import Constant, Graph, Node, Sparsity, attributes
from refimpl.graph import evaluate as evaluate_graph
from refimpl.plan import Plan, check, evaluate, stored_macs
from refimpl.schemes import BCR, KGS

EVERYTHING = tuple(OPTIMISATIONS)
WITHOUTS = [(name,) for name in OPTIMISATIONS] + [EVERYTHING]


def pruned(shape, spatial, scheme, keep: float = 0.4, **options) -> Graph:
    graph = one_layer(shape, spatial, **options)
    noise = np.random.default_rng(3).standard_normal(shape)
    mask = scheme.project(noise, keep)
    constants = {**graph.constants, "w": Constant((noise * mask).astype(np.float32))}
    sparsity = {"w": Sparsity(scheme, Constant(mask))}
    return Graph(graph.name, graph.inputs, graph.nodes, graph.outputs, constants, sparsity)


def normalised() -> Graph:
    """A convolution without bias, a batch norm, a sum with the input, a clamp."""
    rng = np.random.default_rng(5)
    given = attributes(stride=(1, 1), padding=((1, 1), (1, 1)), dilation=(1, 1), groups=1)
    nodes = (
        Node(("c",), "conv", ("x", "w"), given),
        Node(("n",), "batch_norm", ("c", "g", "b", "m", "v"), attributes(eps=1e-3)),
        Node(("s",), "add", ("n", "x")),
        Node(("y",), "clamp", ("s",), attributes(lo=0.0, hi=6.0)),
    )
    arrays = {"w": rng.standard_normal((5, 5, 3, 3)), "v": rng.random(5) + 0.5}
    arrays |= {name: rng.standard_normal(5) for name in "gbm"}
    constants = {name: Constant(a.astype(np.float32)) for name, a in arrays.items()}
    return Graph("normalised", (("x", (1, 5, 2, 5)),), nodes, ("y",), constants, {})


LAYERS = {
    "groups of kernels": pruned((9, 4, 3, 3), (3, 5), KGS(4, 4)),
    "strided": pruned((7, 5, 3), (13,), KGS(2, 2), stride=2, batch=2),
    "blocks": pruned((21, 11), (), BCR(8, 4), batch=5),
    "a vector": pruned((37, 19), (), BCR(8, 8)),
    "a residual": pruned((5, 5, 1, 1), (3, 7), KGS(2, 2), residual=True),
    "a batch norm": normalised(),
}


def without(graph: Graph, name: str, *names: str, **options) -> Plan:
    return jit.decide.plan(graph, name, algorithms=("direct",), without=names, **options)


def multiplied(plan: Plan):
    return next(s for s in plan.steps if s.op == "conv")


@pytest.mark.parametrize("names", WITHOUTS, ids=lambda n: n[0] if len(n) == 1 else "everything")
@pytest.mark.parametrize("layer", LAYERS)
def test_every_stage_still_means_the_layer(layer, names):
    graph = LAYERS[layer]
    for machine in ("x86-64-sse", "cortex-a76") if "reuse" in names else ("x86-64-sse",):
        made = without(graph, machine, *names)
        x = np.random.default_rng(1).standard_normal(made.places["x"].shape)
        values = evaluate(made, x)
        wanted = evaluate_graph(graph, x)[0]
        np.testing.assert_allclose(values[made.outputs[0]], wanted, atol=1e-5)
        assert max(differences(made, values, x).values()) < 1e-12
        for launch in launches(made, target(machine))[0]:
            check_program(lower(launch.kernel).program)


@pytest.mark.parametrize("layer", LAYERS)
def test_code_computes_the_layer(layer):
    for names in WITHOUTS:
        made = without(LAYERS[layer], "host", *names)
        x = np.random.default_rng(1).standard_normal(made.places["x"].shape).astype(np.float32)
        with open_executable(made, "host", guard="end") as net:
            (found,) = net(x)
        np.testing.assert_allclose(found, evaluate(made, x)[made.outputs[0]], atol=1e-5)


def test_compaction_stores_what_is_pruned():
    graph = LAYERS["groups of kernels"]
    whole, thin = (without(graph, "x86-64-sse", *names) for names in (("compaction",), ()))
    weight = graph.constants["w"].array
    assert multiplied(whole).kept_macs == weight.size * 3 * 5
    assert (
        stored_macs(whole, multiplied(whole))
        >= weight.size * 3 * 5
        > stored_macs(thin, multiplied(thin))
    )


def test_without_reorder_filters_come_as_they_are():
    rng = np.random.default_rng(0)
    graph = one_layer((32, 8, 3, 3), (9, 9))
    kinds = rng.random((2, 8, 3, 3)) < 0.3
    mask = kinds[np.arange(32) % 2]
    constants = {**graph.constants, "w": Constant((mask * 1.5).astype(np.float32))}
    graph = Graph("two kinds", graph.inputs, graph.nodes, graph.outputs, constants,
                  {"w": Sparsity(KGS(1, 1), Constant(mask))})  # fmt: skip
    orders = []
    for names in (("tuning",), ("tuning", "reorder")):
        made = without(graph, "x86-64-sse", *names)
        strips = made.weights[multiplied(made).weight].strips
        orders.append(np.concatenate([strip[0].rows for strip in strips]))
    assert sorted(orders[0][:4] % 2) in ([0, 0, 0, 0], [1, 1, 1, 1])
    assert np.array_equal(orders[1], np.arange(32))


def test_without_reorder_blocks_gather_no_rows():
    graph = pruned((256, 256), (), BCR(64, 64), keep=0.1, batch=8)
    assert multiplied(without(graph, "x86-64-avx2")).schedule.strip
    assert not multiplied(without(graph, "x86-64-avx2", "reorder")).schedule.strip


def test_without_reuse_no_load_serves_two_filters():
    """One product for every load of an input in the loop over columns, whatever LLVM merges."""
    graph = pruned((64, 32, 3, 3), (14, 14), KGS(32, 4))
    machine = llvm_target("x86-64-avx2")
    made = without(graph, machine.name, "reuse")
    shared = without(graph, machine.name)
    assert multiplied(made).schedule.apart
    assert made.weights == shared.weights
    products = [_products_of_the_inner_loop(p, machine) for p in (made, shared)]
    vectors = multiplied(made).schedule.rows // multiplied(made).schedule.lanes
    assert vectors > 1
    assert products[0] * vectors == products[1]


def _products_of_the_inner_loop(plan, machine) -> int:
    kernel = next(launch.kernel for launch in launches(plan, machine)[0] if launch.step == "y")
    assembly = emit_assembly(emit_ir([lower(kernel).program], machine), machine)
    loops = [text for text in assembly.split("\n.L") if "vbroadcastss" in text]
    return max(text.split("\tjl")[0].count("fmadd") for text in loops)


def test_without_tiling_one_position_is_summed():
    made = without(LAYERS["groups of kernels"], "x86-64-sse", "tiling")
    assert multiplied(made).schedule.tile == (1, 1)
    made = without(LAYERS["groups of kernels"], "x86-64-sse", "tiling", "tuning")
    assert multiplied(made).schedule.panel
    assert multiplied(made).schedule.tile == (1, 4)


def test_without_tuning_every_layer_is_cut_alike():
    rows = {
        multiplied(without(graph, "x86-64-avx512", "tuning")).schedule.rows
        for graph in (
            pruned((64, 32, 3, 3), (14, 14), KGS(32, 4)),
            pruned((64, 32, 3, 3), (14, 14), KGS(1, 1)),
        )
    }
    assert rows == {4}


def test_without_fusion_operators_are_steps_of_their_own():
    fused, apart = (without(normalised(), "x86-64-sse", *n) for n in ((), ("fusion",)))
    assert [s.op for s in fused.steps if s.op != "relayout"] == ["conv"]
    steps = [s.op for s in apart.steps if s.op != "relayout"]
    assert steps == ["conv", "affine", "add", "activation"]
    graph = LAYERS["a residual"]
    steps = [s.op for s in without(graph, "x86-64-sse", "fusion").steps if s.op != "relayout"]
    assert steps == ["activation", "conv", "affine", "add", "activation"]


def test_a_plan_without_optimisations_is_kept_in_a_file(tmp_path):
    made = without(pruned((64, 32, 3, 3), (14, 14), KGS(32, 4)), "x86-64-avx2", "reuse", "fusion")
    check(made)
    save_plan(made, tmp_path / "net.safetensors")
    assert load_plan(tmp_path / "net.safetensors") == made


def test_threads_and_devices_do_not_matter():
    graph = pruned((64, 32, 3, 3), (14, 14), KGS(8, 4))
    made = without(graph, "host", *EVERYTHING, threads=2)
    x = np.random.default_rng(1).standard_normal(made.places["x"].shape).astype(np.float32)
    with open_executable(made, "host") as net:
        (found,) = net(x)
    np.testing.assert_allclose(found, evaluate(made, x)[made.outputs[0]], atol=1e-5)
    grid = without(graph, "opencl", *EVERYTHING)
    kernels = {launch.kernel for launch in launches(grid, target("opencl"))[0]}
    for kernel in kernels:
        program = lower(kernel).program
        check_program(program)
        assert any(isinstance(s, For) for s in walk(program.body))


def test_what_cannot_be_left_out_is_refused():
    graph = LAYERS["strided"]
    with pytest.raises(ValueError, match="no optimisation 'speed'; there are compaction, reorder"):
        without(graph, "host", "speed")
    with pytest.raises(ValueError, match="to leave out reuse, name 'direct' as the only algorithm"):
        jit.decide.plan(graph, without=("reuse",))
