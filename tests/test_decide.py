"""Decisions that once were wrong, in their smallest cases."""

from dataclasses import replace

import numpy as np
import pytest

from jit.decide import plan
from jit.decide.problem import ConvProblem
from jit.decide.schedule import _strip_shapes, heights, last_strip_fits
from jit.executable import open_executable
from jit.target import target
from refimpl.graph import Constant, Graph, Node, attributes
from refimpl.graph import evaluate as evaluate_graph
from refimpl.plan import PlanError, check, evaluate
from refimpl.tiles import pack

ONES = attributes(stride=(1,), padding=((0, 0),), dilation=(1,), groups=1)


def conv_plan(filters, channels, residual=False):
    weight = np.ones((filters, channels, 1), np.float32)
    nodes = [Node(("y",), "conv", ("x", "w"), ONES)]
    if residual:
        nodes.append(Node(("z",), "add", ("y", "x")))
    graph = Graph("one", (("x", (1, channels, 2)),), tuple(nodes), (nodes[-1].name,),
                  {"w": Constant(weight)})  # fmt: skip
    return plan(graph, "x86-64-avx2")


def test_an_input_that_is_also_the_residual_is_held_in_blocks():
    """It stayed plain, for only convolutions read it, and was then added as if blocked."""
    made = conv_plan(1, 1, residual=True)
    step = next(s for s in made.steps if s.op == "conv")
    assert step.residual == step.inputs[0]
    assert made.places[step.residual].layout == made.places[step.name].layout


def recut(made, rows, lanes):
    step = next(s for s in made.steps if s.op == "conv")
    weight = np.ones((made.places[step.name].shape[1], made.places[step.inputs[0]].shape[1], 1))
    tiles = pack(weight.astype(np.float32), weight > 0, heights(weight.shape[0], rows, lanes), 1)
    schedule = replace(step.schedule, rows=rows, lanes=lanes)
    steps = tuple(replace(s, schedule=schedule) if s is step else s for s in made.steps)
    return replace(made, steps=steps, weights={step.weight: tiles})


@pytest.mark.parametrize(("rows", "lanes", "legal"), [(6, 2, False), (4, 2, True), (8, 8, True)])
def test_a_last_strip_does_not_straddle_two_blocks_of_channels(rows, lanes, legal):
    """9 filters in strips of 6: the last began at channel 6 of a block of 8 and ended in the next,
    which its kernel, counting from where it begins, does not see."""
    made = recut(conv_plan(9, 1), rows, lanes)
    assert last_strip_fits(9, rows, lanes, 8) == legal
    if legal:
        check(made)
        return
    with pytest.raises(PlanError, match="straddle blocks of 8"):
        check(made)


def test_the_planner_offers_no_strips_that_straddle():
    for filters in range(1, 70):
        problem = ConvProblem(np.ones((filters, 1), bool), (1,), 16)
        for name in ("x86-64-avx512", "x86-64-sse"):
            machine = target(name)
            shapes = list(_strip_shapes(machine, problem))
            assert shapes
            assert all(last_strip_fits(filters, r, n, machine.lanes) for r, n in shapes)


def graph_of(nodes, outputs, inputs=(("x", (1, 2, 3)),), **constants):
    named = {name: Constant(np.asarray(array, np.float32)) for name, array in constants.items()}
    return Graph("one", inputs, nodes, outputs, named)


def node(name, op, *inputs, **given):
    return Node((name,), op, inputs, attributes(**given))


CONV = Node(("c",), "conv", ("x", "w"), ONES)
SAME, RELU = node("i", "identity", "c"), node("r", "relu", "i")
WEIGHT = np.arange(4).reshape(2, 2, 1) - 1.5


@pytest.mark.parametrize(
    ("nodes", "outputs"),
    [
        ((CONV, SAME, RELU, node("s", "add", "r", "c")), "s"),
        ((CONV, SAME, RELU), "rc"),
        ((CONV, SAME, node("s", "add", "c", "i")), "s"),
        ((CONV, SAME, RELU), "ri"),
    ],
)
def test_a_value_read_under_two_names_is_not_fused_away(nodes, outputs):
    """Readers were counted by name: an identity hid the second one, and its value was gone."""
    graph = graph_of(nodes, tuple(outputs), w=WEIGHT)
    x = np.arange(-3.0, 3).reshape(1, 2, 3)
    meant, made = evaluate_graph(graph, x), plan(graph, "x86-64-avx2")
    values = evaluate(made, x)
    for wanted, name in zip(meant, made.outputs, strict=True):
        np.testing.assert_array_equal(values[name], wanted)


def test_a_value_read_once_under_another_name_is_fused():
    made = plan(graph_of((CONV, SAME, RELU), ("r",), w=WEIGHT), "x86-64-avx2")
    assert [s.op for s in made.steps] == ["relayout", "conv", "relayout"]


def test_an_output_given_twice_comes_back_twice():
    graph = graph_of((node("r", "relu", "x"),), ("r", "x", "r"))
    with open_executable(plan(graph, "host"), "host-isolated") as net:
        first, second, third = net(np.full((1, 2, 3), -1.0))
    assert first.sum() == third.sum() == 0
    assert second.sum() == -6


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (
            graph_of((CONV, node("b", "batch_norm", "c", "o", "z", "z", "z", eps=0.0)), ("b",),
                     w=WEIGHT, o=np.ones(2), z=np.zeros(2)),
            "b: its scale or shift is not finite",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_compiled_is_refused_by_name(graph, message):
    with pytest.raises(PlanError, match=message):
        plan(graph, "x86-64-avx2")


@pytest.mark.parametrize(
    ("graph", "wanted"),
    [
        (graph_of((node("r", "relu", "x"),), ("r",), (("x", (3,)),)), np.zeros(3)),
        (graph_of((), ("x",), (("x", (1, 1, 2, 1, 2, 1)),)), -np.ones((1, 1, 2, 1, 2, 1))),
        (graph_of((), ("k",), k=WEIGHT), WEIGHT),
        (graph_of((node("r", "relu", "k"),), ("r",), k=WEIGHT), np.maximum(WEIGHT, 0)),
    ],
)
def test_values_of_any_rank_and_constants_compile(graph, wanted):
    with open_executable(plan(graph, "host"), "host-isolated") as net:
        (found,) = net(*(-np.ones(shape) for _, shape in graph.inputs))
    np.testing.assert_array_equal(found, np.asarray(wanted, np.float32))


def conv_like(name, weight):
    return Node((name,), "conv", ("x", weight), ONES)


def softmax(name, of):
    return node(name, "softmax", of, axis=1)


@pytest.mark.parametrize(
    ("nodes", "outputs"),
    [
        # A copy of c in even axes was called as the relu is, and the relu was read instead.
        ((node("c:even", "relu", "x"), CONV, softmax("s", "c"), node("z", "add", "s", "c:even")),
         "z"),
        ((node("x:in", "relu", "x"), CONV, node("z", "add", "c", "x:in")), "z"),
        ((node("r", "relu", "x"), node("r:out", "neg", "x")), ("r", "r:out")),
        ((node("k:constant", "relu", "x"), node("z", "add", "k:constant", "k")), "z"),
        # Constants were kept by step and value: both of these products read `p.q.k:constant`.
        ((CONV, conv_like("d", "v"), node("p", "mul", "c", "q.k"), node("p.q", "mul", "d", "k"),
          node("z", "sub", "p", "p.q")), "z"),
    ],
)  # fmt: skip
def test_a_model_may_call_its_values_as_the_planner_calls_its_copies(nodes, outputs):
    k = np.array([[2.0], [3.0]])
    given = {"w": WEIGHT, "v": WEIGHT[::-1], "k": k, "q.k": -k}
    read = {name for made in nodes for name in made.inputs}
    graph = graph_of(nodes, tuple(outputs), **{n: a for n, a in given.items() if n in read})
    compare(graph, np.arange(-3.0, 3).reshape(1, 2, 3))


def test_the_scratch_of_a_recurrence_has_a_name_of_its_own():
    inputs = (("x", (2, 1, 3)), ("h", (1, 2)))
    weights = {"a": np.ones((2, 3)), "b": np.ones((2, 2)), "c": np.zeros(2), "d": np.zeros(2)}
    names = ("x", "a", "b", "c", "d", "h")
    layer = Node(("y", "last"), "rnn", names, attributes(activation="tanh", reverse=False))
    nodes = (node("y.states:sum", "relu", "h"), layer, node("z", "add", "last", "y.states:sum"))
    compare(graph_of(nodes, ("z", "y"), inputs, **weights), np.ones((2, 1, 3)), np.ones((1, 2)))


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        ((conv_like("y", "w"),), {"x": np.ones((1, 2, 3)), "w": np.ones((3, 2, 1))}),
        ((node("y", "max_pool", "x", kernel=(2,), stride=(1,), padding=((0, 0),), dilation=(1,),
               ceil_mode=False),), {"x": np.arange(6.0).reshape(1, 2, 3)}),
        ((Node(("c",), "conv", ("u", "w"), ONES), node("k2", "identity", "k"),
          node("y", "add", "c", "k2")), {"w": WEIGHT, "k": np.ones((1, 2, 3))}),
    ],
)  # fmt: skip
def test_a_constant_is_read_as_any_value_is(nodes, constants):
    """It was spread over the result's shape, whoever read it."""
    graph = graph_of(nodes, ("y",), (("u", (1, 2, 3)),), **constants)
    compare(graph, np.ones((1, 2, 3)))


def compare(graph, *inputs):
    """Hold the Plan's meaning and its code to the Graph's meaning."""
    meant, made = evaluate_graph(graph, *inputs), plan(graph, "host")
    values = evaluate(made, *inputs)
    with open_executable(made, "host-isolated") as net:
        found = net(*inputs)
    for wanted, name, got in zip(meant, made.outputs, found, strict=True):
        np.testing.assert_allclose(values[name], wanted, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-6)
