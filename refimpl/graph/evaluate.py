"""The interpreter: what a Graph computes, in float64."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from refimpl.graph.check import check, index_inputs
from refimpl.graph.form import Graph, GraphError, Node
from refimpl.ops import OPERATORS
from refimpl.ops.embedding import IndicesError, require_indices


def evaluate(graph: Graph, *inputs: np.ndarray, fast: bool = False) -> tuple[np.ndarray, ...]:
    """The outputs, float64, in the Graph's order.

    Args:
        graph: any; it is checked first.
        inputs: one real array for each of the Graph's inputs, of exactly its shape.
        fast: use the operators' vectorised twins where there are any.

    Raises:
        GraphError: the Graph is ill-formed, or the inputs are not the ones it takes: in number
            or shape, or because one that indexes an embedding holds what is no row of its table.
    """
    values = evaluate_all(graph, *inputs, fast=fast)
    return tuple(values[name] for name in graph.outputs)


def evaluate_all(graph: Graph, *inputs: np.ndarray, fast: bool = False) -> dict[str, np.ndarray]:
    """Every value by name, float64: inputs, constants and what each node computes."""
    check(graph)
    values = _bind_inputs(graph, inputs)
    for name, constant in graph.constants.items():
        values[name] = constant.array.astype(np.float64)
    for node in graph.nodes:
        found = evaluate_node(graph, node, values, fast=fast)
        values.update(zip(node.outputs, found, strict=True))
    return values


def evaluate_node(
    graph: Graph, node: Node, values: Mapping[str, np.ndarray], *, fast: bool = False
) -> tuple[np.ndarray, ...]:
    """What one node of a checked Graph computes from the values of its inputs.

    Returns:
        One float64 array for each of the node's outputs.
    """
    operator = OPERATORS[node.op]
    meaning = operator.fast if fast and operator.fast else operator.evaluate
    arguments = [np.asarray(values[name], np.float64) for name in node.inputs]
    keywords = node.attrs
    for position, mask in operator.weights.items():
        if node.inputs[position] in graph.sparsity:
            keywords[mask] = graph.sparsity[node.inputs[position]].mask.array
    # Infinities and NaN are values here, not accidents.
    with np.errstate(all="ignore"):
        return operator.each(meaning(*arguments, **keywords))


def _bind_inputs(graph: Graph, inputs: tuple[np.ndarray, ...]) -> dict[str, np.ndarray]:
    if len(inputs) != len(graph.inputs):
        names = ", ".join(name for name, _ in graph.inputs)
        raise GraphError(
            f"graph {graph.name!r} takes {len(graph.inputs)} inputs ({names}), not {len(inputs)}"
        )
    values = {}
    for (name, shape), array in zip(graph.inputs, inputs, strict=True):
        if np.shape(array) != shape:
            raise GraphError(f"input {name!r} has shape {np.shape(array)} instead of {shape}")
        values[name] = np.array(array, np.float64)
    for name, rows in index_inputs(graph).items():
        try:
            require_indices(values[name], rows)
        except IndicesError as error:
            raise GraphError(f"input {name!r}: {error}") from error
    return values
