"""What a Graph costs: multiply-accumulates and parameters, dense and kept."""

from __future__ import annotations

import math

import numpy as np

from refimpl.graph.check import shapes
from refimpl.graph.form import Graph
from refimpl.ops import OPERATORS


def macs(graph: Graph) -> dict[str, tuple[int, int]]:
    """Per convolution and linear node, by name: multiply-accumulates (dense, kept).

    Dense counts every weight at every output position, those that read padding included; kept
    counts the weights that the mask keeps.  Other operators have none.
    """
    known = shapes(graph)
    found = {}
    for node in graph.nodes:
        weight_uses = OPERATORS[node.op].weight_uses
        if weight_uses is not None:
            uses = weight_uses([known[name] for name in node.inputs], known[node.name])
            weights = math.prod(known[node.inputs[1]])
            found[node.name] = (uses * weights, uses * _kept(graph, node.inputs[1], weights))
    return found


def parameters(graph: Graph) -> dict[str, tuple[int, int]]:
    """Per constant, by name: elements (all, kept)."""
    sizes = {name: constant.array.size for name, constant in graph.constants.items()}
    return {name: (size, _kept(graph, name, size)) for name, size in sizes.items()}


def _kept(graph: Graph, name: str, size: int) -> int:
    if name not in graph.sparsity:
        return size
    return int(np.count_nonzero(graph.sparsity[name].mask.array))
