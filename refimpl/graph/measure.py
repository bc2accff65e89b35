"""What a Graph costs: multiply-accumulates and parameters, dense and kept."""

from __future__ import annotations

import math

import numpy as np

from refimpl.graph.check import shapes
from refimpl.graph.form import Graph
from refimpl.ops import OPERATORS


def macs(graph: Graph) -> dict[str, tuple[int, int]]:
    """Per node that contracts (conv, linear, matmul ...), by name: MACs (dense, kept).

    Dense counts every weight as often as its operator multiplies it, products with padding
    included; kept counts the weights that the mask keeps.  Of a `winograd_conv` dense is what the
    direct convolution multiplies, kept what is multiplied between the transforms, whose own
    additions are not counted.  Other operators have none.
    """
    known = shapes(graph)
    found = {}
    for node in graph.nodes:
        given, results = ([known[name] for name in names] for names in (node.inputs, node.outputs))
        operator = OPERATORS[node.op]
        uses = operator.uses(given, results, node.attrs)
        if uses:
            sizes = {position: math.prod(given[position]) for position in uses}
            kept = {i: _kept(graph, node.inputs[i], size) for i, size in sizes.items()}
            dense, sparse = (sum(uses[i] * n[i] for i in uses) for n in (sizes, kept))
            if operator.direct is not None:
                dense = operator.direct(given, results, node.attrs)
            found[node.name] = (dense, sparse)
    return found


def parameters(graph: Graph) -> dict[str, tuple[int, int]]:
    """Per constant, by name: elements (all, kept)."""
    sizes = {name: constant.array.size for name, constant in graph.constants.items()}
    return {name: (size, _kept(graph, name, size)) for name, size in sizes.items()}


def _kept(graph: Graph, name: str, size: int) -> int:
    if name not in graph.sparsity:
        return size
    return int(np.count_nonzero(graph.sparsity[name].mask.array))
