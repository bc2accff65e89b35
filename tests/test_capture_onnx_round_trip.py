"""A Graph written as ONNX and captured again computes the same, for every operator written."""

import numpy as np
import pytest
from onnx_models import noise
from operators import EXAMPLES

from bench.errors import BenchError
from bench.networks import demo
from bench.onnx_export import export
from refimpl.graph import Graph, Node, attributes, evaluate
from refimpl.graph.form import Constant
from refimpl.importers.onnx import capture
from refimpl.ops import OPERATORS

NOT_WRITTEN = {
    *("adaptive_avg_pool", "adaptive_max_pool", "avg_pool", "max_pool"),  # in the examples' forms
    *("group_norm", "local_response_norm", "rms_norm", "softplus", "upsample"),
    "winograd_conv",  # ONNX has no such operator
}
VARIANTS = {
    "avg_pool": {"ceil_mode": False},
    "max_pool": {"ceil_mode": False},
    "adaptive_avg_pool": {"output": (1, 1)},
    "adaptive_max_pool": {"output": (1, 1)},
    "local_response_norm": {"size": 3},
    "softplus": {"beta": 1.0},
    "gru": {"linear_before_reset": True},
    "lstm": {"reverse": False},
    "rnn": {"activation": "tanh"},
    "pad": {"mode": "constant", "value": 0.5},
    "slice": {"start": 1, "step": 2},
}
CASES = [("gelu", {"approximate": "none"})]
CASES += [(op, {}) for op in EXAMPLES if op not in NOT_WRITTEN] + list(VARIANTS.items())


def graph_of(op, changed):
    """One node, whose inputs past the first are constants."""
    sizes, values = EXAMPLES[op]
    names = [f"i{position}" for position in range(len(sizes))]
    outputs = tuple(f"o{position}" for position in range(OPERATORS[op].results))
    constants = {n: Constant(noise(*size)) for n, size in zip(names[1:], sizes[1:], strict=True)}
    if op == "batch_norm":
        constants["i4"] = Constant(noise(3) ** 2)
    node = Node(outputs, op, tuple(names), attributes(**{**values, **changed}))
    return Graph(op, ((names[0], sizes[0]),), (node,), outputs, constants)


@pytest.mark.parametrize(("op", "changed"), CASES, ids=lambda v: str(v))
def test_written_and_captured_again_it_computes_the_same(tmp_path, op, changed):
    graph = graph_of(op, changed)
    path = tmp_path / "x.onnx"
    path.write_bytes(export(graph))
    again = capture(path)
    assert again.inputs == graph.inputs
    assert again.outputs == graph.outputs or op == "identity"
    x = noise(*graph.inputs[0][1])
    if op == "embedding":
        x = np.abs(x).astype(np.int64)
    for ours, theirs in zip(evaluate(again, x), evaluate(graph, x), strict=True):
        np.testing.assert_allclose(ours, theirs, 1e-6, 1e-7)


@pytest.mark.parametrize("op", sorted(NOT_WRITTEN))
def test_what_is_not_written_is_refused_by_name(op):
    with pytest.raises(BenchError, match="o0: "):
        export(graph_of(op, {}))


def test_a_network_comes_back_node_by_node(tmp_path):
    """Weights keep their names: what was known of them by name holds for both."""
    graph = demo()
    path = tmp_path / "demo.onnx"
    path.write_bytes(export(graph))
    again = capture(path)
    assert [node.op for node in again.nodes] == [node.op for node in graph.nodes]
    assert again.constants == graph.constants
