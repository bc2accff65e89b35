"""The table of what optimisations are worth, and sparse formats beside our own layers."""

import json

import pytest

from bench import ablation
from bench.ablation import ALL, NONE, ablate, ablate_layer
from bench.comparison import Comparison, Row, Work
from bench.contest import Contest, compiled
from bench.layer import DENSE, PRUNED, bench_layer, formats_of
from bench.layers import LayerResult, prunings
from bench.schemes import scheme_costs
from bench.shape import layer_graph, layer_shape
from gossamer.cli import main
from jit.decide import OPTIMISATIONS
from refimpl.plan import PlanError
from refimpl.schemes import KGS, Dense, Pattern, Unstructured

LAYER = "conv2d:37x9x3x3@5x6"


def test_rows_go_from_none_to_all_and_all_but_each():
    found = ablate_layer(LAYER, "kgs:4x3", 0.4, target="x86-64-sse", rounds=1)
    assert found.correct
    labels = [rung.label for rung in found.added]
    assert labels == [NONE, *(f"+{name}" for name in OPTIMISATIONS)]
    assert labels[-1] == ALL
    assert found.added[0].without == tuple(OPTIMISATIONS)
    assert found.added[-1].without == ()
    assert [rung.without for rung in found.removed] == [(name,) for name in OPTIMISATIONS]
    for rung, above in zip(found.added[1:], found.added, strict=False):
        assert (rung.better, rung.worse) == (rung.measured, above.measured)
    for rung in found.removed:
        assert (rung.better, rung.worse) == (found.added[-1].measured, rung.measured)
        if rung.better == rung.worse:
            assert found.gain(rung) == 1
    assert found.table().row_count == 2 * len(OPTIMISATIONS) + 1
    held = json.loads(json.dumps(found.json()))
    assert held["added"][0]["gain"] is None
    assert held["added"][2]["published"] == "1.6-3.0"
    assert held["removed"][0]["without"] == ["compaction"]


def test_what_changes_nothing_is_measured_once():
    """A dense layer has nothing to compact and no order to find."""
    graph = layer_graph(layer_shape(LAYER), Dense(), 1.0)
    rungs, variants = ablation._plans(graph, "x86-64-sse")
    labels = [variant.label for variant in variants]
    assert len(labels) == len(set(labels)) < len(rungs)
    assert {rung.measured for rung in rungs} == set(labels)
    assert next(r for r in rungs if r.label == "all but reorder").measured == ALL


def test_a_network_is_ablated_as_a_whole():
    graph = layer_graph(layer_shape("linear:9x7,batch=3"), KGS(2, 2), 0.5)
    found = ablate(graph, rounds=1)
    assert found.correct
    assert found.subject == graph.name


def test_the_command_line(capsys):
    line = ["bench", "--layer", "linear:9x7", "--scheme", "kgs:2x2", "--keep", "0.5", "--ablate"]
    assert main([*line, "--runs", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["correct"]
    assert found["subject"].startswith("linear:9x7  kgs")
    assert main([*line, "--runs", "1"]) == 0
    assert "all but fusion" in capsys.readouterr().out


def test_a_plan_is_made_already(capsys, tmp_path):
    from jit.decide import plan
    from jit.plan_file import save_plan

    path = tmp_path / "net.safetensors"
    save_plan(plan(layer_graph(layer_shape("linear:3x3"), Dense(), 1.0)), path)
    assert main(["bench", str(path), "--ablate"]) != 0
    assert "--ablate takes its model" in capsys.readouterr().err
    assert main(["bench", "--layer", "linear:3x3", "--ablate", "--threads", "2"]) != 0


# -- formats, and dense layers computed directly --------------------------------------------------


def test_formats_stand_beside_a_pruned_layer():
    report = bench_layer(LAYER, "pattern:2x3", 0.2, peers=[], rounds=1)
    rows = {row.label: row for row in report.contest.comparison.rows}
    assert {DENSE, PRUNED, f"{PRUNED} csr", f"{PRUNED} fkw"} <= rows.keys()
    assert report.correct
    for storage in ("csr", "fkw"):
        work = rows[f"{PRUNED} {storage}"].work
        assert work.stored == work.kept == rows[PRUNED].work.kept


def test_what_goes_by_winograd_is_computed_directly_as_well():
    graph = layer_graph(layer_shape("conv2d:64x64x3x3@12x12"), KGS(16, 4), 0.9)
    made = compiled({"thin": graph}, "x86-64-avx512", direct=True)
    assert [variant.label for variant in made] == ["thin", "thin direct"]
    winograd, direct = (any(s.winograd for s in v.plan.steps) for v in made)
    assert winograd
    assert not direct


def test_formats_are_for_what_they_can_hold():
    shape, alone = layer_shape(LAYER), layer_shape("conv2d:8x1x3x3@5x5,groups=8")
    assert formats_of(shape, Unstructured(), "host") == ("csr",)
    assert formats_of(shape, Pattern(4, 8), "cortex-a76") == ("csr", "fkw")
    assert formats_of(shape, KGS(8, 4), "opencl") == ()
    assert formats_of(alone, Unstructured(), "host") == ()
    graph = layer_graph(shape, Unstructured(), 0.3)
    with pytest.raises(PlanError, match="fkw cannot hold its weight"):
        compiled({"pruned": graph}, "x86-64-sse", formats=("fkw",))


def result(*labels: str) -> LayerResult:
    """A layer pruned by half, whose contestants take a millisecond more each."""
    work = Work(9, 9, 9)
    rows = [Row(label, "", work, 0.0, ((1e6 * (i + 1),),)) for i, label in enumerate(labels)]
    contest = Contest(Comparison("ns", DENSE, tuple(rows)), {}, ())
    return LayerResult("c", layer_shape(LAYER), tuple(prunings(["kgs:8x4"], ["1/2"])), contest)


def test_gains_are_held_against_the_dense_direct_kernel():
    """Where Winograd is the best dense, it is shown, and the aim is about direct kernels."""
    thin = "ours kgs:8x4 1/2"
    found = result(DENSE, f"{DENSE} direct", thin, f"{thin} direct").findings()[1:]
    assert [(f.promise, f.ratio) for f in found] == [
        (f"{thin} direct / {DENSE} direct, speed", 0.5),
        (f"{thin} / {DENSE}, speed", pytest.approx(1 / 3)),
    ]
    (found,) = result(DENSE, thin).findings()[1:]
    assert (found.promise, found.ratio) == (f"{thin} / {DENSE}, speed", 0.5)


def test_schemes_tell_both_gains():
    (cost,) = scheme_costs(layer_shape("conv2d:64x64x3x3@20x20"), 0.5, "host", ["kgs:16x4"])
    assert cost.gain >= cost.gain_of_best > 0
