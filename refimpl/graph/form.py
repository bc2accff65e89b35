"""Graph: what a network computes, before anything is decided about how.

The grammar of the form (one line of text per entry; `print(graph)` writes it, `parse` reads it):

    graph   := "graph" NAME "{" input* const* node* output* "}"
    input   := "input" NAME ":" shape
    const   := "const" NAME ":" shape DIGEST ["[" NAME DIGEST "]"]      the scheme and its mask
    node    := NAME ("," NAME)* "=" NAME "(" [NAME ("," NAME)*] ")" "{" [attr ("," attr)*] "}"
    output  := "output" NAME
    attr    := NAME "=" value
    value   := INT | FLOAT | "True" | "False" | STRING | "(" [value ("," value)* [","]] ")"
    shape   := INT ("x" INT)* | "()"
    NAME    := letters, digits, "_" and "." | STRING
    STRING  := as in JSON;  DIGEST := 16 hex digits

Every value is a float32 tensor of at most 8 axes.  The indices of an embedding are whole numbers
in one, and an input that holds some is read by nothing else (`refimpl.graph.index_inputs`).  Large
constants stand beside the text, by name and digest, and compare by digest.  Operators live in
`refimpl.ops`.

Dimension letters, here and everywhere: N batch, F filters (output channels), C input channels,
D H W depth, height, width of a plane, K kernel positions (kd*kh*kw).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from refimpl.graph.show import show
from refimpl.ops import Shape
from refimpl.schemes import Scheme

Attributes = tuple[tuple[str, Any], ...]


def attributes(**values: Any) -> Attributes:
    """The attributes of a Node, from keywords: `attributes(start=1, end=3)`."""
    return tuple(values.items())


class GraphError(ValueError):
    """A Graph that breaks a rule; the message names the node and the rule."""


@dataclass(frozen=True, eq=False)
class Constant:
    """A read-only array that compares and hashes by the digest of its bytes, dtype and shape."""

    array: np.ndarray

    def __post_init__(self) -> None:
        # NumPy's ascontiguousarray makes a scalar 1-D; asarray(order="C") keeps the shape.
        array = np.array(self.array, order="C", copy=True)
        array.setflags(write=False)
        object.__setattr__(self, "array", array)

    @cached_property
    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 of dtype, shape and bytes."""
        head = f"{self.array.dtype.str}{self.array.shape}".encode()
        return hashlib.sha256(head + self.array.tobytes()).hexdigest()[:16]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constant) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)


@dataclass(frozen=True)
class Sparsity:
    """What is known of a pruned weight: its scheme and its mask (bool, True = kept)."""

    scheme: Scheme
    mask: Constant


@dataclass(frozen=True)
class Node:
    """One operator: the values it defines, its name in `refimpl.ops`, inputs and attributes."""

    outputs: tuple[str, ...]
    op: str
    inputs: tuple[str, ...]
    attributes: Attributes = ()

    def __post_init__(self) -> None:
        # Sorted, so that equality does not depend on the order in which they were given.
        ordered = sorted(self.attributes, key=lambda pair: pair[0])
        object.__setattr__(self, "attributes", tuple(ordered))

    @property
    def name(self) -> str:
        """The node is called by its first output."""
        return self.outputs[0]

    @property
    def attrs(self) -> dict[str, Any]:
        """The attributes as a dictionary."""
        return dict(self.attributes)


@dataclass(frozen=True)
class Graph:
    """A network: typed inputs, named constants, nodes in a legal order, outputs."""

    name: str
    inputs: tuple[tuple[str, Shape], ...]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    constants: Mapping[str, Constant] = field(default_factory=dict)
    sparsity: Mapping[str, Sparsity] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Copies, so that a caller's later change to its dictionaries does not reach the Graph.
        object.__setattr__(self, "constants", dict(self.constants))
        object.__setattr__(self, "sparsity", dict(self.sparsity))

    def __str__(self) -> str:
        """The text that `refimpl.graph.parse` reads back to an equal Graph."""
        return show(self)
