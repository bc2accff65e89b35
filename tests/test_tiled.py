"""Convolutions by Winograd in a Plan: what is chosen, refused and computed, and how far it errs."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from conformance.check import arithmetic, check_plan
from jit.checker import check as check_program
from jit.decide import plan
from jit.decide.repack import reblocked
from jit.decide.winograd import WINOGRAD, ways
from jit.executable import open_executable
from jit.interpret_plan import interpret_plan
from jit.kernels.sums import sums
from jit.kernels.winograd import WinogradInputKernel, WinogradOutputKernel
from jit.llvm import emit_ir, emit_object
from jit.pipeline import lower
from jit.plan_file import load_plan, save_plan
from jit.program_text import parse
from jit.target import LlvmTarget, target
from refimpl.bounds import bounded_step
from refimpl.graph import Constant, Graph, Node, Sparsity, attributes
from refimpl.graph import evaluate as evaluate_graph
from refimpl.plan import PlanError, Schedule, check, evaluate, stored_macs
from refimpl.schemes import scheme_from_text
from refimpl.winograd import convolve, denominator, transform_weight, transforms


def graph(filters, channels, kernel, size, *, batch=1, residual=False, stride=1, seed=0, w=None):
    """One convolution with bias, perhaps a residual, and relu; padding 1 before, 0 or 1 behind."""
    rng = np.random.default_rng(seed)
    rank = len(kernel)
    padding = tuple((int(k > 1), int(k > 1 and i != 1)) for i, k in enumerate(kernel))
    out = [(s + sum(p) - k) // stride + 1 for s, p, k in zip(size, padding, kernel, strict=True)]
    if w is None:
        w = rng.standard_normal((filters, channels, *kernel))
    given = attributes(stride=(stride,) * rank, padding=padding, dilation=(1,) * rank, groups=1)
    nodes = [Node(("c",), "conv", ("x", "w", "b"), given), Node(("y",), "relu", ("c",), ())]
    inputs = [("x", (batch, channels, *size))]
    if residual:
        nodes[1:] = [Node(("s",), "add", ("c", "z"), ()), Node(("y",), "relu", ("s",), ())]
        inputs.append(("z", (batch, filters, *out)))
    constants = {"w": w, "b": rng.integers(-9, 10, filters)}
    named = {name: Constant(np.asarray(a, np.float32)) for name, a in constants.items()}
    return Graph("one", tuple(inputs), tuple(nodes), ("y",), named)


def forced(of, outputs, machine="x86-64-sse"):
    return plan(of, machine, algorithms=(f"winograd F({','.join(map(str, outputs))})",))


def conv(made):
    return next(s for s in made.steps if s.op == "conv")


def arrays(of, seed=1, whole=False):
    rng = np.random.default_rng(seed)
    draw = (lambda s: rng.integers(-4, 5, s)) if whole else rng.standard_normal
    return [draw(shape).astype(np.float32) for _, shape in of.inputs]


# -- matrices as sums --------------------------------------------------------------------------


@pytest.mark.parametrize("m", range(1, 7))
@pytest.mark.parametrize("r", [1, 2, 3, 4])
def test_sums_are_the_matrix(m, r):
    (t,) = transforms((m,), (r,))
    x = [Fraction(3**i, 7) for i in range(t.n)]
    for matrix in (t.a, t.b):
        found = sums(matrix)
        values = list(x)
        values += [sum(c * values[k] for k, c in terms) for terms in found.shared]
        assert [sum(c * values[k] for k, c in row) for row in found.rows] == [
            sum(c * v for c, v in zip(row, x, strict=True)) for row in matrix
        ]
        assert sorted(found.order) == list(range(len(matrix)))


def test_what_rows_share_is_summed_once():
    (t,) = transforms((4,), (3,))
    assert (sums(t.b).operations, sums(t.a).operations) == (12, 12)
    plain = sum(sum(c != 0 for c in row) for row in t.b)
    assert plain == 22


# -- what the transforms compute ---------------------------------------------------------------


@pytest.mark.parametrize("kernel", [(3,), (3, 3), (1, 3, 3), (3, 3, 3)])
def test_a_transformed_weight_is_exact_where_it_divides(kernel):
    steps = transforms([4 if k > 1 else 1 for k in kernel], kernel)
    scale = int(np.prod([denominator(t) for t in steps]))
    w = np.random.default_rng(0).integers(-9, 10, (3, 2, *kernel)) * scale
    exact = transform_weight(w, steps)
    assert exact.shape == (*(t.n for t in steps), 3, 2)
    np.testing.assert_array_equal(exact, np.round(exact))


@pytest.mark.parametrize("stage", ["naive", "channels", "address", "last"])
@pytest.mark.parametrize(
    ("sizes", "outputs"),
    [
        ({"filters": 7, "channels": 5, "kernel": (3, 3), "size": (5, 6), "residual": True}, (2, 4)),
        ({"filters": 5, "channels": 4, "kernel": (3,), "size": (7,), "batch": 2}, (4,)),
        ({"filters": 4, "channels": 6, "kernel": (3, 1, 2), "size": (3, 2, 4)}, (2, 1, 3)),
    ],
)
def test_every_stage_means_the_convolution(sizes, outputs, stage):
    of = graph(**sizes)
    made = forced(of, outputs)
    assert conv(made).winograd.outputs == outputs
    x = arrays(of)
    meant = evaluate(made, *x)
    found = interpret_plan(made, *x, stage=stage)
    for name in (conv(made).name, made.outputs[0]):
        np.testing.assert_allclose(found[name], meant[name], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(meant[made.outputs[0]], evaluate_graph(of, *x)[0], rtol=1e-12)


@pytest.mark.parametrize("block", [(1, 1, 1), (1, 1, 2), (1, 2, 1), (2, 2, 3)])
def test_blocks_of_tiles_make_no_difference(block):
    of = graph(9, 5, (3, 3), (7, 11), batch=2, residual=True)
    made = forced(of, (4, 4))
    made = reblocked(made, conv(made).name, block)
    with open_executable(made, "host-isolated", guard="end") as net:
        report = check_plan(made, net, arrays(of))
    assert report.ok, str(report)


# -- the bound ---------------------------------------------------------------------------------


def judged(of, outputs, x):
    made = forced(of, outputs, "host")
    with open_executable(made, "host-isolated") as net:
        report = check_plan(made, net, x)
    assert report.ok, str(report)
    return next(s for s in report.steps if s.op == "conv")


def test_whole_numbers_and_tiles_of_two_demand_equality():
    w = np.random.default_rng(2).integers(-3, 4, (18, 16, 3, 3))
    of = graph(18, 16, (3, 3), (9, 5), w=w)
    step = judged(of, (2, 2), arrays(of, whole=True))
    assert step.exact == step.elements


def test_weights_that_divide_demand_equality_of_tiles_of_four():
    (t,) = transforms((4,), (3,))
    w = np.random.default_rng(2).integers(-1, 2, (5, 16, 3))
    of = graph(5, 16, (3,), (9,), w=w * denominator(t))
    step = judged(of, (4,), arrays(of, whole=True))
    assert step.exact == step.elements
    of = graph(5, 16, (3,), (9,), w=w)
    assert judged(of, (4,), arrays(of, whole=True)).exact < step.elements


@pytest.mark.parametrize("outputs", [(2, 2), (4, 4), (3, 5), (6, 6)])
def test_the_bound_is_kept_and_not_vain(outputs):
    of = graph(20, 33, (3, 3), (11, 13))
    step = judged(of, outputs, arrays(of))
    assert 1e-4 < step.share < 0.5


def test_a_tile_that_reads_no_number_may_be_none_but_no_other():
    of = graph(3, 4, (3,), (12,))
    made = forced(of, (4,))
    (x,) = arrays(of)
    x[0, 2, 11] = np.nan
    step = conv(made)
    lies = {step.inputs[0]: x.astype(np.float64)}
    _, bound = bounded_step(made, step, lies, arithmetic(made))
    assert np.isinf(bound[..., 8:]).all()
    assert np.isfinite(bound[..., :7]).all()


def test_a_bad_weight_spoils_its_filter_alone():
    w = np.ones((3, 4, 3))
    w[1, 0, 0] = np.inf
    of = graph(3, 4, (3,), (12,), w=w)
    made = forced(of, (4,))
    step = conv(made)
    lies = {step.inputs[0]: arrays(of)[0].astype(np.float64)}
    _, bound = bounded_step(made, step, lies, arithmetic(made))
    assert np.isinf(bound).all(axis=(0, 2)).tolist() == [False, True, False]


def test_a_missing_product_is_seen():
    of = graph(6, 16, (3, 3), (8, 8))
    made = forced(of, (4, 4))
    step = conv(made)
    (x,) = (a.astype(np.float64) for a in arrays(of))
    exact, bound = bounded_step(made, step, {step.inputs[0]: x}, arithmetic(made))
    x[0, 3, 4, 4] = 0
    wrong, _ = bounded_step(made, step, {step.inputs[0]: x}, arithmetic(made))
    assert (np.abs(wrong - exact) > bound).sum() > 20


def test_points_of_tiles_of_four_were_chosen_for_their_error():
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((1, 32, 10, 10)), rng.standard_normal((4, 32, 3, 3))
    pads = ((1, 1),) * 2
    steps = transforms((4, 4), (3, 3))
    exact = convolve(x, w, transforms((1, 1), (3, 3)), pads)
    found = convolve(x.astype(np.float32), w.astype(np.float32), steps, pads)
    assert np.abs(found - exact).max() / np.abs(exact).max() < 3e-6


# -- the plan ----------------------------------------------------------------------------------


def test_a_file_holds_how_a_layer_is_tiled(tmp_path):
    made = forced(graph(9, 5, (3, 3), (7, 11)), (2, 4))
    save_plan(made, tmp_path / "plan")
    assert load_plan(tmp_path / "plan") == made


def with_step(made, **changes):
    step = conv(made)
    steps = tuple(replace(s, **changes) if s is step else s for s in made.steps)
    return replace(made, steps=steps)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"outputs": (2,)}, "no tiles"),
        ({"outputs": (0, 2)}, "no tiles"),
        ({"outputs": (7, 2)}, "no tiles of 7 outputs along an axis of 7 with 3 taps"),
        ({"outputs": (4, 16)}, "no tiles of 16 outputs along an axis of 10"),
        ({"outputs": (2, 2)}, "its scratch is"),
        ({"block": (2, 1, 1)}, r"tiles of \(1, 2, 3\)"),
        ({"block": (1, 1, 1)}, "its scratch is"),
    ],
)
def test_unsound_tiles_are_refused(change, message):
    made = forced(graph(9, 5, (3, 3), (7, 11)), (4, 4))
    check(made)
    with pytest.raises(PlanError, match=message):
        check(with_step(made, winograd=replace(conv(made).winograd, **change)))


def test_scratch_and_schedule_must_fit_the_tiles():
    made = forced(graph(9, 5, (3, 3), (7, 11)), (4, 4))
    with pytest.raises(PlanError, match="not two values"):
        check(with_step(made, scratch=()))
    narrow = Schedule(2, 2, (1, 1), 1, 5, False)
    with pytest.raises(PlanError, match=r"strip|vectors"):
        check(with_step(made, schedule=narrow))
    strided = plan(graph(9, 5, (3, 3), (7, 11), stride=2), "x86-64-sse")
    with pytest.raises(PlanError, match="no strides"):
        check(with_step(strided, winograd=conv(made).winograd))


# -- the choice --------------------------------------------------------------------------------

HEAVY = graph(128, 128, (3, 3), (28, 28))


def test_a_heavy_layer_is_tiled_and_says_what_it_was_compared_with():
    step = conv(plan(HEAVY, "x86-64-avx512"))
    assert step.winograd is not None
    names = [name for name, _ in step.choice.candidates]
    assert step.choice.winner == names[0] == f"winograd {step.winograd}"
    assert {"winograd F(2,2)", "winograd F(1,4)", "32x14 v16"} <= set(names)


@pytest.mark.parametrize(
    "name", ["32x14 v16 by 64 channels", "8x48 panel", "winograd F(4,4) by 14 tiles"]
)
def test_any_candidate_can_be_asked_for(name):
    usual = conv(plan(HEAVY, "x86-64-avx512"))
    assert name in dict(usual.choice.candidates)
    assert conv(plan(HEAVY, "x86-64-avx512", algorithms=(name,))).choice.winner == name != usual


def test_products_are_counted_between_the_transforms():
    made = plan(HEAVY, "x86-64-avx512", algorithms=("winograd F(4,4)",))
    assert stored_macs(made, conv(made)) == 6 * 6 * 128 * 128 * 7 * 7


def test_an_algorithm_can_be_forbidden():
    step = conv(plan(HEAVY, "x86-64-avx512", algorithms=("direct",)))
    assert step.winograd is None
    assert not any("winograd" in name for name, _ in step.choice.candidates)


@pytest.mark.parametrize("name", ["winograd F()", "winograd F(2,)", "fft", "winograd F(2, 2)"])
def test_an_unknown_algorithm_is_refused(name):
    with pytest.raises(ValueError, match="there are 'direct', 'winograd'"):
        plan(HEAVY, algorithms=(name,))


@pytest.mark.parametrize(
    ("of", "machine"),
    [
        (graph(64, 64, (1, 1), (28, 28)), "x86-64-avx512"),
        (graph(64, 64, (3, 3), (28, 28), stride=2), "x86-64-avx512"),
        (graph(64, 3, (3, 3), (28, 28)), "x86-64-avx512"),
        (HEAVY, "opencl"),
    ],
)
def test_what_cannot_be_tiled_is_direct(of, machine):
    assert conv(forced(of, (2, 2), machine)).winograd is None


def test_a_layer_for_opencl_says_why_it_is_direct():
    assert conv(plan(HEAVY, "opencl")).choice.reason.endswith("Winograd is for CPUs so far")


def test_no_tile_is_longer_than_its_axis():
    found = ways((64, 64, 3, 3), (1, 3, 1), target("x86-64-avx512"), (WINOGRAD,))
    assert {way.winograd.outputs for way in found} == {(2, 1)}


def pruned(keep):
    dense = HEAVY.constants["w"].array
    scheme = scheme_from_text("kgs:32x4")
    mask = scheme.project(np.abs(dense), keep)
    constants = {**HEAVY.constants, "w": Constant(dense * mask)}
    return replace(HEAVY, constants=constants, sparsity={"w": Sparsity(scheme, Constant(mask))})


def test_a_pruned_layer_is_tiled_only_while_that_is_faster():
    little, much = (conv(plan(pruned(keep), "x86-64-avx512")) for keep in (0.8, 0.05))
    assert little.winograd is not None
    assert "faster than the kept weights" in little.choice.reason
    assert much.winograd is None
    assert any("winograd" in name for name, _ in much.choice.candidates)


# -- code --------------------------------------------------------------------------------------


@pytest.mark.parametrize("outputs", [(4,), (2, 4)])
def test_transforms_are_well_formed_and_compile_for_every_kind_of_cpu(outputs):
    for name in ("x86-64-sse", "x86-64-avx512", "cortex-a53"):
        machine = target(name)
        assert isinstance(machine, LlvmTarget)
        taps, fused = (3,) * len(outputs), machine.has("fma")
        kernels = (
            WinogradInputKernel(outputs, taps, machine.lanes, fused),
            WinogradOutputKernel(outputs, taps, machine.lanes, ("relu", ()), True, fused),
        )
        for kernel in kernels:
            for entry in lower(kernel).entries:
                check_program(entry.program)
                assert parse(str(entry.program)) == entry.program
        programs = [lower(kernel).program for kernel in kernels]
        assert emit_object(emit_ir(programs, machine), machine, 0)
