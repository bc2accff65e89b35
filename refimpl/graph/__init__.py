"""Graph: what a network computes.  The form, its text, its checker, its costs, its meaning."""

from refimpl.graph.check import check, index_inputs, shapes
from refimpl.graph.evaluate import evaluate, evaluate_all, evaluate_node
from refimpl.graph.form import (
    Attributes,
    Constant,
    Graph,
    GraphError,
    Node,
    Sparsity,
    attributes,
)
from refimpl.graph.measure import macs, parameters
from refimpl.graph.parse import parse
from refimpl.ops import Shape

__all__ = [
    "Attributes",
    "Constant",
    "Graph",
    "GraphError",
    "Node",
    "Shape",
    "Sparsity",
    "attributes",
    "check",
    "evaluate",
    "evaluate_all",
    "evaluate_node",
    "index_inputs",
    "macs",
    "parameters",
    "parse",
    "shapes",
]
