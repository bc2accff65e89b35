"""Recurrent layers against torch, ONNX and their equations."""

import numpy as np
import pytest
import torch
from onnx import helper
from onnx.reference import ReferenceEvaluator
from operators import agree

from refimpl.graph import (
    Constant,
    Graph,
    GraphError,
    Node,
    Sparsity,
    attributes,
    check,
    evaluate,
    macs,
    parse,
    shapes,
)
from refimpl.importers.build import Builder
from refimpl.ops import OPERATORS
from refimpl.schemes import BCR

GATES = {"rnn": 1, "gru": 3, "lstm": 4}
TORCHS = {"rnn": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}
SIZES = [(1, 1, 1, 1), (5, 1, 3, 4), (4, 3, 7, 5)]


def arrays(op, steps, batch, channels, hidden):
    """x, the four weights and the initial states, of moderate size so that no gate is shut."""
    rows = GATES[op] * hidden
    states = 2 if op == "lstm" else 1
    sizes = [(steps, batch, channels), (rows, channels), (rows, hidden), (rows,), (rows,)]
    rng = np.random.default_rng(0)
    return [rng.standard_normal(size) for size in (*sizes, *[(batch, hidden)] * states)]


def run_all(op, *inputs, **values):
    """The results, after the operator's attributes and shapes were found to fit them."""
    operator = OPERATORS[op]
    assert all(kind.accepts(values[key]) for key, kind in operator.attributes.items())
    results = operator.evaluate(*inputs, **values)
    assert operator.shape([x.shape for x in inputs], values) == tuple(y.shape for y in results)
    return results


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("op", "values"),
    [
        ("rnn", {"activation": "tanh"}),
        ("rnn", {"activation": "relu"}),
        ("gru", {"linear_before_reset": True}),
        ("lstm", {}),
    ],
)
def test_layers_are_torchs(op, values, reverse, size):
    x, *weights = arrays(op, *size)
    states = [s[None] for s in weights[4:]]
    module = TORCHS[op](size[2], size[3], dtype=torch.float64)
    if op == "rnn":
        module = torch.nn.RNN(size[2], size[3], nonlinearity=values["activation"]).double()
    for parameter, weight in zip(module.parameters(), weights[:4], strict=True):
        parameter.data = torch.from_numpy(weight)
    given = tuple(map(torch.from_numpy, states))
    with torch.no_grad():
        walked = torch.from_numpy(x[::-1].copy() if reverse else x)
        y, final = module(walked, given if op == "lstm" else given[0])
    finals = final if op == "lstm" else (final,)
    ours = run_all(op, x, *weights, **values, reverse=reverse)
    agree(ours[0], y.flip(0) if reverse else y)
    for mine, theirs in zip(ours[1:], finals, strict=True):
        agree(mine, theirs[0])
    np.testing.assert_array_equal(ours[1], ours[0][0 if reverse else -1])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("before", [False, True])
def test_gru_is_onnxs_in_both_forms_of_the_reset_gate(size, before):
    x, w, r, b, d, h0 = arrays("gru", *size)

    def zrh(rows):
        """ONNX orders the gates z, r, h."""
        reset, update, new = np.split(rows, 3)
        return np.concatenate([update, reset, new])[None]

    node = helper.make_node(
        "GRU", [*"xwrb", "", "h"], ["y", "last"],
        hidden_size=size[3], linear_before_reset=int(before),
    )  # fmt: skip
    given = {"x": x, "w": zrh(w), "r": zrh(r), "h": h0[None]}
    given["b"] = np.concatenate([zrh(b), zrh(d)], axis=1)
    y, last = ReferenceEvaluator(node).run(None, given)
    ours = run_all("gru", x, w, r, b, d, h0, linear_before_reset=before, reverse=False)
    agree(ours[0], y[:, 0])
    agree(ours[1], last[0])


def test_the_two_forms_of_the_reset_gate_differ():
    given = arrays("gru", 3, 2, 4, 5)
    one, other = (
        run_all("gru", *given, linear_before_reset=before, reverse=False)[0]
        for before in (False, True)
    )
    assert np.abs(one - other).max() > 0.01


def pruned_gru():
    """A GRU of 5 hidden units in a Graph, both of whose matrices are pruned in blocks of 2x3."""
    x, *weights, h0 = (a.astype(np.float32) for a in arrays("gru", 4, 2, 7, 5))
    scheme = BCR(2, 3)
    masks = [scheme.project(w, 0.5, parts=3) for w in weights[:2]]
    pruned = [w * mask for w, mask in zip(weights, masks, strict=False)]
    constants = dict(zip(("w", "r", "b", "d"), (*pruned, *weights[2:]), strict=True))
    node = Node(
        ("y", "last"),
        "gru",
        ("x", "w", "r", "b", "d", "h"),
        attributes(linear_before_reset=False, reverse=True),
    )
    graph = Graph(
        "recurrent",
        (("x", x.shape), ("h", h0.shape)),
        (node, Node(("z",), "relu", ("last",))),
        ("y", "z"),
        {name: Constant(array) for name, array in constants.items()},
        {n: Sparsity(scheme, Constant(m)) for n, m in zip("wr", masks, strict=True)},
    )
    return graph, (x, h0)


def test_a_node_may_define_several_values_and_prune_several_weights():
    graph, given = pruned_gru()
    check(graph)
    assert {name: shapes(graph)[name] for name in ("y", "last", "z")} == {
        "y": (4, 2, 5),
        "last": (2, 5),
        "z": (2, 5),
    }
    masks = {name: sparsity.mask for name, sparsity in graph.sparsity.items()}
    assert parse(str(graph), graph.constants, masks) == graph
    y, z = evaluate(graph, *given)
    np.testing.assert_array_equal(z, np.maximum(y[0], 0.0))
    kept = sum(int(mask.array.sum()) for mask in masks.values())
    assert macs(graph) == {"y": (4 * 2 * 15 * (7 + 5), 4 * 2 * kept)}


def test_what_meets_only_pruned_weights_does_not_matter():
    graph, (x, h0) = pruned_gru()
    weight = graph.constants["w"].array * 0
    none = Constant(np.zeros(weight.shape, bool))
    graph = Graph(
        graph.name,
        graph.inputs,
        graph.nodes,
        graph.outputs,
        {**graph.constants, "w": Constant(weight)},
        {**graph.sparsity, "w": Sparsity(BCR(2, 3), none)},
    )
    x[:] = np.nan
    assert np.isfinite(evaluate(graph, x, h0)[0]).all()


def test_masks_of_recurrent_weights_are_legal_per_gate():
    graph, _ = pruned_gru()
    mask = graph.sparsity["r"].mask.array.copy()
    mask[4:7] = [[1, 0, 1, 0, 1], [0, 1, 0, 1, 0], [0, 1, 0, 1, 0]]
    weights = {**graph.constants, "r": Constant(np.zeros((15, 5), np.float32))}
    # Rows 4 and 5 are of two gates, so of two blocks, and need no column in common; 5 and 6 do.
    fine = {**graph.sparsity, "r": Sparsity(BCR(2, 3), Constant(mask))}
    assert BCR(2, 3).legal(mask) is not None
    mask[6] = ~mask[5]
    broken = {**graph.sparsity, "r": Sparsity(BCR(2, 3), Constant(mask))}
    parts = (graph.name, graph.inputs, graph.nodes, graph.outputs, weights)
    check(Graph(*parts, fine))
    with pytest.raises(GraphError, match=r"node 'y' \(gru\): the mask of 'r' is not legal"):
        check(Graph(*parts, broken))


def test_several_results_have_as_many_names():
    graph, _ = pruned_gru()
    alone = Node(("y",), "gru", graph.nodes[0].inputs, graph.nodes[0].attributes)
    with pytest.raises(GraphError, match=r"node 'y' \(gru\): defines 1 values instead of 2"):
        shapes(Graph("g", graph.inputs, (alone,), ("y",), graph.constants))


def test_the_builder_names_every_result():
    graph, _ = pruned_gru()
    to = Builder(graph.inputs)
    for name in graph.nodes[0].inputs[1:5]:
        to.constant(name, graph.constants[name].array)
    names = to.add("y", "gru", graph.nodes[0].inputs, **graph.nodes[0].attrs)
    assert names == ("y", "y_1")
    assert [to.shapes[name] for name in names] == [(4, 2, 5), (2, 5)]
    assert to.add("y", "relu", names[1:]) == "y_2"
    assert to.graph("g", ("y_2",), {}).nodes[0].outputs == names
