"""Graph: its text, its checker, its costs and its interpreter."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from operators import EXAMPLES

from refimpl.graph import (
    Constant,
    Graph,
    GraphError,
    Node,
    Sparsity,
    attributes,
    check,
    evaluate,
    evaluate_all,
    evaluate_node,
    macs,
    parameters,
    parse,
    shapes,
)
from refimpl.ops import OPERATORS
from refimpl.schemes import KGS, Filter, Unstructured

CONV = attributes(stride=(2, 1), padding=((1, 0), (1, 1)), dilation=(1, 2), groups=2)


def constant(seed, *shape):
    return Constant(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def small():
    """x -> grouped conv with a KGS mask -> relu -> flatten -> linear."""
    weight = np.random.default_rng(1).standard_normal((6, 2, 3, 3)).astype(np.float32)
    scheme = KGS(2, 2)
    mask = scheme.project(weight, 0.5, parts=2)
    return Graph(
        "small",
        (("x", (1, 4, 7, 6)),),
        (
            Node(("c",), "conv", ("x", "c.w", "c.b"), CONV),
            Node(("r",), "relu", ("c",)),
            Node(("f",), "flatten", ("r",), attributes(start=1, end=3)),
            Node(("y",), "linear", ("f", "y.w")),
        ),
        ("y", "r"),
        {"c.w": Constant(weight * mask), "c.b": constant(2, 6), "y.w": constant(3, 5, 72)},
        {"c.w": Sparsity(scheme, Constant(mask))},
    )


def changed(**fields):
    return dataclasses.replace(small(), **fields)


def with_node(position, **fields):
    nodes = list(small().nodes)
    nodes[position] = dataclasses.replace(nodes[position], **fields)
    return changed(nodes=tuple(nodes))


def with_constant(name, array):
    return changed(constants={**small().constants, name: Constant(array)})


HOSTILE = ["", '"', "\\", "a b", "a\nb", "}", "x = relu(y) {}", "1", "-x", "\x00", "\ud800", "ünï"]
PLAIN = ["x", "features.3.weight", "True", "graph", "input", "const", "output"]
NAMES = st.one_of(st.sampled_from([*PLAIN, *HOSTILE]), st.text(max_size=8))
VALUES = st.recursive(
    st.one_of(
        st.integers(-(10**18), 10**18),
        st.booleans(),
        st.floats(allow_nan=False),
        st.text(max_size=5),
    ),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=4,
).filter(lambda value: depth(value) <= 4)
SHAPES = st.lists(st.integers(1, 9), max_size=4).map(tuple)


def depth(value):
    return 1 + max(map(depth, value), default=0) if isinstance(value, tuple) else 0


@st.composite
def graphs(draw):
    """Any value of the form, with or without a meaning: the text must hold them all."""
    names = draw(st.lists(NAMES, min_size=1, max_size=8, unique=True))
    some = st.lists(st.sampled_from(names), max_size=3).map(tuple)
    nodes = st.builds(
        Node,
        some.filter(bool),
        NAMES,
        some,
        st.dictionaries(NAMES, VALUES, max_size=3).map(lambda d: tuple(d.items())),
    )
    arrays = SHAPES.map(lambda shape: Constant(np.ones(shape, np.float32)))
    constants = draw(st.dictionaries(st.sampled_from(names), arrays))
    schemes = st.sampled_from([Unstructured(), Filter(), KGS(8, 4)])
    sparsity = {
        name: Sparsity(draw(schemes), Constant(np.ones(constants[name].array.shape, bool)))
        for name in constants
        if draw(st.booleans())
    }
    inputs = draw(st.lists(st.tuples(NAMES, SHAPES), max_size=2).map(tuple))
    nodes = draw(st.lists(nodes, max_size=4).map(tuple))
    return Graph(draw(NAMES), inputs, nodes, draw(some), constants, sparsity)


def reread(graph):
    masks = {name: sparsity.mask for name, sparsity in graph.sparsity.items()}
    return parse(str(graph), graph.constants, masks)


def types(value):
    return tuple(map(types, value)) if isinstance(value, tuple) else type(value)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(graphs())
def test_text_parses_back_to_an_equal_graph(graph):
    again = reread(graph)
    assert again == graph
    assert str(again) == str(graph)
    # 1 == 1.0 == True in Python, and the text must not confuse them.
    for node, original in zip(again.nodes, graph.nodes, strict=True):
        assert types(node.attributes) == types(original.attributes)


def graph_of(op):
    """A Graph of one node, the example of its operator; inputs past the first are constants."""
    sizes, values = EXAMPLES[op]
    names = [f"i{position}" for position in range(len(sizes))]
    outputs = tuple(f"o{position}" for position in range(OPERATORS[op].results))
    constants = {name: constant(0, *size) for name, size in zip(names[1:], sizes[1:], strict=True)}
    node = Node(outputs, op, tuple(names), attributes(**values))
    return Graph(op, ((names[0], sizes[0]),), (node,), outputs, constants)


@pytest.mark.parametrize("op", OPERATORS)
def test_every_operator_can_be_checked_written_read_and_evaluated(op):
    graph = graph_of(op)
    check(graph)
    assert reread(graph) == graph
    x = np.ones(graph.inputs[0][1]) if op == "embedding" else constant(1, *graph.inputs[0][1]).array
    slow, fast = evaluate(graph, x), evaluate(graph, x, fast=True)
    assert len(slow) == OPERATORS[op].results
    for name, y, twin in zip(graph.outputs, slow, fast, strict=True):
        assert (y.dtype, y.shape) == (np.float64, shapes(graph)[name])
        np.testing.assert_allclose(twin, y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("op", "count"),
    [
        ("conv", 2 * 10 * 6 * 2 * 3),
        ("conv_transpose", 2 * 15 * 4 * 3 * 3),
        ("linear", 10 * 7 * 3),
        ("matmul", 3 * 4 * 5 * 2 * 7),
        ("rnn", 10 * 4 * (3 + 4)),
        ("gru", 10 * 12 * (3 + 4)),
        ("lstm", 10 * 16 * (3 + 4)),
    ],
)
def test_macs_of_every_operator_that_contracts(op, count):
    assert macs(graph_of(op)) == {"o0": (count, count)}


def test_no_other_operator_has_macs():
    counted = {op for op in OPERATORS if macs(graph_of(op))}
    assert counted == {
        "conv",
        "conv_transpose",
        "winograd_conv",
        "linear",
        "matmul",
        "rnn",
        "gru",
        "lstm",
    }


def test_text_is_one_line_per_entry_and_independent_of_order():
    graph = small()
    assert len(str(graph).splitlines()) == 1 + 1 + 3 + 4 + 2 + 1
    backwards = changed(constants=dict(reversed(graph.constants.items())))
    assert backwards == graph
    assert str(backwards) == str(graph)
    assert Node(("y",), "relu", ("x",), (("b", 1), ("a", 2))).attributes == (("a", 2), ("b", 1))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("graph small", "grape small", "line 1: expected 'graph'"),
        ("relu(c) {}", "relu(c {}", "line 7: expected"),
        ("relu(c) {}", "relu(c) {a=__import__}", "line 7: expected a value"),
        ("relu(c) {}", "relu(c) {a=((((((1))))))}", "deep"),
        ("relu(c) {}", "relu(c) {a=" + "9" * 20 + "}", "line 7"),
        ("r = relu", "input r = relu", "line 7: expected '='"),
        ("r = relu", '"r\n" = relu', "expected a string"),
        ("kgs(gf=2,gc=2)", "nothing", "scheme"),
        ("const c.b: 6 ", "const c.b: 7 ", "shape"),
        ("const c.b", "const c.w", "twice"),
        ("const c.b", "const missing", "does not stand beside the text"),
        ("\n}", "\n}}", "the end of the text"),
        ("\n}", "", "the end"),
    ],
)
def test_parse_refuses(old, new, message):
    graph = small()
    text = str(graph)
    assert old in text
    masks = {"c.w": graph.sparsity["c.w"].mask}
    with pytest.raises(GraphError, match=message):
        parse(text.replace(old, new, 1), graph.constants, masks)


def test_parse_refuses_another_array():
    graph = small()
    masks = {"c.w": graph.sparsity["c.w"].mask}
    other = {**graph.constants, "c.b": constant(9, 6)}
    with pytest.raises(GraphError, match=r"constant 'c\.b' has digest"):
        parse(str(graph), other, masks)
    with pytest.raises(GraphError, match=r"mask of 'c\.w' has digest"):
        parse(str(graph), graph.constants, {"c.w": Constant(np.ones((6, 2, 3, 3), bool))})


def test_check_accepts_and_gives_shapes():
    graph = small()
    check(graph)
    assert shapes(graph)["c"] == (1, 6, 3, 4)
    assert shapes(graph)["y"] == (1, 5)


W = small().constants["c.w"].array
MASK = small().sparsity["c.w"].mask.array


def with_mask(mask, scheme=None):
    return changed(sparsity={"c.w": Sparsity(scheme or KGS(2, 2), Constant(mask))})


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (with_node(1, op="rélu"), r"node 'r' \(rélu\): no such operator"),
        (with_node(1, inputs=("nowhere",)), r"node 'r' \(relu\): input 'nowhere'"),
        (with_node(1, inputs=("f",)), "not defined before"),
        (with_node(1, inputs=("c", "c")), "has 2 inputs instead of 1$"),
        (with_node(0, inputs=("x",)), "has 1 inputs instead of 2 to 3"),
        (with_node(1, outputs=("c",)), "already defined"),
        (with_node(1, outputs=("c.b",)), "already defined"),
        (with_node(1, outputs=("r", "s")), "defines 2 values"),
        (with_node(1, outputs=()), "defines 0 values"),
        (with_node(1, attributes=attributes(slope=0.1)), "unknown attribute 'slope'"),
        (with_node(0, attributes=CONV[1:]), "attribute stride is missing"),
        (with_node(0, attributes=(*CONV, *CONV[:1])), "given twice"),
        (with_node(0, attributes=(*CONV[1:], ("stride", (2, 0)))), "attribute stride is"),
        (with_node(2, attributes=attributes(start=1, end=4)), r"node 'f' \(flatten\): axes"),
        (changed(outputs=("z",)), "output 'z'"),
        (changed(outputs=()), "no outputs"),
        (changed(inputs=(("x", (1, 4, 0, 6)),)), "input 'x': shape"),
        (changed(inputs=(("x", (1, 4, 2**20, 2**20)),)), "elements"),
        (changed(inputs=(("x", (1, 4, 7.0, 6)),)), "input 'x': shape"),
        (changed(inputs=(*small().inputs, ("z", (1,) * 9))), "input 'z': .* more than 8 axes"),
        (changed(inputs=small().inputs * 2), "already defined"),
        (with_constant("c.b", np.zeros(6)), "'c.b' is float64, not float32"),
        (with_constant("unused", np.zeros((0, 2), np.float32)), "'unused': shape"),
        (with_constant("c.w", np.ones_like(W)), "weight 'c.w' is not zero at 52 places"),
        (with_constant("c.w", np.where(MASK, W, np.nan)), "is not zero"),
        (with_mask(MASK.astype(np.uint8)), "mask of 'c.w' is uint8"),
        (with_mask(MASK[:5]), "mask of 'c.w' is bool of shape"),
        (with_mask(MASK, Filter()), r"node 'c' \(conv\): the mask of 'c.w' is not legal: filter"),
        (changed(sparsity={"w": small().sparsity["c.w"]}), "'w', which is not a constant"),
        (with_node(3, inputs=("f", "c.w")), "linear"),
        (with_node(1, op="mul", inputs=("c", "c.w")), "broadcast"),
        (changed(nodes=(Node(("y",), "relu", ("c.w",)),), outputs=("y",)), "which is pruned"),
        (changed(nodes=(), outputs=("x",)), "'c.w' is pruned, but no node"),
    ],
)
def test_check_refuses_by_name_and_rule(graph, message):
    with pytest.raises(GraphError, match=message):
        check(graph)


def test_legality_is_judged_within_each_group_of_a_conv():
    """Six filters in two groups: blocks of two filters are ragged in each, straddling none."""
    scheme = KGS(2, 2)
    mask = np.ones((6, 2, 3, 3), bool)
    mask[2] = False  # the ragged block {2} of group 0; {2, 3} would straddle
    graph = changed(
        constants={**small().constants, "c.w": Constant(W * 0)},
        sparsity={"c.w": Sparsity(scheme, Constant(mask))},
    )
    check(graph)
    assert scheme.legal(mask) is not None


def test_macs_and_parameters_count_what_is_kept():
    graph = small()
    kept = int(MASK.sum())
    assert 0 < kept < 108
    assert macs(graph) == {"c": (108 * 12, kept * 12), "y": (5 * 72, 5 * 72)}
    assert parameters(graph) == {"c.w": (108, kept), "c.b": (6, 6), "y.w": (360, 360)}


def test_evaluate_gives_float64_outputs_in_order_and_its_twin_agrees():
    graph = small()
    x = np.random.default_rng(0).standard_normal((1, 4, 7, 6)).astype(np.float32)
    y, r = evaluate(graph, x)
    assert (y.dtype, y.shape, r.shape) == (np.float64, (1, 5), (1, 6, 3, 4))
    for slow, fast in zip((y, r), evaluate(graph, x, fast=True), strict=True):
        np.testing.assert_allclose(fast, slow, rtol=1e-12, atol=1e-12)
    values = evaluate_all(graph, x)
    assert set(values) == set(shapes(graph))
    np.testing.assert_array_equal(values["r"], r)
    (alone,) = evaluate_node(graph, graph.nodes[1], {"c": values["c"]})
    np.testing.assert_array_equal(alone, r)


@pytest.mark.parametrize("fast", [False, True])
def test_what_lies_under_a_pruned_weight_does_not_matter(fast):
    weight = Constant(np.array([[1.0, 0.0, 2.0]], np.float32))
    mask = Constant(np.array([[True, False, True]]))
    graph = Graph(
        "one",
        (("x", (1, 3)),),
        (Node(("y",), "linear", ("x", "w")),),
        ("y",),
        {"w": weight},
        {"w": Sparsity(Unstructured(), mask)},
    )
    assert evaluate(graph, np.array([[3.0, np.nan, 4.0]]), fast=fast)[0] == 11.0
    dense = dataclasses.replace(graph, sparsity={})
    assert math.isnan(evaluate(dense, np.array([[3.0, np.nan, 4.0]]), fast=fast)[0].item())


def test_evaluate_refuses_other_inputs():
    with pytest.raises(GraphError, match=r"takes 1 inputs \(x\), not 0"):
        evaluate(small())
    with pytest.raises(GraphError, match=r"input 'x' has shape \(1, 4, 7\)"):
        evaluate(small(), np.zeros((1, 4, 7)))


def test_constants_and_graphs_do_not_change_behind_ones_back():
    array = np.ones(3, np.float32)
    kept = Constant(array)
    array[0] = 5
    assert kept.array[0] == 1
    with pytest.raises(ValueError, match="read-only"):
        kept.array[0] = 2
    constants = {"a": kept}
    graph = Graph("g", (), (), ("a",), constants)
    constants["b"] = kept
    assert set(graph.constants) == {"a"}
