"""The checker: which Graphs have a meaning, and the shape of every value."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from refimpl.graph.form import Constant, Graph, GraphError, Node, Sparsity
from refimpl.ops import MOST_AXES, OPERATORS, Operator, Shape, ShapeError
from refimpl.schemes import SchemeError

# No tensor of a network on a phone comes near; sizes past this are mistakes or attacks.
LARGEST_TENSOR = 2**40
# Operators through which an input may pass on its way to an embedding.
_MOVING = {"identity", "reshape", "flatten", "transpose", "slice", "expand"}


def check(graph: Graph) -> None:
    """Return if the Graph is well formed.

    Raises:
        GraphError: naming the node or value, and the rule that it breaks.
    """
    known = shapes(graph)
    if not graph.outputs:
        raise GraphError(f"graph {graph.name!r} has no outputs")
    for name in graph.outputs:
        if name not in known:
            raise GraphError(f"output {name!r} is defined by no input, constant or node")
    for name, sparsity in graph.sparsity.items():
        if name not in graph.constants:
            raise GraphError(f"sparsity names {name!r}, which is not a constant")
        _check_sparsity(name, graph.constants[name], sparsity)
    _check_uses_of_pruned(graph)
    index_inputs(graph)


def shapes(graph: Graph) -> dict[str, Shape]:
    """The shape of every input, constant and node output.

    Raises:
        GraphError: a name is defined twice or not before its use, an operator is unknown, or its
            arity, attributes or shape rule are broken.
    """
    known: dict[str, Shape] = {}
    for name, shape in graph.inputs:
        _define(known, name, shape, f"input {name!r}")
    for name, constant in graph.constants.items():
        if constant.array.dtype != np.float32:
            raise GraphError(f"constant {name!r} is {constant.array.dtype}, not float32")
        _define(known, name, constant.array.shape, f"constant {name!r}")
    for node in graph.nodes:
        for name, shape in zip(node.outputs, _node_shapes(node, known), strict=True):
            _define(known, name, shape, describe(node))
    return known


def index_inputs(graph: Graph) -> dict[str, int]:
    """The inputs that index embeddings, and the rows of the smallest table that each indexes.

    Such an input holds whole numbers of 0 to rows - 1, and nothing but embeddings reads it,
    directly or moved by identity, reshape, flatten, transpose, slice or expand.

    Raises:
        GraphError: something else does, or an embedding's indices come from elsewhere.
    """
    known, origin = shapes(graph), {name: name for name, _ in graph.inputs}
    for node in graph.nodes:
        if node.op in _MOVING and node.inputs[0] in origin:
            origin[node.name] = origin[node.inputs[0]]
    rows: dict[str, int] = {}
    for node in graph.nodes:
        if node.op == "embedding":
            indices, table = node.inputs
            if indices not in origin:
                raise GraphError(
                    f"{describe(node)}: its indices {indices!r} are not an input of the graph, "
                    f"which alone may index; look constant indices up beforehand"
                )
            source, size = origin[indices], known[table][0]
            rows[source] = min(size, rows.get(source, size))
    _check_readers_of_indices(graph, {name for name, source in origin.items() if source in rows})
    return rows


def _check_readers_of_indices(graph: Graph, indices: set[str]) -> None:
    rule = "holds indices of an embedding, which nothing else may read"
    for node in graph.nodes:
        computes = node.inputs[1:] if node.op == "embedding" else node.inputs
        for name in computes:
            if name in indices and node.op not in _MOVING:
                raise GraphError(f"{describe(node)}: its input {name!r} {rule}")
    for name in graph.outputs:
        if name in indices:
            raise GraphError(f"output {name!r} {rule}")


def describe(node: Node) -> str:
    """How messages call a node: its name and operator."""
    return f"node {node.outputs[0]!r} ({node.op})" if node.outputs else f"a node ({node.op})"


def _node_shapes(node: Node, known: Mapping[str, Shape]) -> tuple[Shape, ...]:
    if node.op not in OPERATORS:
        raise GraphError(f"{describe(node)}: no such operator; there are {', '.join(OPERATORS)}")
    operator = OPERATORS[node.op]
    if len(node.outputs) != operator.results:
        raise GraphError(
            f"{describe(node)}: defines {len(node.outputs)} values instead of {operator.results}"
        )
    _check_arity(node, operator)
    _check_attributes(node, operator)
    for name in node.inputs:
        if name not in known:
            raise GraphError(f"{describe(node)}: input {name!r} is not defined before it")
    try:
        return operator.each(operator.shape([known[name] for name in node.inputs], node.attrs))
    except ShapeError as error:
        raise GraphError(f"{describe(node)}: {error}") from error


def _check_arity(node: Node, operator: Operator) -> None:
    least, most = operator.arity
    if len(node.inputs) < least or (most is not None and len(node.inputs) > most):
        wanted = f"{least} or more" if most is None else " to ".join(map(str, {least, most}))
        raise GraphError(f"{describe(node)}: has {len(node.inputs)} inputs instead of {wanted}")


def _check_attributes(node: Node, operator: Operator) -> None:
    names = [name for name, _ in node.attributes]
    if len(set(names)) != len(names):
        raise GraphError(f"{describe(node)}: an attribute is given twice among {names}")
    for name in names:
        if name not in operator.attributes:
            wanted = ", ".join(operator.attributes) or "none"
            raise GraphError(f"{describe(node)}: unknown attribute {name!r}; it has {wanted}")
    for name, kind in operator.attributes.items():
        if name not in names:
            raise GraphError(f"{describe(node)}: attribute {name} is missing")
        if not kind.accepts(node.attrs[name]):
            raise GraphError(
                f"{describe(node)}: attribute {name} is {node.attrs[name]!r}, not {kind.text}"
            )


def _define(known: dict[str, Shape], name: str, shape: Shape, what: str) -> None:
    if name in known:
        raise GraphError(f"{what}: the name {name!r} is already defined")
    if type(shape) is not tuple or not all(type(size) is int and size > 0 for size in shape):
        raise GraphError(f"{what}: shape {shape} is not a tuple of ints of 1 or more")
    if len(shape) > MOST_AXES:
        raise GraphError(f"{what}: shape {shape} has more than {MOST_AXES} axes")
    if math.prod(shape) > LARGEST_TENSOR:
        raise GraphError(f"{what}: shape {shape} has more than 2^40 elements")
    known[name] = shape


def _check_sparsity(name: str, constant: Constant, sparsity: Sparsity) -> None:
    mask, weight = sparsity.mask.array, constant.array
    if mask.dtype != np.bool_ or mask.shape != weight.shape:
        raise GraphError(
            f"mask of {name!r} is {mask.dtype} of shape {mask.shape}, "
            f"not bool of the weight's shape {weight.shape}"
        )
    # `!= 0` holds for NaN: a NaN in a pruned place is not a pruned weight.
    remaining = np.count_nonzero(weight[~mask] != 0)
    if remaining:
        raise GraphError(
            f"weight {name!r} is not zero at {remaining} places that its mask prunes; "
            f"multiply it by the mask first"
        )


def _check_uses_of_pruned(graph: Graph) -> None:
    """A pruned constant is the weight of at least one node, and of nothing else."""
    unused = set(graph.sparsity)
    for node in graph.nodes:
        weights = OPERATORS[node.op].weights
        for position, name in enumerate(node.inputs):
            if name not in graph.sparsity:
                continue
            if position not in weights:
                prunable = ", ".join(op.name for op in OPERATORS.values() if op.weights)
                raise GraphError(
                    f"{describe(node)}: input {position} is {name!r}, which is pruned; "
                    f"only weights of these may be: {prunable}"
                )
            _check_legal(node, name, graph.sparsity[name])
            unused.discard(name)
    if unused:
        raise GraphError(f"constant {min(unused)!r} is pruned, but no node has it as its weight")


def _check_legal(node: Node, name: str, sparsity: Sparsity) -> None:
    # Whether a mask is legal depends on the node too: no block straddles two groups or gates.
    parts = OPERATORS[node.op].parts(node.attrs)
    try:
        reason = sparsity.scheme.legal(sparsity.mask.array, parts=parts)
    except SchemeError as error:
        reason = str(error)
    if reason is not None:
        raise GraphError(f"{describe(node)}: the mask of {name!r} is not legal: {reason}")
