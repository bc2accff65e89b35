"""Drafts: what the steps of a Plan will be, before they are laid out and scheduled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from jit.kernels.activation import Activation
from refimpl.graph import Attributes, Graph, Node, Shape, attributes
from refimpl.names import unused
from refimpl.plan import PlanError


@dataclass(frozen=True)
class Draft:
    """A step with its arrays: weight and stored mask (F, C, *K), or scale; bias, or shift."""

    name: str
    op: str
    inputs: tuple[str, ...]
    attributes: Attributes = ()
    weight: np.ndarray | None = None
    stored: np.ndarray | None = None
    bias: np.ndarray | None = None
    residual: str = ""
    activation: Activation | None = None
    covers: tuple[str, ...] = ()
    dense_weights: int = 0


@dataclass
class Folding:
    """The drafts made so far, of a Graph that is walked node by node.

    Where it does not fuse, every operator is a draft of its own.
    """

    graph: Graph
    shapes: dict[str, Shape]
    aliases: Mapping[str, str]
    fuses: bool = True
    drafts: dict[str, Draft] = field(default_factory=dict)
    uses: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        # Under whichever name it is read: a value with two readers must stay, aliases or not.
        self.uses.update(self.source(name) for name in self.graph.outputs)
        for node in self.graph.nodes:
            if node.name not in self.aliases:
                self.uses.update(self.source(name) for name in node.inputs)

    def source(self, value: str) -> str:
        """The value that holds the same numbers in the same shape."""
        return self.aliases.get(value, value)

    def read_once(self, value: str) -> bool:
        """True if one node reads these numbers and no output holds them."""
        return self.uses[self.source(value)] == 1

    def emit(self, node: Node, draft: Draft) -> None:
        """Add a draft, which covers the node beside what it covered before."""
        self.drafts[draft.name] = replace(draft, covers=(*draft.covers, node.name))

    def array(self, node: Node, position: int) -> np.ndarray:
        """The constant that an input must be."""
        name = node.inputs[position]
        if name not in self.graph.constants:
            raise PlanError(f"{node.name}: input {position} ({name}) must be a constant to compile")
        return self.graph.constants[name].array

    def mask(self, node: Node, position: int) -> np.ndarray:
        """Which weights of a constant input are kept; all where it is not pruned."""
        sparsity = self.graph.sparsity.get(node.inputs[position])
        shape = self.array(node, position).shape
        return sparsity.mask.array if sparsity else np.ones(shape, bool)

    def between(self, wanted: str, shape: Shape) -> str:
        """A name for a value that the Graph does not have."""
        name = unused(wanted, self.shapes)
        self.shapes[name] = shape
        return name

    def add(self, draft: Draft) -> str:
        """Add a draft of a value in between, or of one whose node another draft covers."""
        self.drafts[draft.name] = draft
        return draft.name


def reshaped(name: str, source: str, before: Shape, after: Shape) -> Draft:
    """The same numbers in another shape; channels may lie in blocks where only a flatten is."""
    flattens = 2 in (len(before), len(after)) and all(2 <= len(s) <= 5 for s in (before, after))
    if flattens and before[0] == after[0]:
        return Draft(name, "relayout", (source,))
    return Draft(name, "reshape", (source,), attributes(shape=after))
