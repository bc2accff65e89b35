"""Embeddings against torch, and what may happen to their indices in a Graph."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from operators import agree, draw_array, run

from refimpl.graph import (
    Constant,
    Graph,
    GraphError,
    Node,
    attributes,
    check,
    evaluate,
    index_inputs,
)
from refimpl.ops import OPERATORS
from refimpl.ops.embedding import IndicesError


@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (2, 1, 5)])
def test_embedding_is_torchs(shape):
    table = draw_array(0, (7, 3))
    indices = np.random.default_rng(0).integers(0, 7, shape)
    theirs = F.embedding(torch.from_numpy(np.asarray(indices)), torch.from_numpy(table))
    agree(run("embedding", np.asarray(indices, np.float64), table), theirs)


@pytest.mark.parametrize("value", [-1.0, 7.0, 0.5, np.nan, np.inf, -np.inf])
def test_embedding_refuses_what_is_no_row(value):
    indices = np.zeros((2, 3))
    indices[1, 2] = value
    with pytest.raises(IndicesError, match=rf"the value {value:g} at \(1, 2\) is not .* 0 to 6"):
        OPERATORS["embedding"].evaluate(indices, np.zeros((7, 3)))


def words(*nodes, outputs=("a", "b")):
    """Two tables looked up by one input, once as it is and once transposed; more nodes."""
    looked = (
        Node(("a",), "embedding", ("ids", "small")),
        Node(("turned",), "transpose", ("ids",), attributes(order=(1, 0))),
        Node(("b",), "embedding", ("turned", "large")),
    )
    tables = {
        "small": Constant(np.arange(10, dtype=np.float32).reshape(5, 2)),
        "large": Constant(np.arange(27, dtype=np.float32).reshape(9, 3)),
    }
    inputs = (("ids", (2, 3)), ("x", (2, 3)))
    return Graph("words", inputs, (*looked, *nodes), outputs, tables)


def test_indices_reach_embeddings_through_what_moves_values():
    graph = words(Node(("y",), "relu", ("x",)))
    check(graph)
    assert index_inputs(graph) == {"ids": 5}
    ids = np.array([[0, 1, 4], [3, 3, 2]])
    a, b = evaluate(graph, ids, np.zeros((2, 3)))
    np.testing.assert_array_equal(a, graph.constants["small"].array[ids])
    np.testing.assert_array_equal(b, graph.constants["large"].array[ids.T])


def test_evaluate_names_the_input_that_leaves_the_smallest_table():
    ids = np.array([[0, 1, 4], [3, 5, 2]])
    with pytest.raises(GraphError, match=r"input 'ids': the value 5 at \(1, 1\) .* of 0 to 4"):
        evaluate(words(), ids, np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (words(Node(("y",), "relu", ("turned",))), r"node 'y' \(relu\): its input 'turned' holds"),
        (words(Node(("y",), "embedding", ("x", "ids"))), "its input 'ids' holds indices"),
        (words(Node(("y",), "embedding", ("a", "large"))), "its indices 'a' are not an input"),
        (words(Node(("y",), "embedding", ("small", "large"))), "look constant indices up"),
        (words(outputs=("a", "turned")), "output 'turned' holds indices"),
    ],
)
def test_check_refuses_other_uses_of_indices(graph, message):
    with pytest.raises(GraphError, match=message):
        check(graph)
