"""What of a Graph cannot be compiled for a target, node by node."""

from __future__ import annotations

import jit.decide
from jit.target import Target, target
from refimpl import graph as graphs
from refimpl.graph import Graph, Node
from refimpl.plan import PlanError


def obstacles(graph: Graph, target_name: str) -> list[str]:
    """A sentence for every node that cannot be compiled; none where the Graph can be planned.

    Args:
        graph: checked.
        target_name: as `gossamer.plan` takes it.

    Raises:
        TargetError: an unknown target.
    """
    machine = target(target_name)
    whole = _refusal(graph, machine)
    if whole is None:
        return []
    # A plan names one node; alone, each of the others says whether it is one, too.
    shapes = graphs.shapes(graph)
    single = [_refusal(_alone(graph, node, shapes), machine) for node in graph.nodes]
    return list(dict.fromkeys(text for text in (*single, whole) if text is not None))


def _refusal(graph: Graph, machine: Target) -> str | None:
    try:
        jit.decide.plan(graph, machine)
    except PlanError as error:
        return str(error)
    return None


def _alone(graph: Graph, node: Node, shapes: dict[str, graphs.Shape]) -> Graph:
    """A Graph of one node: what it reads of others are inputs."""
    read = dict.fromkeys(node.inputs)
    constants = {name: graph.constants[name] for name in read if name in graph.constants}
    inputs = tuple((name, shapes[name]) for name in read if name not in constants)
    sparsity = {name: graph.sparsity[name] for name in read if name in graph.sparsity}
    return Graph(graph.name, inputs, (node,), node.outputs, constants, sparsity)
