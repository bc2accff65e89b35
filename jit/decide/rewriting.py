"""Rewriting a Graph: what rules work with, and what they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from refimpl import graph as graphs
from refimpl.graph import Constant, Graph, Node, Shape, attributes
from refimpl.names import unused
from refimpl.ops import OPERATORS

Link = tuple[str, str, Mapping[str, Any]]
"""(what the value in between is called, operator, attributes) of a chain of operators."""


class Rewriting:
    """The nodes of a Graph one by one, each as it is or as what takes its place."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.shapes: dict[str, Shape] = dict(graphs.shapes(graph))
        self.constants = dict(graph.constants)
        self.nodes: list[Node] = []
        self.made: dict[str, Node] = {}

    def result(self) -> Graph:
        """The Graph of what was kept and added, checked."""
        g = self.graph
        result = Graph(
            g.name, g.inputs, tuple(self.nodes), g.outputs, self.used_constants(), g.sparsity
        )
        graphs.check(result)
        return result

    def used_constants(self) -> dict[str, Constant]:
        """Constants that are still read, or that are outputs."""
        read = {name for node in self.nodes for name in node.inputs} | set(self.graph.outputs)
        return {name: c for name, c in self.constants.items() if name in read}

    def keep(self, node: Node) -> None:
        """A node as it is."""
        self.nodes.append(node)
        self.made[node.name] = node

    def constant(self, wanted: str, array: np.ndarray) -> str:
        """The name of a new constant."""
        name = unused(wanted, self.shapes)
        self.constants[name] = Constant(np.asarray(array, np.float32))
        self.shapes[name] = self.constants[name].array.shape
        return name

    def add(self, wanted: str, op: str, *inputs: str, **values: Any) -> str:
        """A node for a value in between."""
        name = unused(wanted, self.shapes)
        self.shapes[name] = OPERATORS[op].shape([self.shapes[i] for i in inputs], values)
        self.keep(Node((name,), op, inputs, attributes(**values)))
        return name

    def end(self, node: Node, op: str, *inputs: str, **values: Any) -> bool:
        """The node that takes the place of the one rewritten."""
        self.keep(Node(node.outputs, op, inputs, attributes(**values)))
        return True

    def chain(self, node: Node, x: str, links: Sequence[Link]) -> bool:
        """Operators one after another from x on, the last in the place of the one rewritten."""
        for part, op, values in links[:-1]:
            x = self.add(f"{node.name}.{part}", op, x, **values)
        (_, op, values) = links[-1]
        return self.end(node, op, x, **values)


Rule = Callable[[Rewriting, Node], bool]
"""Adds what computes the node's values and returns True, or leaves it as it is."""
