"""What the benchmark promises: shapes, masks, the exporter, the driver, peers that misbehave."""

import json
import os
import re
import signal
import socket
import sys
import threading
from dataclasses import dataclass, field

import numpy as np
import pytest

from bench.compare import Entry, Work, compare, judge
from bench.contest import target_of
from bench.errors import BenchError
from bench.layer import DENSE, PRUNED, bench_layer
from bench.peers import Peer, PeerError, PeerProcesses, client, open_peer, wire
from bench.shape import layer_graph, layer_output, layer_shape
from jit.devices import open_device
from jit.session import DeviceError
from refimpl.graph import Constant, Graph, Node, attributes, evaluate
from refimpl.importers.build import Builder
from refimpl.schemes import KGS, Dense, Filter, SchemeError, Unstructured, Vanilla

WORK = Work(100, 100, 100)


# -- layers as text ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "output"),
    [
        ("conv3d:5x3x3x3x3@4x7x5", (1, 5, 4, 7, 5)),
        ("conv3d:5x3x3x1x2@4x7x5,stride=1x2x1,padding=0", (1, 5, 2, 4, 4)),
        ("conv2d:6x3x3x3@9x7,stride=2,batch=3", (3, 6, 5, 4)),
        ("conv2d:6x1x5x5@9x7,dilation=2x1,padding=1,groups=6", (1, 6, 3, 5)),
        ("conv1d:7x5x3@11", (1, 7, 11)),
        ("linear:13x9", (1, 13)),
        ("linear:13x9,batch=2", (2, 13)),
    ],
)
def test_layer_text(text: str, output: tuple[int, ...]) -> None:
    shape = layer_shape(text)
    assert layer_output(shape) == output
    assert layer_shape(str(shape)) == shape
    graph = layer_graph(shape, Dense(), 1.0)
    x = np.zeros(shape.input)
    assert evaluate(graph, x)[0].shape == output


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is not a layer"),
        ("conv4d:1x1x1x1x1x1@1x1x1x1", "is not a layer"),
        ("conv2d:8x4x3x3", "2 of its input"),
        ("conv2d:8x4x3@5x5", "4 sizes of its weight"),
        ("linear:8x4@5", "0 of its input"),
        ("linear:8x4,stride=2", "unknown option 'stride'"),
        ("conv2d:8x4x3x3@5x5,pad=1", "unknown option 'pad'"),
        ("conv2d:8x4x3x3@5x5,stride=1x1x1", "stride takes 1 or 2 sizes"),
        ("conv2d:8x4x3x3@5x5,groups=2x2", "groups takes 1 sizes"),
        ("conv2d:8x4x3x3@5x5,groups=3", "do not divide into 3 groups"),
        ("conv2d:8x4x3x3@5x5,stride=0", "1 or more"),
        ("conv2d:8x4x9x9@5x5,padding=0", "does not fit"),
        ("conv2d:8x0x3x3@5x5", "1 or more"),
        ("linear:999999999999999999x4", "at most"),
        ("conv2d:1x1x1x1@1x1,padding=99999", "more than"),
        ("conv1d:٣x1x1@1", "is not a layer"),
    ],
)
def test_layer_text_refused(text: str, says: str) -> None:
    with pytest.raises(BenchError, match=says):
        layer_shape(text)


# -- graphs and masks ----------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", [KGS(4, 3), Vanilla(3, 2), Filter(), Unstructured()])
@pytest.mark.parametrize("text", ["conv3d:13x7x2x3x1@5x4x6", "conv2d:12x5x3x3@6x5,groups=2"])
def test_masks_are_legal_and_near_the_share(scheme, text: str) -> None:
    graph = layer_graph(layer_shape(text), scheme, 0.4, seed=3)
    mask = graph.sparsity["weight"].mask.array
    unit = scheme.units(mask.shape).size().max() / mask.size
    assert abs(mask.mean() - 0.4) <= unit * 13
    assert not graph.constants["weight"].array[~mask].any()


def test_masks_are_random_balanced_and_repeatable() -> None:
    shape = layer_shape("conv2d:16x8x3x3@5x5")
    masks = [
        layer_graph(shape, KGS(4, 4), 0.3, seed=seed, scope=scope).sparsity["weight"].mask
        for seed, scope in ((0, None), (0, "strip"), (1, None), (0, "layer"))
    ]
    assert masks[0] == masks[1]
    assert masks[0] != masks[2]
    assert masks[0] != masks[3]
    strips = masks[0].array.reshape(4, -1).sum(axis=1)
    assert len(set(strips.tolist())) == 1


def test_weights_that_stay_are_those_of_the_dense_layer() -> None:
    shape = layer_shape("linear:9x8")
    dense, thin = layer_graph(shape, Dense(), 1.0), layer_graph(shape, Unstructured(), 0.5)
    mask = thin.sparsity["weight"].mask.array
    np.testing.assert_array_equal(
        thin.constants["weight"].array[mask], dense.constants["weight"].array[mask]
    )


def test_filters_have_no_strips() -> None:
    shape = layer_shape("conv1d:8x4x3@9")
    with pytest.raises(SchemeError, match="no units to balance"):
        layer_graph(shape, Filter(), 0.5, scope="strip")


# -- the exporter and the engines ------------------------------------------------------------------


def awkward() -> Graph:
    """Every operator that the exporter writes but those of other ranks."""
    rng = np.random.default_rng(7)
    to = Builder([("x", (1, 3, 5, 9, 7))])

    def held(name: str, *shape: int) -> str:
        values = rng.uniform(0.5, 1.5, shape) if "var" in name else rng.standard_normal(shape)
        return to.constant(name, values.astype(np.float32))

    ones = (1, 1, 1)
    y = to.add("conv", "conv", ("x", held("w", 6, 3, 2, 3, 1), held("b", 6)), stride=(1, 2, 1),
               padding=((1, 0), (1, 1), (0, 2)), dilation=ones, groups=1)  # fmt: skip
    norms = tuple(held(f"n.{name}", 6) for name in ("gamma", "beta", "mean", "var"))
    y = to.add("norm", "batch_norm", (y, *norms), eps=1e-3)
    parts = [to.add(op, op, (y,), **given) for op, given in ACTIVATIONS]
    total = parts[0]
    for i, part in enumerate(parts[1:]):
        total = to.add(f"sum{i}", ("add", "sub", "mul")[i % 3], (total, part))
    total = to.add("tame", "tanh", (total,))
    pooled = to.add("max", "max_pool", (total,), kernel=(2, 3, 2), stride=(2, 1, 2),
                    padding=((0, 1), (1, 0), (1, 1)), dilation=ones, ceil_mode=False)  # fmt: skip
    both = to.add("cat", "concat", (pooled, pooled), axis=1)
    deep = to.add("deep", "conv", (both, held("w2", 8, 3, 1, 1, 1)), stride=ones,
                  padding=((0, 0),) * 3, dilation=ones, groups=4)  # fmt: skip
    means = to.add("gap", "adaptive_avg_pool", (deep,), output=ones)
    flat = to.add("flat", "flatten", (means,), start=1, end=4)
    flat = to.add("line", "linear", (flat, held("w3", 5, 8), held("b3", 5)))
    flat = to.add("same", "identity", (flat,))
    soft = to.add("soft", "softmax", (flat,), axis=1)
    mean = to.add("mean", "mean", (deep,), axes=(2, 4), keepdims=False)
    return to.graph("awkward", [soft, mean, total], {})


ACTIVATIONS = [
    ("relu", {}),
    ("clamp", {"lo": -0.5, "hi": 2.0}),
    ("leaky_relu", {"slope": 0.1}),
    ("elu", {"alpha": 0.7}),
    ("sigmoid", {}),
    ("hardsigmoid", {}),
    ("silu", {}),
    ("hardswish", {}),
]


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "torch", "torch-channels-last"])
def test_engines_compute_what_the_graph_means(engine: str) -> None:
    pytest.importorskip(engine.split("-")[0])
    assert error_of(engine, awkward()) < 1e-5


@pytest.mark.parametrize("engine", ["ncnn", "mnn", "mnn-accurate", "mnn-sparse"])
@pytest.mark.parametrize("text", ["conv2d:7x5x3x3@9x6", "conv3d:6x3x3x3x3@4x5x6", "linear:9x5"])
def test_mobile_engines_compute_what_the_graph_means(engine: str, text: str) -> None:
    pytest.importorskip("MNN" if "mnn" in engine else "pnnx")
    graph = layer_graph(layer_shape(text), Unstructured(), 0.3)
    assert error_of(engine, graph) < (1e-2 if engine == "mnn" else 1e-5)


@pytest.mark.parametrize("engine", ["torch", "onnxruntime", "openvino", "ncnn", "mnn"])
@pytest.mark.parametrize("name", ["gru", "transformer", "bidirectional_lstm", "unet"])
def test_engines_run_the_networks(engine: str, name: str) -> None:
    pytest.importorskip({"mnn": "MNN", "ncnn": "pnnx"}.get(engine, engine))
    if (engine, name) in NOT_TAKEN:
        pytest.skip("it does not take it, or takes it wrongly, and the comparison says so")
    from bench.networks.definitions import DEFINITIONS, build
    from refimpl.importers.torch import capture

    x = DEFINITIONS[name].example((1, 3, 32, 16) if name == "unet" else None)
    graph = capture(build(name, 1 / 16), (x,))
    assert error_of(engine, graph, x.numpy()) < (1e-2 if engine == "mnn" else 1e-5)


NOT_TAKEN = {
    ("ncnn", "transformer"),
    ("ncnn", "bidirectional_lstm"),
    ("mnn", "bidirectional_lstm"),
}


def error_of(engine: str, graph: Graph, x: np.ndarray | None = None) -> float:
    from bench.peers.worker import ENGINES

    if x is None:
        x = np.random.default_rng(1).standard_normal(graph.inputs[0][1]).astype(np.float32)
    running = ENGINES[engine](graph, 1)
    running.feed([x])
    running.run()
    error, _ = judge(running.outputs(), evaluate(graph, x, fast=True))
    assert error is not None
    return error


def test_ncnn_says_that_it_has_no_batch() -> None:
    pytest.importorskip("ncnn")
    from bench.peers.mobile_engines import Ncnn

    graph = layer_graph(layer_shape("conv2d:2x3x3x3@5x5,batch=2"), Dense(), 1.0)
    with pytest.raises(ValueError, match="one sample at a time, and x has 2"):
        Ncnn(graph, 1)


def test_average_pools_are_exported() -> None:
    pytest.importorskip("onnxruntime")
    from bench.peers.onnx_engines import OnnxRuntime

    to = Builder([("x", (2, 3, 7, 6))])
    given = {"kernel": (3, 2), "stride": (2, 2), "padding": ((1, 1), (1, 0)), "ceil_mode": False}
    for counted in (True, False):
        to.add(f"avg{counted}", "avg_pool", ("x",), count_include_pad=counted, **given)
    graph = to.graph("pools", ["avgTrue", "avgFalse"], {})
    x = np.random.default_rng(1).standard_normal((2, 3, 7, 6)).astype(np.float32)
    engine = OnnxRuntime(graph, 1)
    engine.feed([x])
    engine.run()
    assert judge(engine.outputs(), evaluate(graph, x))[1] == ""


def test_exporter_names_what_it_does_not_write() -> None:
    pytest.importorskip("onnx")
    from bench.onnx_export import export

    odd = Node(("odd",), "rms_norm", ("x", "w"), attributes(eps=1e-5))
    scale = {"w": Constant(np.ones(2, np.float32))}
    with pytest.raises(BenchError, match="odd: operator rms_norm"):
        export(Graph("g", (("x", (1, 2)),), (odd,), ("odd",), scale))
    cells = Node(("cells",), "adaptive_avg_pool", ("x",), attributes(output=(3, 2)))
    with pytest.raises(BenchError, match="cells: adaptive"):
        export(Graph("g", (("x", (1, 2, 4, 4)),), (cells,), ("cells",)))


# -- the driver ----------------------------------------------------------------------------------


@dataclass
class Fake:
    """A contestant whose costs are what a test says, measurement after measurement."""

    answer: np.ndarray
    costs: list[float]
    log: list[str] = field(default_factory=list)
    name: str = ""
    dies_at: int = -1

    def output(self, *_: np.ndarray) -> tuple[np.ndarray, ...]:
        return (self.answer,)

    def measure(self, calls: int, _: int) -> tuple[float, ...]:
        self.log.append(self.name)
        if self.dies_at == self.log.count(self.name):
            raise PeerError(f"{self.name}: fell over")
        turn = min(self.log.count(self.name), len(self.costs)) - 1
        return (self.costs[turn],) * calls

    def __enter__(self) -> "Fake":
        return self

    def __exit__(self, *_: object) -> None:
        self.log.append(f"{self.name} closed")


RIGHT = np.array([1.0, -4.0], np.float32)


def entry(fake: Fake) -> Entry:
    return Entry(fake.name, lambda: fake, (), (RIGHT.astype(np.float64),), WORK)


def field_of(**fakes: Fake) -> tuple[list[Entry], list[str]]:
    log: list[str] = []
    for name, fake in fakes.items():
        fake.name, fake.log = name, log
    return [entry(fake) for fake in fakes.values()], log


def test_rounds_are_interleaved_and_ratios_paired() -> None:
    # Both become ten times slower in the second round that counts: the ratio must not move.
    entries, log = field_of(
        a=Fake(RIGHT, [9e8, 2e8, 2e9, 2e8]), b=Fake(RIGHT, [9e8, 1e8, 1e9, 1e8])
    )
    result = compare(entries, baseline="a", rounds=3)
    assert log == ["a", "b", "a", "b", "b", "a", "a", "b", "b closed", "a closed"]
    assert [result.speedup("b", "a", q) for q in (0, 50, 100)] == [2.0, 2.0, 2.0]
    assert result.speedup("a", "a") == 1.0
    assert result.row("b").cost(50) == 1e8
    assert len(result.row("a").rounds) == 3  # the warm-up round does not count


def test_who_is_wrong_missing_or_dies_is_a_row_that_says_so() -> None:
    good, wrong = Fake(RIGHT, [1e8] * 4), Fake(RIGHT + 0.01, [1.0] * 4)
    dying, bent = Fake(RIGHT, [1e8] * 4, dies_at=3), Fake(RIGHT[:1], [1.0] * 4)
    entries, log = field_of(good=good, wrong=wrong, dying=dying, bent=bent)

    def missing() -> Fake:
        raise PeerError("missing: is not installed")

    entries.append(Entry("missing", missing, (), (RIGHT,), WORK))
    result = compare(entries, baseline="good", rounds=3)
    refusals = {row.label: row.refusal for row in result.rows}
    assert refusals["good"] == ""
    assert "off by 2.5e-03" in refusals["wrong"]
    assert refusals["dying"] == "dying: fell over"
    assert "(1,)" in refusals["bent"]
    assert refusals["missing"] == "missing: is not installed"
    assert "wrong" not in log  # no time of a wrong one is even taken
    assert result.speedup("dying", "good") is None
    assert result.row("dying").rounds == ()
    shown = str(result.table().caption)
    assert "missing: NOT MEASURED: is not installed" in shown
    assert "dying: NOT MEASURED: fell over" in shown
    assert json.loads(json.dumps(result.json()))["contestants"][2]["cost"] is None


def test_a_wrong_baseline_leaves_no_ratios() -> None:
    entries, _ = field_of(a=Fake(RIGHT * np.nan, [1e8] * 2), b=Fake(RIGHT, [1e8] * 2))
    result = compare(entries, baseline="a", rounds=1)
    assert "off by nan" in result.row("a").refusal
    assert result.speedup("b", "a") is None
    assert result.row("b").rounds == ((1e8,),)


def test_who_joins_is_told_what_calls_cost() -> None:
    entries, log = field_of(a=Fake(RIGHT, [1e8] * 9), b=Fake(RIGHT, [2e8] * 9))
    late = Fake(RIGHT, [3e8] * 9, log, "late")
    told: list[dict[str, float]] = []

    def joining(calls):
        told.append(dict(calls))
        return [entry(late)]

    result = compare(entries, baseline="a", rounds=2, joining=joining)
    assert told == [{"a": 1e8, "b": 2e8}]
    assert result.speedup("late", "a") == pytest.approx(1 / 3)


def test_the_hopelessly_slow_are_named_and_not_waited_for() -> None:
    entries, log = field_of(a=Fake(RIGHT, [1e8] * 9), b=Fake(RIGHT, [3e9] * 9))
    result = compare(entries, baseline="a", rounds=3)
    assert log.count("b") == 1
    assert result.row("b").refusal == "a call takes 30 times as long as that of a"


def test_instructions_are_counted_once() -> None:
    entries, log = field_of(a=Fake(RIGHT, [600.0]), b=Fake(RIGHT, [200.0]))
    result = compare(entries, baseline="a", unit="guest instructions")
    assert log[:2] == ["a", "b"]
    assert result.speedup("b", "a") == 3.0
    assert "Minstr" in [column.header for column in result.table().columns]


def test_a_driver_refuses_nonsense() -> None:
    entries, _ = field_of(a=Fake(RIGHT, []))
    for bad in ({"baseline": "b"}, {"baseline": "a", "rounds": 0}):
        with pytest.raises(BenchError, match="cannot compare"):
            compare(entries, **bad)
    with pytest.raises(BenchError, match="cannot compare"):
        compare(entries * 2, baseline="a")


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_nan_is_seen_in_any_output(order: tuple[int, int]) -> None:
    fine, bad = np.ones(3), np.array([1.0, np.nan, 1.0])
    error, complaint = judge([(fine, bad)[i] for i in order], [np.ones(3)] * 2)
    assert np.isnan(error)
    assert complaint


def test_an_infinity_is_wrong() -> None:
    assert judge([np.array([np.inf])], [np.ones(1)])[1]


# -- peers and their wire ------------------------------------------------------------------------


def test_wire_carries_bodies_and_arrays() -> None:
    ours, theirs = socket.socketpair()
    arrays = {
        "w.x y": np.arange(300_000, dtype=np.float32).reshape(3, -1).T,
        "none": np.zeros((0, 4), np.int64),
        "one": np.array(True),
    }
    sender = threading.Thread(target=lambda: wire.send(ours, {"do": "ß"}, **arrays))
    sender.start()
    body, received = wire.receive(theirs)
    sender.join()
    assert body == {"do": "ß"}
    for name, array in arrays.items():
        np.testing.assert_array_equal(received[name], array, strict=True)
    ours.close()
    with pytest.raises(wire.WireError, match="ended"):
        wire.receive(theirs)


@pytest.mark.parametrize(
    "head",
    [
        b"[]",
        b"{}",
        b"not json",
        b'{"body": {}, "arrays": [["x", "|O", [1]]]}',
        b'{"body": {}, "arrays": [["x", "<f4", [-1]]]}',
        b'{"body": {}, "arrays": [["x", "<f4", [4294967296, 4294967296]]]}',
        b'{"body": {}, "arrays": [["x", "<f4"]]}',
    ],
)
def test_wire_refuses_what_is_no_message(head: bytes) -> None:
    ours, theirs = socket.socketpair()
    ours.sendall(len(head).to_bytes(8, "little") + head)
    with pytest.raises(wire.WireError):
        wire.receive(theirs)
    ours.sendall((1 << 60).to_bytes(8, "little"))
    with pytest.raises(wire.WireError, match="a head of"):
        wire.receive(theirs)


SCRIPT = """
import os, signal, socket, sys, time
import numpy as np
from bench.peers import wire
stream = socket.socket(fileno=int(sys.argv[1]))
print("to standard output, which is not the wire", flush=True)
while True:
    body, arrays = wire.receive(stream)
    if body["do"] == "load":
        wire.send(stream, {"version": "0"})
    elif body["do"] == "run":
        RUN
    else:
        TIME
"""
ANSWER = "wire.send(stream, {}, y=np.float32([[1, -4]]))"
TIMES = 'wire.send(stream, {}, nanoseconds=np.full(body["calls"], 1000))'


def scripted(name: str, run: str = ANSWER, time: str = TIMES, patience_s: float = 20.0) -> Peer:
    code = SCRIPT.replace("RUN", run).replace("TIME", time)
    peer = Peer(name, [sys.executable, "-c", code], patience_s=patience_s)
    peer.load(layer_graph(layer_shape("linear:2x3"), Dense(), 1.0), 1)
    return peer


@pytest.mark.parametrize(
    ("behaviour", "says"),
    [
        ({"run": "os.kill(os.getpid(), signal.SIGSEGV)"}, "process was killed by SIGSEGV"),
        ({"run": "sys.exit('out of cheese')"}, "ended with exit code 1: .*out of cheese"),
        ({"run": "wire.send(stream, {'error': 'no such layer'})"}, "no such layer"),
        ({"run": "stream.sendall(b'x' * 99)"}, "failed: a head of"),
        ({"run": "time.sleep(60)", "patience_s": 1.5}, "was silent for too long"),
        ({"run": ANSWER.replace("-4", "-4.1")}, "wrong: off by"),
        ({"run": ANSWER.replace("-4", "np.nan")}, "wrong: off by nan"),
        ({"run": "wire.send(stream, {})"}, "wrong: outputs of shapes"),
        ({"time": "os._exit(3)"}, "ended with exit code 3"),
        ({"time": TIMES.replace('body["calls"]', "99")}, "timed 99 runs of 1"),
        ({"time": TIMES.replace("1000", "0")}, "or in no time"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, str) else "",
)
def test_a_peer_that_crashes_or_lies_is_reported_by_name(behaviour: dict, says: str) -> None:
    expected = (np.array([[1.0, -4.0]]),)
    good = Fake(expected[0].astype(np.float32), [1e8] * 9, name="good")
    entries = [
        Entry("good", lambda: good, (), expected, WORK),
        Entry("shady", lambda: scripted("shady", **behaviour), (np.ones((1, 3)),), expected, WORK),
    ]
    result = compare(entries, baseline="good", rounds=1)
    assert result.row("good").refusal == ""
    assert result.row("shady").rounds == ()
    row = result.row("shady")
    assert row.refusal
    assert re.search(says, row.refusal, re.DOTALL), row.refusal


def test_a_good_peer_is_measured_and_its_process_ends() -> None:
    with scripted("fine") as peer:
        pid = peer._child.pid
        (y,) = peer.output(np.ones((1, 3)))
        assert y.tolist() == [[1.0, -4.0]]
        assert peer.measure(3, 1) == (1000, 1000, 1000)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(PeerError, match="fine: its process has ended"):
        peer.measure(1, 0)


def test_a_peer_killed_from_outside_is_named() -> None:
    with scripted("victim") as peer:
        os.kill(peer._child.pid, signal.SIGKILL)
        with pytest.raises(PeerError, match="victim: its process was killed by SIGKILL"):
            peer.output(np.ones((1, 3)))


def test_processes_stay_for_the_next_network(monkeypatch: pytest.MonkeyPatch) -> None:
    code = SCRIPT.replace("RUN", ANSWER).replace("TIME", TIMES)
    started: list[Peer] = []

    def start(name: str, threads: int) -> Peer:
        started.append(Peer(name, [sys.executable, "-c", code], threads, patience_s=20.0))
        return started[-1]

    monkeypatch.setattr(client, "start_peer", start)
    graph = layer_graph(layer_shape("linear:2x3"), Dense(), 1.0)
    with PeerProcesses() as processes:
        with processes.lend("fine", graph) as first:
            with processes.lend("fine", graph) as second:
                assert second is not first  # both are in use
            assert not second.alive
        with processes.lend("fine", graph) as again:
            assert again is first
            again.close()
        with processes.lend("fine", graph) as fresh:
            assert fresh is not first
    assert len(started) == 3
    assert not any(peer.alive for peer in started)


def test_unknown_peers_and_programs_are_named() -> None:
    graph = layer_graph(layer_shape("linear:2x3"), Dense(), 1.0)
    with pytest.raises(PeerError, match="no peer is called 'tflite'; known are torch"):
        open_peer("tflite", graph)
    with pytest.raises(PeerError, match="ghost: cannot start /no/such/program"):
        Peer("ghost", ["/no/such/program"])


def test_a_peer_says_by_name_what_it_does_not_take() -> None:
    pytest.importorskip("torch")
    graph = layer_graph(layer_shape("conv1d:2x3x3@5"), Dense(), 1.0)
    with pytest.raises(PeerError, match=r"torch-channels-last: .*2 and 3 spatial axes"):
        open_peer("torch-channels-last", graph)


# -- everything together ---------------------------------------------------------------------------


def test_a_layer_end_to_end() -> None:
    pytest.importorskip("onnxruntime")
    report = bench_layer(
        "conv3d:20x9x3x3x3@3x5x7", "kgs:4x3", 0.4, peers=["onnxruntime"], rounds=2, seed=5
    )
    comparison = report.contest.comparison
    assert report.correct
    csr = f"{PRUNED} csr"
    assert [row.label for row in comparison.rows] == [DENSE, PRUNED, csr, "onnxruntime"]
    assert all(row.rounds and not row.refusal for row in comparison.rows)
    positions = 3 * 5 * 7
    work = comparison.row(PRUNED).work
    assert work.dense == 20 * 9 * 27 * positions
    assert work.kept == round(report.kept * work.dense)
    assert work.stored >= work.kept
    assert set(report.contest.steps[PRUNED]) == {"x:in", "y", "y:out"}
    held = json.loads(json.dumps(report.json()))
    assert held["layer"] == "conv3d:20x9x3x3x3@3x5x7"
    assert held["contestants"][3]["speedup"]["p50"] > 0
    assert report.table().row_count == 4


def test_a_dense_layer_has_no_pruned_contestant() -> None:
    report = bench_layer("linear:7x5", peers=[], rounds=1)
    assert [row.label for row in report.contest.comparison.rows] == [DENSE]
    assert report.kept == 1


def test_instructions_on_an_emulator() -> None:
    try:
        with open_device("qemu:cortex-a76", counting=True) as session:
            reason = session.counting
    except DeviceError as error:
        reason = str(error)
    if reason is not None:
        pytest.skip(reason)
    report = bench_layer("conv2d:16x8x3x3@5x6", "kgs:8x4", 0.25, device="qemu:cortex-a76")
    assert report.correct
    assert report.target == "cortex-a76"
    assert report.contest.comparison.unit == "guest instructions"
    assert "Costs are guest instructions, not time." in report.contest.notes
    assert report.contest.comparison.row(PRUNED).cost(50) % 1 == 0


def test_layers_refuse_what_cannot_be_done() -> None:
    with pytest.raises(BenchError, match="does not say its processor"):
        bench_layer("linear:3x3", device="qemu")
    with pytest.raises(BenchError, match="peers run on this machine only"):
        bench_layer("linear:3x3", device="qemu:cortex-a76", peers=["torch"])
    with pytest.raises(BenchError, match="no peer is called 'magic'"):
        bench_layer("linear:3x3", peers=["magic"])
    with pytest.raises(SchemeError, match="keep must be 1"):
        bench_layer("linear:3x3", "dense", 0.5)
    assert target_of("host-isolated") == "host"


def test_a_missing_engine_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.peers import worker

    def absent(*_: object) -> worker.Engine:
        raise ModuleNotFoundError("No module named 'openvino'", name="openvino")

    monkeypatch.setitem(worker.ENGINES, "openvino", absent)
    graph = layer_graph(layer_shape("linear:2x3"), Dense(), 1.0)
    ours, theirs = socket.socketpair()
    serving = threading.Thread(target=worker.serve, args=(theirs,))
    serving.start()
    arrays = {f"constant {name}": c.array for name, c in graph.constants.items()}
    wire.send(
        ours, {"do": "load", "engine": "openvino", "threads": 1, "graph": str(graph)}, **arrays
    )
    assert "openvino is not installed; pip install" in wire.receive(ours)[0]["error"]
    ours.close()
    serving.join(10)
    assert not serving.is_alive()


def test_every_scheme_says_what_it_stores():
    from bench.schemes import scheme_costs

    layer = layer_shape("conv2d:64x64x3x3@20x20")
    costs = {c.scheme: c for c in scheme_costs(layer, 0.25, "x86-64-avx512")}
    assert {"kgs:8x4", "filter", "unstructured"} <= costs.keys()
    assert all(c.stored >= 1 and c.gain > 1 for c in costs.values())
    assert costs["kgs:8x4"].stored == 1 < costs["unstructured"].stored
