"""Recurrences that an export has written out step by step, recognised so that they are refused.

Such a Graph computes the right thing, but one copy of the layer per step: its weights cannot be
pruned or scheduled as a recurrent layer's, and its length is fixed for no reason.
"""

from __future__ import annotations

from collections.abc import Iterator

from refimpl.graph import Graph, Node
from refimpl.importers import CaptureError

_GATES = frozenset(("sigmoid", "tanh"))
_PRODUCTS = frozenset(("linear", "matmul"))
# Networks that share a layer do so over a dozen depths; sequences are longer.
_FEWEST_STEPS = 16


def refuse_unrolled(graph: Graph, advice: str) -> None:
    """Refuse a Graph in which one weight is applied over and over to what it made itself.

    Args:
        graph: as captured.
        advice: how to export the model so that the layer stays whole.

    Raises:
        CaptureError: there is such a weight; the message names it and where it is used first.
    """
    for weight, uses in _often_used(graph):
        steps = _longest_chain(graph, weight)
        if steps >= _FEWEST_STEPS:
            raise CaptureError(
                f"the weight {weight!r} is applied {steps} times one after another, through gates, "
                f"from node {uses[0]!r} on: a recurrent layer, written out step by step. "
                f"To capture it whole, {advice}"
            )


def _often_used(graph: Graph) -> Iterator[tuple[str, list[str]]]:
    uses: dict[str, list[str]] = {}
    for node in graph.nodes:
        if node.op in _PRODUCTS and node.inputs[1] in graph.constants:
            uses.setdefault(node.inputs[1], []).append(node.name)
    return ((weight, names) for weight, names in uses.items() if len(names) >= _FEWEST_STEPS)


def _longest_chain(graph: Graph, weight: str) -> int:
    """The most products with the weight on one path, with a gate between each and the next.

    Every value knows its best path: the number of products, and whether a gate came since.
    """
    best: dict[str, tuple[int, bool]] = {}
    for node in graph.nodes:
        found = _extended(node, weight, max(best.get(n, (0, True)) for n in node.inputs))
        best.update(dict.fromkeys(node.outputs, found))
    return max((count for count, _ in best.values()), default=0)


def _extended(node: Node, weight: str, path: tuple[int, bool]) -> tuple[int, bool]:
    count, gated = path
    if node.op in _PRODUCTS and node.inputs[1] == weight and gated:
        return count + 1, False
    return count, gated or node.op in _GATES
