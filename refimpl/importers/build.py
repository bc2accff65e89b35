"""A Graph under construction, as every importer builds it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, overload

import numpy as np

from refimpl.graph import Constant, Graph, Node, Shape, Sparsity, attributes, check
from refimpl.ops import OPERATORS


class Builder:
    """Nodes are added in order; every value gets a unique name, and its shape is known at once."""

    def __init__(self, inputs: Iterable[tuple[str, Shape]], reserved: Iterable[str] = ()) -> None:
        """Args: the Graph's inputs, and names (of parameters) that no node may take."""
        self.inputs = tuple(inputs)
        self.shapes: dict[str, Shape] = dict(self.inputs)
        self.constants: dict[str, Constant] = {}
        self.nodes: list[Node] = []
        self._taken = {*self.shapes, *reserved}

    def unique(self, wanted: str) -> str:
        """The wanted name, or with the first free number behind it; taken from now on."""
        name, number = wanted, 0
        while name in self._taken:
            number += 1
            name = f"{wanted}_{number}"
        self._taken.add(name)
        return name

    def constant(self, name: str, array: np.ndarray) -> str:
        """Add a constant, unless it is there already; its name is the value."""
        if name not in self.constants:
            self.constants[name] = Constant(array)
            self.shapes[name] = self.constants[name].array.shape
        return name

    @overload
    def add(
        self, wanted: str, op: Literal["rnn", "gru", "lstm"], inputs: tuple[str, ...], **values: Any
    ) -> tuple[str, ...]: ...

    @overload
    def add(self, wanted: str, op: str, inputs: tuple[str, ...], **values: Any) -> str: ...

    def add(
        self, wanted: str, op: str, inputs: tuple[str, ...], **values: Any
    ) -> str | tuple[str, ...]:
        """Add a node.

        Returns:
            The value it defines, called `wanted` if that is free; of an operator with several
            results the tuple of their names.

        Raises:
            ShapeError: the inputs do not fit the operator.
        """
        operator = OPERATORS[op]
        shapes = operator.each(operator.shape([self.shapes[name] for name in inputs], values))
        names = tuple(self.unique(wanted) for _ in shapes)
        self.shapes.update(zip(names, shapes, strict=True))
        self.nodes.append(Node(names, op, inputs, attributes(**values)))
        return names if operator.results > 1 else names[0]

    def graph(self, name: str, outputs: Iterable[str], sparsity: Mapping[str, Sparsity]) -> Graph:
        """The finished Graph.

        Raises:
            GraphError: it is ill-formed, or a weight or mask breaks its scheme.
        """
        graph = Graph(
            name, self.inputs, tuple(self.nodes), tuple(outputs), self.constants, sparsity
        )
        check(graph)
        return graph
