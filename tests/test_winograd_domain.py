"""Convolutions over points of transformed kernels: what they mean, how they are pruned, and that
what is compiled computes just that."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.check import check_plan
from jit.decide import plan
from jit.decide.repack import reblocked
from jit.executable import open_executable
from jit.interpret_plan import interpret_plan
from jit.launches.points import columns_held, point_tables, points_of
from jit.plan_file import load_plan, save_plan
from refimpl.graph import (
    Constant,
    Graph,
    GraphError,
    Node,
    Sparsity,
    attributes,
    evaluate,
    macs,
    parse,
)
from refimpl.ops import OPERATORS
from refimpl.ops.contractions import conv_fast
from refimpl.plan import PlanError, Schedule, check, stored_macs
from refimpl.plan import evaluate as evaluate_plan
from refimpl.schemes import KGS, Filter, Unstructured
from refimpl.tiles import pack
from refimpl.winograd import (
    error_form,
    point_gains,
    points,
    refit,
    taps,
    tile_counts,
    transform_weight,
    transforms,
)
from refimpl.winograd_domain import prune_points, to_winograd
from tests.operators import ATTEMPTS, SEEDS

MEANING = OPERATORS["winograd_conv"]


def layer(filters, channels, kernel, size, *, batch=1, seed=0, **changes):
    """A convolution with bias, a batch norm, a residual and relu behind it; padding 1 before."""
    rng, rank = np.random.default_rng(seed), len(kernel)
    padding = tuple((int(k > 1), int(k > 2)) for k in kernel)
    given = {"stride": (1,) * rank, "padding": padding, "dilation": (1,) * rank, "groups": 1}
    given |= changes
    norm = {f"n{i}": rng.uniform(0.5, 2, filters) for i in range(4)}
    arrays = {"w": rng.standard_normal((filters, channels // given["groups"], *kernel))}
    arrays |= {"b": rng.standard_normal(filters), **norm}
    constants = {n: Constant(a.astype(np.float32)) for n, a in arrays.items()}
    nodes = (
        Node(("c",), "conv", ("x", "w", "b"), attributes(**given)),
        Node(("d",), "batch_norm", ("c", *norm), attributes(eps=1e-5)),
    )
    found = Graph("one", (("x", (batch, channels, *size)),), nodes, ("d",), constants)
    out = evaluate(found, np.zeros((batch, channels, *size)))[0].shape
    more = (Node(("s",), "add", ("d", "z")), Node(("y",), "relu", ("s",)))
    inputs = (*found.inputs, ("z", out))
    return replace(found, inputs=inputs, nodes=(*nodes, *more), outputs=("y",))


def arrays(of, seed=1):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(np.float32) for _, shape in of.inputs]


GROUPS = KGS(8, 4)


def thin(of, outputs, scheme=GROUPS, keep=0.4):
    return prune_points(to_winograd(of, "c", outputs), "c", scheme, keep)


def tiled(made):
    return next(s for s in made.steps if s.op == "winograd_conv")


# -- the meaning -------------------------------------------------------------------------------


@st.composite
def operands(draw):
    """x, a transformed kernel, its mask, outputs and padding; and the kernel itself."""
    rank = draw(st.integers(1, 3))
    kernel = tuple(draw(st.integers(1, 3)) for _ in range(rank))
    outputs = tuple(1 if r == 1 else draw(st.integers(1, 4 if rank < 3 else 2)) for r in kernel)
    padding = tuple((draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in kernel)
    axes = zip(kernel, outputs, padding, strict=True)
    size = tuple(max(1, m + r - 1 - sum(p)) + draw(st.integers(0, 3)) for r, m, p in axes)
    rng = np.random.default_rng(draw(SEEDS))
    channels, filters = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    x = rng.standard_normal((draw(st.integers(1, 2)), channels, *size))
    w = rng.standard_normal((filters, channels, *kernel))
    u = np.moveaxis(transform_weight(w, transforms(outputs, kernel)), (-2, -1), (0, 1))
    return x, w, u, rng.random(u.shape) < 0.5, {"outputs": outputs, "padding": padding}


@given(operands())
@ATTEMPTS
def test_points_of_a_kernel_are_its_convolution(case):
    x, w, u, _, given = case
    ones = (1,) * (x.ndim - 2)
    direct = conv_fast(x, w, stride=ones, padding=given["padding"], dilation=ones, groups=1)
    np.testing.assert_allclose(MEANING.evaluate(x, u, **given), direct, rtol=1e-9, atol=1e-9)


@given(operands())
@ATTEMPTS
def test_the_vectorised_twin_means_the_same(case):
    x, _, u, kept, given = case
    u, bias = np.where(kept, u, 0), np.arange(len(u), dtype=np.float64)
    meant = MEANING.evaluate(x, u, bias, kept=kept, **given)
    found = MEANING.fast(x, u, bias, kept=kept, **given)
    np.testing.assert_allclose(found, meant, rtol=1e-9, atol=1e-9)
    assert meant.shape == MEANING.shape([x.shape, u.shape, bias.shape], given)


def test_the_later_tile_makes_what_two_reach():
    """Of F(2, 1) in disguise: F(2, 3) with the last point alone, which only its last output reads;
    five outputs are tiles from 0, 2 and 3 on."""
    u = np.zeros((1, 1, 4))
    u[..., 3] = 1
    a, _, b = transforms((2,), (3,))[0].arrays(np.float64)
    x = np.arange(1.0, 8.0)[None, None] ** 2
    y = MEANING.evaluate(x, u, outputs=(2,), padding=((0, 0),))[0, 0]
    wanted = [a[:, 3] * (b[3] @ x[0, 0, i : i + 4]) for i in (0, 2, 3)]
    np.testing.assert_allclose(y, [*wanted[0], wanted[1][0], *wanted[2]])
    assert wanted[1][1] != wanted[2][0]


def test_absent_points_take_no_part():
    u, kept = np.zeros((2, 1, 4)), np.zeros((2, 1, 4), bool)
    kept[1], u[1] = True, 1
    x = np.full((1, 1, 6), np.inf)
    with np.errstate(all="ignore"):
        found = [f(x, u, kept=kept, outputs=(2,), padding=((0, 0),))
                 for f in (MEANING.evaluate, MEANING.fast)]  # fmt: skip
    for y in found:
        assert not np.isfinite(y[:, 1]).any()


# -- the rewrite -------------------------------------------------------------------------------


def test_a_rewritten_layer_computes_the_same_and_counts_what_it_multiplies():
    of = layer(5, 3, (3, 3), (6, 7), batch=2)
    new = to_winograd(of, "c", (2, 4))
    assert [n.op for n in new.nodes] == ["winograd_conv", "batch_norm", "add", "relu"]
    assert "w" not in new.constants
    assert new.constants["w.points"].array.shape == (5, 3, 4, 6)
    x = arrays(of)
    np.testing.assert_allclose(evaluate(new, *x)[0], evaluate(of, *x)[0], atol=1e-4)
    dense = macs(of)["c"][0]
    assert macs(new)["c"] == (dense, 15 * 24 * 2 * 3 * 2)  # points, tiles, images


def test_its_text_parses_back():
    new = thin(layer(5, 4, (3, 3), (6, 7)), (2, 4))
    masks = {name: known.mask for name, known in new.sparsity.items()}
    assert parse(str(new), new.constants, masks) == new


@pytest.mark.parametrize(
    ("change", "node", "outputs", "rule"),
    [
        ({"stride": (2, 1)}, "c", (2, 2), r"stride \(2, 1\)"),
        ({"dilation": (1, 2)}, "c", (2, 2), r"dilation \(1, 2\)"),
        ({"groups": 2}, "c", (2, 2), "2 groups"),
        ({}, "c", (2,), "no tiles"),
        ({}, "c", (2, 9), "no transforms"),
        ({}, "c", (6, 2), "do not fit"),
        ({}, "d", (2, 2), "it is a batch_norm"),
        ({}, "e", (2, 2), "no such node"),
    ],
)
def test_what_has_no_such_form_is_refused_by_name(change, node, outputs, rule):
    with pytest.raises(GraphError, match=f"node '{node}'.*{rule}"):
        to_winograd(layer(4, 4, (3, 3), (5, 7), **change), node, outputs)


def test_a_pruned_kernel_is_refused():
    of = layer(4, 4, (3, 3), (6, 7))
    mask = np.zeros((4, 4, 3, 3), bool)
    mask[0] = True
    weight = Constant(np.where(mask, of.constants["w"].array, np.float32(0)))
    constants = {**of.constants, "w": weight}
    pruned = replace(of, constants=constants, sparsity={"w": Sparsity(Filter(), Constant(mask))})
    with pytest.raises(GraphError, match="prune the points"):
        to_winograd(pruned, "c", (2, 2))


def test_a_weight_that_two_layers_share_stays_for_the_other():
    of = layer(4, 4, (3, 3), (6, 7))
    second = replace(of.nodes[0], outputs=("again",), inputs=("c", "w", "b"))
    given = attributes(stride=(1, 1), padding=((1, 1),) * 2, dilation=(1, 1), groups=1)
    nodes = (replace(of.nodes[0], attributes=given), replace(second, attributes=given))
    of = replace(of, nodes=nodes, outputs=("again",), inputs=of.inputs[:1])
    new = to_winograd(of, "c", (2, 2))
    assert {"w", "w.points"} <= new.constants.keys()
    both = to_winograd(new, "again", (2, 2))
    assert "w" not in both.constants


# -- pruning -----------------------------------------------------------------------------------


def outer_maps(outputs, kernel):
    """For every point, the matrix from a tile's inputs to its outputs, flat: (points, m * t)."""
    found = np.ones((1, 1))
    for t in transforms(outputs, kernel):
        a, _, b = t.arrays(np.float64)
        each = np.stack([np.outer(a[:, p], b[p]).reshape(-1) for p in range(t.n)])
        found = np.kron(found, each)
    return found


@pytest.mark.parametrize(
    ("outputs", "kernel"), [((2,), (3,)), ((4,), (3,)), ((2, 4), (3, 3)), ((1, 3), (3, 2))]
)
def test_the_error_form_is_that_of_the_maps(outputs, kernel):
    maps = outer_maps(outputs, kernel)
    np.testing.assert_allclose(error_form(outputs, kernel), maps @ maps.T, atol=1e-9)
    for p, gain in enumerate(point_gains(outputs, kernel).reshape(-1)):
        rest = np.delete(maps, p, axis=0)
        best, *_ = np.linalg.lstsq(rest.T, maps[p], rcond=None)
        assert gain == pytest.approx(np.linalg.norm(maps[p] - best @ rest), rel=1e-6)


def test_a_fit_is_the_best_there_is():
    outputs, kernel, rng = (2, 4), (3, 3), np.random.default_rng(0)
    u, kept = rng.standard_normal((3, 2, 4, 6)), rng.random((3, 2, 4, 6)) < 0.4
    fitted = refit(u, kept, outputs, kernel)
    assert not fitted[~kept].any()
    slope = (fitted - u).reshape(6, -1) @ error_form(outputs, kernel)
    np.testing.assert_allclose(slope[kept.reshape(6, -1)], 0, atol=1e-9)
    np.testing.assert_array_equal(refit(u, np.ones_like(kept), outputs, kernel).shape, u.shape)


@pytest.mark.parametrize("scheme", [KGS(8, 4), Unstructured(), Filter()])
def test_points_are_pruned_by_any_scheme(scheme):
    new = thin(layer(16, 8, (3, 3), (8, 8)), (2, 2), scheme, 0.5)
    mask = new.sparsity["w.points"].mask.array
    assert mask.mean() == pytest.approx(0.5, abs=0.03)
    dense, kept = macs(new)["c"]
    assert kept == mask.sum() * 16
    assert dense == 16 * 8 * 9 * 64


@pytest.mark.parametrize("outputs", [(2, 2), (4, 4)])
def test_pruning_errs_less_than_leaving_the_layer_out(outputs):
    """Which plain magnitude without a fit does not: points cancel each other."""
    rng = np.random.default_rng(3)
    u = np.moveaxis(
        transform_weight(rng.standard_normal((16, 8, 3, 3)), transforms(outputs, (3, 3))),
        (-2, -1), (0, 1),
    )  # fmt: skip
    form = error_form(outputs, (3, 3))

    def error(e):
        flat = e.reshape(-1, len(form))
        return np.einsum("np,pq,nq->", flat, form, flat)

    plain = KGS(8, 4).project(u, 0.5)
    ours = KGS(8, 4).project(u * point_gains(outputs, (3, 3)), 0.5)
    fitted = refit(u, ours, outputs, (3, 3))
    assert error(u - fitted) < 0.7 * error(u) < error(np.where(plain, 0, u))


def test_what_is_not_its_own_cannot_be_pruned():
    of = layer(4, 4, (3, 3), (6, 7))
    with pytest.raises(GraphError, match="it is a conv"):
        prune_points(of, "c", KGS(4, 4), 0.5)
    new = to_winograd(of, "c", (2, 2))
    inputs = (*new.inputs, ("w.points", (4, 4, 4, 4)))
    constants = {n: c for n, c in new.constants.items() if n != "w.points"}
    new = replace(new, inputs=inputs, constants=constants)
    with pytest.raises(GraphError, match="no constant"):
        prune_points(new, "c", KGS(4, 4), 0.5)


# -- the plan ----------------------------------------------------------------------------------

THIN = thin(layer(9, 20, (3, 3), (7, 11), batch=2), (2, 4))


@pytest.mark.parametrize("stage", ["naive", "channels", "address", "last"])
@pytest.mark.parametrize(
    ("filters", "channels", "kernel", "size", "outputs"),
    [(7, 5, (3, 3), (5, 6), (2, 4)), (5, 4, (3,), (7,), (4,)),
     (4, 6, (3, 1, 2), (3, 2, 4), (2, 1, 3)), (5, 4, (3, 3), (3, 5), (1, 2))],
)  # fmt: skip
def test_every_stage_means_the_operator(filters, channels, kernel, size, outputs, stage):
    of = thin(layer(filters, channels, kernel, size), outputs, KGS(3, 2))
    made = plan(of, "x86-64-sse")
    x = arrays(of)
    meant = evaluate_plan(made, *x)
    found = interpret_plan(made, *x, stage=stage)
    np.testing.assert_allclose(found[made.outputs[0]], meant[made.outputs[0]], atol=1e-4)
    np.testing.assert_allclose(meant[made.outputs[0]], evaluate(of, *x)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("target", ["x86-64-sse", "host"])
@pytest.mark.parametrize("keep", [1e-6, 0.3, 1.0])
def test_what_runs_is_within_its_bound(target, keep):
    of = thin(layer(37, 20, (3, 3), (7, 11), batch=2), (4, 4), KGS(16, 4), keep)
    made = plan(of, target)
    with open_executable(made, "host-isolated", guard="end") as net:
        report = check_plan(made, net, arrays(of))
    assert report.ok, str(report)


def test_whole_numbers_demand_equality():
    of = to_winograd(layer(18, 16, (3, 3), (9, 5)), "c", (2, 2))
    rng = np.random.default_rng(0)
    u = Constant(rng.integers(-3, 4, (18, 16, 4, 4)).astype(np.float32))
    bare = replace(of, nodes=of.nodes[:1], outputs=("c",), inputs=of.inputs[:1],
                   constants={"w.points": u, "b": of.constants["b"]})  # fmt: skip
    bare = replace(bare, constants={**bare.constants, "b": Constant(np.ones(18, np.float32))})
    made = plan(bare, "host")
    x = rng.integers(-4, 5, bare.inputs[0][1]).astype(np.float32)
    with open_executable(made, "host-isolated") as net:
        report = check_plan(made, net, [x])
    step = next(s for s in report.steps if s.op == "winograd_conv")
    assert report.ok
    assert step.exact == step.elements


def test_the_plan_counts_what_is_multiplied():
    made = plan(THIN, "x86-64-avx512")
    step = tiled(made)
    assert (step.dense_macs, step.kept_macs) == macs(THIN)["c"]
    assert step.winograd.outputs == (2, 4)
    assert stored_macs(made, step) >= step.kept_macs
    assert "% of the points" in step.choice.reason
    assert "winograd F(2,4)" in str(made)


def test_weights_take_the_bytes_of_what_is_kept():
    of = layer(32, 16, (3, 3), (8, 8))
    few, all_ = (plan(thin(of, (4, 4), KGS(32, 4), keep), "host") for keep in (0.1, 1.0))
    assert few.weight_bytes < 0.2 * all_.weight_bytes


def test_a_batch_norm_scales_the_points():
    made = plan(THIN, "host")
    assert tiled(made).covers == ("c", "d", "s", "y")
    assert not [s for s in made.steps if s.op == "affine"]


def test_a_file_holds_it(tmp_path):
    made = plan(THIN, "host")
    save_plan(made, tmp_path / "plan")
    assert load_plan(tmp_path / "plan") == made


def test_opencl_refuses_by_name():
    with pytest.raises(PlanError, match=r"c: a winograd_conv is compiled for CPUs only.*opencl"):
        plan(THIN, "opencl")


def test_threads_share_the_work():
    made = plan(THIN, "host", threads=2)
    with open_executable(made, "host-isolated") as net:
        assert check_plan(made, net, arrays(THIN)).ok


OTHER = attributes(outputs=(4, 2), padding=((1, 1), (1, 1)))
PADDED = attributes(padding=((1, 1), (1, 1)))
UNSOUND = [
    ({"winograd": None}, "without tiles"),
    ({"winograd": replace(tiled(plan(THIN, "host")).winograd, outputs=(2, 2))}, "it means tiles"),
    ({"attributes": OTHER}, "shape|tiles"),
    ({"attributes": PADDED}, "attributes"),
    ({"op": "conv"}, "attributes"),
    ({"scratch": ()}, "not two values"),
]


@pytest.mark.parametrize(("change", "rule"), UNSOUND)
def test_unsound_steps_are_refused(change, rule):
    made = plan(THIN, "host")
    steps = tuple(replace(s, **change) if s is tiled(made) else s for s in made.steps)
    with pytest.raises(PlanError, match=rule):
        check(replace(made, steps=steps))


def test_columns_are_listed_by_point_then_strip_then_channel():
    rng = np.random.default_rng(0)
    u, kept = rng.standard_normal((6, 8, 4)).astype(np.float32), rng.random((6, 8, 4)) < 0.5
    kept[:4, 4:] = False  # no column of the second block in the first strip
    kept = np.repeat(kept[::2, ::2], 2, axis=0).repeat(2, axis=1)  # runs of 2 channels
    u = np.where(kept, u, np.float32(0))
    tiles = [strip[0] for strip in pack(u, kept, [4, 4], 4).strips]
    held = columns_held(tiles, 4)
    schedule = Schedule(4, 4, (1, 1), 2, 4, False)
    strips = [points_of(tile, u.shape) for tile in tiles]
    made = point_tables(iter(strips), held, 4, 8, schedule)
    assert held.tolist() == [[int(kept[s : s + 4, :, p].any(axis=0).sum()) for s in (0, 4)]
                             for p in range(4)]  # fmt: skip
    assert made.last[-1] == made.channel.size == held.sum() // 2
    for number, (first, last) in enumerate(zip(made.first, made.last, strict=True)):
        (place, block), at = divmod(number, 2), slice(first, last)
        point, strip = divmod(place, 2)
        assert (made.channel[at] // 4 == block).all()
        assert (made.point[at] == point).all()
        for run, channel in zip(range(first, last), made.channel[at], strict=True):
            wanted = np.zeros((2, 4), np.float32)
            rows = u[strip * 4 : strip * 4 + 4, channel : channel + 2, point].T
            wanted[:, : rows.shape[1]] = rows
            np.testing.assert_array_equal(made.values[2 * run : 2 * run + 2], wanted)


def test_only_what_has_tiles_can_have_other_blocks_of_them():
    made = plan(layer(4, 4, (3, 3), (6, 7)), "host", algorithms=("direct",))
    with pytest.raises(PlanError, match="c: no step"):
        reblocked(made, "c", (1, 1, 1))


def test_counts_of_tiles_and_points():
    assert taps((2, 4), (4, 6)) == (3, 3)
    assert points((2, 4), (3, 3)) == 24
    assert tile_counts((2, 4), (7, 11)) == (4, 3)
