"""Layers, networks and aims of the benchmark: what they are, and how ratios are held to limits."""

import json

import numpy as np
import pytest

from bench import headline, layers, networks
from bench.aims import FASTEST, FEWER, Aim, aims_json, aims_table, find
from bench.command import share_from_text
from bench.comparison import Comparison, Row, Work
from bench.contest import Contest
from bench.errors import BenchError
from bench.layer import DENSE, PRUNED
from bench.rivals import Rival, rivals
from bench.shape import layer_graph, layer_shape
from refimpl.graph import macs
from refimpl.schemes import KGS, Dense, SchemeError

WORK = Work(100, 100, 100)


def row(label: str, *costs: float, refusal: str = "") -> Row:
    return Row(label, "", WORK, 0.0, tuple((cost,) for cost in costs), refusal)


RUN = Comparison("ns", DENSE, (
    row(DENSE, 12, 13, 14), row(PRUNED, 4, 4, 7), row("torch", 11, 11, 11),
    row("openvino", 10, 10, 10), row("ncnn", refusal="has no such layer"),
    row("mnn-sparse, pruned", 1, 1, 1), row("openvino, fewer filters", 3, 4, 5),
))  # fmt: skip


# -- aims ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("aim", "ratio", "met"),
    [
        (Aim(PRUNED, DENSE, 3.0), 3.0, True),
        (Aim(PRUNED, DENSE, 3.1), 3.0, False),
        (Aim(PRUNED, DENSE), 3.0, None),
        (Aim(DENSE, FASTEST, 1.3, "time"), 1.3, True),
        (Aim(DENSE, FASTEST, 1.2, "time"), 1.3, False),
        (Aim(PRUNED, FEWER, 1.0), 0.75, False),
        (Aim(PRUNED, "ncnn", 1.0), None, None),
        (Aim(PRUNED, "onnxruntime", 1.0), None, None),
    ],
)
def test_aims_are_held_against_their_rivals(aim, ratio, met) -> None:
    found = find("net", aim, RUN)
    assert found.ratio == (ratio if ratio is None else pytest.approx(ratio, rel=0.05))
    assert found.met == met


def test_the_fastest_is_of_the_dense_network() -> None:
    assert find("net", Aim(DENSE, FASTEST), RUN).promise == "ours dense / openvino, speed"
    assert find("net", Aim(PRUNED, FEWER), RUN).promise.endswith("openvino, fewer filters, speed")
    alone = Comparison("ns", DENSE, RUN.rows[:2])
    assert find("net", Aim(DENSE, FASTEST), alone).ratio is None


def test_aims_as_tables_and_json() -> None:
    found = [
        find("net", Aim(DENSE, FASTEST, 1.05, "time"), RUN),
        find("net", Aim(PRUNED, DENSE, 2.0, stretch=True), RUN),
        find("net", Aim(PRUNED, "ncnn", 1.0), RUN),
    ]
    table = aims_table(found)
    assert list(table.columns[4].cells) == ["at most 1.05", "at least 2 (stretch)", "at least 1"]
    assert list(table.columns[5].cells) == ["NOT MET", "met", ""]
    assert json.loads(json.dumps(aims_json(found)))[2]["ratio"] is None


def test_shares_as_text() -> None:
    assert share_from_text("1/3.6") == pytest.approx(1 / 3.6)
    assert share_from_text("0.25") == 0.25
    for bad in ("", "2", "1/0", "-1", "0", "nan", "a/b", "1/2/3"):
        with pytest.raises(BenchError, match="no share of weights"):
            share_from_text(bad)


# -- rivals ----------------------------------------------------------------------------------------


def test_the_peer_that_skips_zeros_is_given_pruned_networks() -> None:
    dense = layer_graph(layer_shape("linear:4x4"), Dense(), 1.0)
    thin = layer_graph(layer_shape("linear:4x4"), KGS(4, 1), 0.5)
    found = rivals(dense, {"pruned": thin}, ["torch", "mnn-sparse"], "host")
    assert found == [
        Rival("torch", "torch", dense),
        Rival("mnn-sparse, pruned", "mnn-sparse", thin),
    ]
    assert rivals(dense, {}, ["mnn-sparse"], "host") == []
    assert rivals(dense, {}, None, "qemu:cortex-a76") == []


# -- layers ----------------------------------------------------------------------------------------


def test_layers_are_layers() -> None:
    assert len(layers.LAYERS) == 31
    shapes = {name: layer_shape(text) for name, text in layers.LAYERS.items()}
    assert shapes["c3_128_256_8x28"].weight == (256, 128, 3, 3, 3)
    assert shapes["dw_96_112"].groups == 96
    assert shapes["pw_960_320_7"].weight == (320, 960, 1, 1)
    assert shapes["fc_25088_4096"].weight == (4096, 25088)


def results(*arguments, **options) -> list[layers.LayerResult]:
    return list(layers.bench_layers(*arguments, peers=[], rounds=1, **options))


def test_layers_end_to_end() -> None:
    chosen = layers.prunings(["kgs:8x4", "kgs:32x4"], ["1/2"])
    texts = {"wide": "conv2d:37x9x3x3@5x6", "deep": "conv2d:8x1x3x3@7x5,groups=8"}
    wide, deep = results(texts, chosen)
    assert [finding.promise for finding in wide.findings()] == [
        "ours dense / the fastest peer, time",
        "ours kgs:8x4 1/2 / ours dense, speed",
        "ours kgs:32x4 1/2 / ours dense, speed",
        "ours kgs:8x4 1/2 / ours kgs:32x4 1/2, speed",
    ]
    assert wide.contest.correct
    assert deep.prunings == ()  # a depthwise layer stays dense
    assert json.loads(json.dumps(wide.json()))["layer"] == "conv2d:37x9x3x3@5x6"
    table = layers.dense_table([wide, deep], [])
    assert table.row_count == 2


@pytest.mark.parametrize(
    ("channels", "compression", "share"),
    [
        (256, 2, 0.88),
        (512, 3.6, 0.88),
        (64, 4, 0.78),
        (128, 10, None),
        (256, 10, 0.8),
        (3, 2, None),
    ],
)
def test_how_much_of_the_saved_work_is_to_become_time(channels, compression, share) -> None:
    assert layers._share_of_ideal(channels, compression) == share


def test_a_refusal_is_told_by_layer_in_the_caption() -> None:
    run = Comparison("ns", DENSE, (row(DENSE, 2), row("ncnn", refusal="ncnn: no conv3d")))
    result = layers.LayerResult("c3", layer_shape("linear:2x2"), (), Contest(run, {}, ()))
    assert "ncnn: no conv3d (c3)" in str(layers.dense_table([result], ["ncnn"]).caption)


def test_the_command_of_layers(capsys) -> None:
    line = [
        "linear:9x7",
        "--peers",
        "none",
        "--rounds",
        "1",
        "--sparse",
        "kgs:4x2",
        "--keep",
        "0.5",
    ]
    assert layers.main([*line, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert [c["label"] for c in found["contestants"]] == [DENSE, "ours kgs:4x2 0.5"]
    assert layers.main(line) == 0
    assert "pruned layers" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("conv9d:1x1", "is not a layer"),
        ("linear:4x4 --sparse magic", "magic"),
        ("linear:4x4 --sparse kgs:2x2 --keep 2", "no share of weights"),
        ("linear:4x4 --peers magic", "no peer is called 'magic'"),
        ("linear:4x4 --rounds 0", "not a number of 1 or more"),
    ],
)
def test_the_command_refuses_in_a_line(capsys, line: str, says: str) -> None:
    with pytest.raises(SystemExit) as ended:
        layers.main(line.split())
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


# -- networks --------------------------------------------------------------------------------------


def test_pruned_networks_keep_their_share() -> None:
    pytest.importorskip("torch")
    dense = networks.demo()
    thin = networks.pruned(dense, {"conv2.weight": 0.7, "conv4.weight": 0.6}, KGS(8, 4))
    assert set(thin.sparsity) == {"conv2.weight", "conv4.weight"}
    assert thin.sparsity["conv2.weight"].mask.array.mean() == pytest.approx(0.3, abs=0.01)
    with pytest.raises(BenchError, match=r"no weight 'conv9\.weight'"):
        networks.pruned(dense, {"conv9.weight": 0.5}, KGS(8, 4))
    assert dense == networks.demo()


def test_cases_have_the_shapes_and_work_of_their_networks() -> None:
    pytest.importorskip("torch")
    from bench.networks.case import Case

    assert Case("c3d", batch=2).shape == (2, 3, 16, 112, 112)
    assert Case("gru", batch=32, steps=100).shape == (100, 32, 39)
    assert str(Case("gru", 2)) == "gru, 20 steps, batch 2"
    case = Case("gru", steps=3)
    graph = case.graph(1 / 16)
    assert case.macs(1 / 16) == sum(dense for dense, _ in macs(graph).values())
    for name, steps, says in (("lenet", None, "known are vgg16"), ("c3d", 5, "has no steps")):
        with pytest.raises(BenchError, match=says):
            Case(name, steps=steps)
    with pytest.raises(BenchError, match="1 or more"):
        Case("c3d", batch=0)


def test_fewer_filters_leave_the_work_that_pruning_keeps() -> None:
    pytest.importorskip("torch")
    from bench.networks.case import Case

    case = Case("gru", steps=2)
    wanted = case.macs() // 10
    assert case.macs(case.width_for(wanted)) == pytest.approx(wanted, rel=0.02)


@pytest.mark.parametrize(
    ("name", "ratios", "gmac"),
    [("c3d", "2.53x", 15.24), ("c3d", "3.57x", 10.80), ("r2plus1d_18", "3.20x", 12.56)],
)
def test_prunings_are_the_papers(name: str, ratios: str, gmac: float) -> None:
    pytest.importorskip("torch")
    from bench.networks.case import Case
    from bench.networks.prunings import PRUNINGS

    graph = full_graph(Case(name))
    pruned = PRUNINGS[name][ratios].ratios(graph)
    assert pruned.keys() <= graph.constants.keys()
    work, weights = (
        macs(graph),
        {node.name: node.inputs[1] for node in graph.nodes if node.inputs[1:]},
    )
    work = macs(graph).items()
    kept = sum(dense * (1 - pruned.get(weights[name], 0)) for name, (dense, _) in work)
    assert kept / 1e9 == pytest.approx(gmac, abs=0.01)


def full_graph(case, held={}):  # noqa: B006 - captured once for two tests
    if case not in held:
        held[case] = case.graph()
    return held[case]


@pytest.mark.parametrize("name", ["s3d", "vgg16", "resnet18", "mobilenet_v2", "gru"])
def test_prunings_name_weights_of_their_networks(name: str) -> None:
    pytest.importorskip("torch")
    from bench.networks.case import Case
    from bench.networks.prunings import PRUNINGS

    graph = Case(name).graph(1 / 16)
    for pruning in PRUNINGS[name].values():
        ratios = pruning.ratios(graph)
        assert ratios
        assert ratios.keys() <= graph.constants.keys()
        shapes = [graph.constants[weight].array.shape for weight in ratios]
        assert not any(len(shape) > 2 and shape[1] == 1 for shape in shapes)  # depthwise


def test_layers_of_points_are_among_the_pruned() -> None:
    pytest.importorskip("torch")
    from bench.networks.case import Case
    from bench.networks.graphs import over_points, points_name
    from bench.networks.prunings import PRUNINGS

    graph = Case("c3d").graph(1 / 32)
    for pruning in PRUNINGS["c3d"].values():
        assert pruning.tiles.keys() <= pruning.ratios(graph).keys()
        points = over_points(graph, pruning.tiles)
        assert {points_name(name) for name in pruning.tiles} <= points.constants.keys()


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("torch")
    from bench.networks import definitions, prunings, sequences

    small = definitions.Definition(lambda width: sequences.gru(width / 16), (3, 1, 39))
    monkeypatch.setitem(definitions.DEFINITIONS, "tiny", small)
    thin = {"2x": prunings._recurrent(0.5, "bcr:8x16")}
    monkeypatch.setitem(prunings.PRUNINGS, "tiny", thin)


def test_a_network_end_to_end(tiny) -> None:
    pytest.importorskip("onnxruntime")
    from bench.networks.case import Case
    from bench.networks.measure import bench_network

    report = bench_network(Case("tiny", batch=2), peers=["onnxruntime"], rounds=1)
    assert report.correct
    labels = [row.label for row in report.contest.comparison.rows]
    assert labels == [DENSE, PRUNED, "onnxruntime", "onnxruntime, fewer filters"]
    dense, thin, _, fewer = (row.work.kept for row in report.contest.comparison.rows)
    assert fewer == pytest.approx(thin, rel=0.1)
    assert thin < 0.6 * dense
    assert report.pruning == "2x"
    assert {f.promise for f in report.findings()} >= {"ours pruned / ours dense, speed"}
    assert json.loads(json.dumps(report.json()))["input"] == [3, 2, 39]
    assert "tiny, 3 steps, batch 2 at 2x" in str(report.table().title)


def test_a_network_pruned_in_the_winograd_domain_runs_beside_that_of_taps(monkeypatch) -> None:
    torch = pytest.importorskip("torch")
    from bench.networks import definitions, prunings
    from bench.networks.case import Case
    from bench.networks.measure import bench_network

    def make(_: float) -> torch.nn.Module:
        conv = torch.nn.Conv2d
        return torch.nn.Sequential(conv(3, 16, 3, padding=1), conv(16, 32, 3, padding=1))

    monkeypatch.setitem(definitions.DEFINITIONS, "tiny", definitions.Definition(make, (1, 3, 9, 8)))
    thin = prunings.NetworkPruning(lambda _: {"1.weight": 0.5}, tiles={"1.weight": (2, 4)})
    monkeypatch.setitem(prunings.PRUNINGS, "tiny", {"2x winograd": thin})
    report = bench_network(Case("tiny"), peers=[], rounds=1)
    assert report.correct
    labels = [row.label for row in report.contest.comparison.rows]
    assert labels == [DENSE, PRUNED, "ours pruned by taps"]
    dense, points, taps = (row.work for row in report.contest.comparison.rows)
    assert dense.dense == points.dense == taps.dense
    assert points.kept - 31104 == pytest.approx((taps.kept - 31104) * 24 / 72, rel=0.2)


def test_two_threads_take_part_beside_one(tiny, monkeypatch, tmp_path) -> None:
    from bench.networks.case import Case
    from bench.networks.measure import bench_network

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    told: list[str] = []
    report = bench_network(Case("tiny"), peers=[], rounds=1, threads=2, tune=True, tell=told.append)
    assert report.correct
    labels = [row.label for row in report.contest.comparison.rows]
    assert labels == [f"{o}{n}" for n in ("", ", 1 thread") for o in (DENSE, PRUNED)]
    aimed = {f.promise for f in report.findings() if f.aim == "at least 1.85"}
    assert aimed == {f"{o} / {o}, 1 thread, speed" for o in (DENSE, PRUNED)}
    assert any("candidates are known" in text for text in told)
    assert "2 threads" in str(report.table().title)


def test_the_command_of_networks(tiny, capsys) -> None:
    from bench.networks.__main__ import main

    assert main(["tiny", "--pruning", "none", "--peers", "none", "--rounds", "1"]) == 0
    assert "tiny, 3 steps dense" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["tiny", "--pruning", "9x"])
    assert ended.value.code == 2
    assert "tiny is not pruned at '9x' here; known are 2x, none" in capsys.readouterr().err


def test_the_group_suits_the_target() -> None:
    pytest.importorskip("torch")
    from bench.networks.measure import suiting_scheme

    assert suiting_scheme("cortex-a76") == KGS(8, 4)


# -- the headline ----------------------------------------------------------------------------------


def test_the_headline_names_what_it_could_not_measure(tiny, monkeypatch) -> None:
    from bench.networks.case import Case

    def refuse(case, **_):
        raise SchemeError("it cannot keep that")

    monkeypatch.setattr(headline, "bench_network", refuse)
    monkeypatch.setattr(headline, "_NETWORKS", ((Case("tiny"), None, (), 1),))
    monkeypatch.setattr(headline, "_DENSE_LAYERS", ())
    monkeypatch.setattr(headline, "_PRUNED_LAYERS", ())
    found = headline.measure(1, 0, False, lambda _: None)
    assert found.refused == ["tiny, 3 steps: it cannot keep that"]
    assert not found.correct
    assert "NOT MEASURED: tiny" in str(found.tables()[-1].caption)


def test_the_headline_is_of_known_layers() -> None:
    names = {*headline._DENSE_LAYERS, *headline._PRUNED_LAYERS}
    assert names <= layers.LAYERS.keys()
    empty = headline.Headline()
    assert empty.correct
    assert empty.json()["aims"] == []
    assert np.isfinite(len(empty.tables()))
