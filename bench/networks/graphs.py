"""Graphs with random masks: of any network, and the demo's."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bench.errors import BenchError
from bench.shape import random_mask
from refimpl.graph import Constant, Graph, Shape, Sparsity, check
from refimpl.ops import OPERATORS
from refimpl.schemes import Scheme, Scope
from refimpl.winograd_domain import to_winograd

Ratios = Mapping[str, float]
"""The share pruned of a weight, by its name."""

DEMO_RATIOS: dict[str, Ratios] = {
    "3x": {f"{layer}.weight": 0.70 for layer in ("conv2", "conv3a", "conv3b", "conv4")},
}
"""The demo's network with all its prunable layers alike."""


def demo(seed: int = 0) -> Graph:
    """The demo's network (`prune.demo.network`), captured: input (1, 1, 16, 32, 32), 248 MMAC.

    Raises:
        ImportError: torch is not installed.
    """
    import torch

    from prune.demo.network import MotionNet
    from refimpl.importers.torch import capture

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return capture(MotionNet(), (torch.zeros(1, 1, 16, 32, 32),))


def over_points(graph: Graph, tiles: Mapping[str, Shape]) -> Graph:
    """The Graph with convolutions rewritten over points of transformed kernels.

    Args:
        graph: any.
        tiles: the outputs of a tile along every axis, by the name of a convolution's weight; the
            new weight is called `points_name` of it.

    Raises:
        GraphError: a convolution has no such tiles.
    """
    readers = {name: node.name for node in graph.nodes for name in node.inputs}
    for weight, outputs in tiles.items():
        graph = to_winograd(graph, readers[weight], outputs)
    return graph


def points_name(weight: str) -> str:
    """What `to_winograd` calls the points of a weight."""
    return f"{weight}.points"


def pruned(
    graph: Graph, ratios: Ratios, scheme: Scheme, *, scope: Scope | None = None, seed: int = 0
) -> Graph:
    """The Graph with random legal masks on the weights that `ratios` names.

    Raises:
        BenchError: the Graph has no such weight.
        SchemeError: the scheme cannot keep that share.
    """
    constants, sparsity = dict(graph.constants), dict(graph.sparsity)
    readers = {name: node for node in graph.nodes for name in node.inputs}
    for number, (name, ratio) in enumerate(ratios.items()):
        if name not in constants:
            raise BenchError(f"{graph.name} has no weight {name!r}")
        weight, node = constants[name].array, readers[name]
        parts = OPERATORS[node.op].parts(node.attrs)
        mask = random_mask(
            weight.shape, scheme, 1 - ratio, scope=scope, parts=parts, seed=seed + number
        )
        constants[name] = Constant(np.where(mask, weight, np.float32(0)))
        sparsity[name] = Sparsity(scheme, Constant(mask))
    result = Graph(graph.name, graph.inputs, graph.nodes, graph.outputs, constants, sparsity)
    check(result)
    return result
