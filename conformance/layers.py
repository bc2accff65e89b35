"""Cases as values a person can read: layers, nets of layers, and the numbers to fill them with.

A `Net` says the structure and `Values` say what kind of numbers, by a seed; together they make a
Graph and its inputs.  Nothing here draws at random: `conformance.strategies` does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Literal

import numpy as np

from conformance.values import Values
from refimpl.graph import Attributes, Constant, Graph, Node, Shape, Sparsity, attributes, shapes
from refimpl.schemes import scheme_from_text

Activation = tuple[str, tuple[tuple[str, float], ...]]
Pairs = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Conv:
    """A convolution, perhaps with batch norm, then a residual, then an activation.

    residual: a second input of the network, or the convolution's own input where shapes agree.
    keep: the share of weights that the scheme keeps; 0 keeps none.
    """

    filters: int
    kernel: Shape
    stride: Shape
    padding: Pairs
    dilation: Shape
    groups: int = 1
    bias: bool = True
    norm: bool = False
    residual: Literal["none", "input", "self"] = "none"
    activation: Activation | None = None
    scheme: str = "dense"
    keep: float = 1.0


@dataclass(frozen=True)
class Linear:
    """A linear layer, after a flatten where its input has spatial axes."""

    filters: int
    bias: bool = True
    activation: Activation | None = None
    scheme: str = "dense"
    keep: float = 1.0


@dataclass(frozen=True)
class Pool:
    """A pooling; `op` is the operator and `attributes` its own."""

    op: str
    attributes: Attributes


@dataclass(frozen=True)
class Element:
    """An activation alone, a batch norm, or add, sub, mul with a second input, then activated."""

    op: Literal["none", "batch_norm", "add", "sub", "mul"]
    activation: Activation | None = None


@dataclass(frozen=True)
class Softmax:
    """Softmax over C of (N, C)."""


@dataclass(frozen=True)
class Flatten:
    """(N, C, *S) to (N, C * S)."""


Layer = Conv | Linear | Pool | Element | Softmax | Flatten


@dataclass(frozen=True)
class Net:
    """Layers in a row on one input."""

    shape: Shape
    layers: tuple[Layer, ...]


def build(net: Net, values: Values) -> tuple[Graph, tuple[np.ndarray, ...]]:
    """The Graph of a net with its constants, and inputs for it."""
    return _Builder(values).build(net)


@dataclass
class _Builder:
    values: Values
    rng: np.random.Generator = field(init=False)
    inputs: dict[str, np.ndarray] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Constant] = field(default_factory=dict)
    sparsity: dict[str, Sparsity] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rng = self.values.generator()

    def build(self, net: Net) -> tuple[Graph, tuple[np.ndarray, ...]]:
        value = self.input(net.shape)
        for layer in net.layers:
            value = self.layer(layer, value)
        return self.graph((value,)), tuple(self.inputs.values())

    def graph(self, outputs: tuple[str, ...]) -> Graph:
        named = tuple((name, array.shape) for name, array in self.inputs.items())
        return Graph("case", named, tuple(self.nodes), outputs, self.constants, self.sparsity)

    def shape(self, value: str) -> Shape:
        return shapes(self.graph(()))[value]

    # -- parts -------------------------------------------------------------------------------

    def input(self, shape: Shape) -> str:
        name = f"x{len(self.inputs)}"
        self.inputs[name] = self.values.input(self.rng, shape)
        return name

    def node(self, op: str, *inputs: str, **given) -> str:
        name = f"{op}{len(self.nodes)}"
        self.nodes.append(Node((name,), op, inputs, attributes(**given)))
        return name

    def constant(self, name: str, array: np.ndarray) -> str:
        name = f"{name}{len(self.constants)}"
        self.constants[name] = Constant(array)
        return name

    def activated(self, value: str, activation: Activation | None) -> str:
        return (
            value if activation is None else self.node(activation[0], value, **dict(activation[1]))
        )

    def weight(self, shape: Shape, layer: Conv | Linear, parts: int = 1) -> str:
        array = self.values.weight(self.rng, shape)
        if layer.scheme == "dense":
            return self.constant("weight", array)
        scheme = scheme_from_text(layer.scheme)
        mask = np.zeros(shape, bool)
        if layer.keep > 0:
            mask = scheme.project(self.rng.standard_normal(shape), layer.keep, parts=parts)
        name = self.constant("weight", np.where(mask, array, np.float32(0)))
        self.sparsity[name] = Sparsity(scheme, Constant(mask))
        return name

    def bias(self, layer: Conv | Linear) -> list[str]:
        return [self.constant("bias", self.values.bias(self.rng, layer.filters))] * layer.bias

    # -- layers ------------------------------------------------------------------------------

    def layer(self, layer: Layer, x: str) -> str:
        match layer:
            case Conv():
                return self.conv(layer, x)
            case Linear():
                x = self.layer(Flatten(), x) if len(self.shape(x)) > 2 else x
                weight = self.weight((layer.filters, self.shape(x)[1]), layer)
                y = self.node("linear", x, weight, *self.bias(layer))
                return self.activated(y, layer.activation)
            case Pool(op, given):
                return self.node(op, x, **dict(given))
            case Element():
                return self.element(layer, x)
            case Softmax():
                return self.node("softmax", x, axis=1)
        n, *rest = self.shape(x)
        return self.node("reshape", x, shape=(n, prod(rest)))

    def conv(self, layer: Conv, x: str) -> str:
        shape = (layer.filters, self.shape(x)[1] // layer.groups, *layer.kernel)
        weight = self.weight(shape, layer, layer.groups)
        y = self.node(
            "conv", x, weight, *self.bias(layer), stride=layer.stride, padding=layer.padding,
            dilation=layer.dilation, groups=layer.groups,
        )  # fmt: skip
        if layer.norm:
            y = self.norm(y)
        if layer.residual != "none":
            y = self.node("add", y, x if layer.residual == "self" else self.input(self.shape(y)))
        return self.activated(y, layer.activation)

    def norm(self, x: str) -> str:
        names = [self.constant("norm", a) for a in self.values.norm(self.rng, self.shape(x)[1])]
        return self.node("batch_norm", x, *names, eps=self.values.EPS)

    def element(self, layer: Element, x: str) -> str:
        if layer.op == "batch_norm":
            x = self.norm(x)
        elif layer.op != "none":
            x = self.node(layer.op, x, self.input(self.shape(x)))
        return self.activated(x, layer.activation)
