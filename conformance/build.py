"""From a net and the kind of its numbers to a Graph and inputs for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import sqrt
from typing import assert_never

import numpy as np

from conformance.layers import (
    Activation,
    Attention,
    Conv,
    ConvTranspose,
    Element,
    Embedding,
    Fork,
    Layer,
    Linear,
    Net,
    Norm,
    Op,
    Pair,
    Recurrent,
    Source,
)
from conformance.values import Values
from refimpl.graph import Constant, Graph, Node, Shape, Sparsity, attributes
from refimpl.ops import OPERATORS
from refimpl.plan.recurrence import KINDS
from refimpl.schemes import scheme_from_text

_GATES = {"rnn": KINDS["rnn_tanh"], "gru": KINDS["gru"], "lstm": KINDS["lstm"]}


def build(net: Net, values: Values) -> tuple[Graph, tuple[np.ndarray, ...]]:
    """The Graph of a net with its constants, and inputs for it, float32."""
    return _Builder(values).build(net)


def result_shape(net: Net) -> Shape:
    """The shape of what the last layer makes."""
    builder = _Builder(Values("zeros"))
    graph, _ = builder.build(net)
    return builder.shapes[graph.outputs[0]]


@dataclass
class _Builder:
    values: Values
    rng: np.random.Generator = field(init=False)
    inputs: dict[str, np.ndarray] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Constant] = field(default_factory=dict)
    sparsity: dict[str, Sparsity] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)
    finals: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = self.values.generator()

    def build(self, net: Net) -> tuple[Graph, tuple[np.ndarray, ...]]:
        first = net.layers[0]
        if isinstance(first, Embedding):
            value = self.given(self.rng.integers(0, first.rows, net.shape).astype(np.float32))
        else:
            value = self.input(net.shape)
        value = self.row(net.layers, value)
        named = tuple((name, array.shape) for name, array in self.inputs.items())
        outputs = (value, *self.finals)
        graph = Graph("case", named, tuple(self.nodes), outputs, self.constants, self.sparsity)
        return graph, tuple(self.inputs.values())

    # -- parts -------------------------------------------------------------------------------

    def given(self, array: np.ndarray) -> str:
        name = f"x{len(self.inputs)}"
        self.inputs[name], self.shapes[name] = array, array.shape
        return name

    def input(self, shape: Shape) -> str:
        return self.given(self.values.input(self.rng, shape))

    def results(self, op: str, *inputs: str, **given: object) -> tuple[str, ...]:
        operator = OPERATORS[op]
        shapes = operator.each(operator.shape([self.shapes[name] for name in inputs], given))
        name = f"{op}{len(self.nodes)}"
        names = (name, *(f"{name}.{i}" for i in range(1, len(shapes))))
        self.shapes |= dict(zip(names, shapes, strict=True))
        self.nodes.append(Node(names, op, inputs, attributes(**given)))
        return names

    def node(self, op: str, *inputs: str, **given: object) -> str:
        return self.results(op, *inputs, **given)[0]

    def constant(self, name: str, array: np.ndarray) -> str:
        name = f"{name}{len(self.constants)}"
        self.constants[name], self.shapes[name] = Constant(array), array.shape
        return name

    def parameter(self, name: str, shape: Shape) -> str:
        return self.constant(name, self.values.parameter(self.rng, shape))

    def other(self, source: Source, shape: Shape) -> str:
        return self.input(shape) if source == "input" else self.parameter("other", shape)

    def activated(self, value: str, activation: Activation | None) -> str:
        return (
            value if activation is None else self.node(activation[0], value, **dict(activation[1]))
        )

    def weight(self, shape: Shape, scheme: str, keep: float, parts: int = 1) -> str:
        array = self.values.weight(self.rng, shape)
        if scheme == "dense":
            return self.constant("weight", array)
        mask, rule = np.zeros(shape, bool), scheme_from_text(scheme)
        if keep > 0:
            mask = rule.project(self.rng.standard_normal(shape), keep, parts=parts)
        name = self.constant("weight", np.where(mask, array, np.float32(0)))
        self.sparsity[name] = Sparsity(rule, Constant(mask))
        return name

    def bias(self, layer: Conv | ConvTranspose | Linear) -> list[str]:
        return [self.parameter("bias", (layer.filters,))] if layer.bias else []

    # -- layers ------------------------------------------------------------------------------

    def row(self, layers: tuple[Layer, ...], value: str) -> str:
        for layer in layers:
            value = self.layer(layer, value)
        return value

    def layer(self, layer: Layer, x: str) -> str:
        match layer:
            case Conv():
                return self.conv(layer, x)
            case ConvTranspose():
                return self.conv_transpose(layer, x)
            case Linear():
                return self.linear(layer, x)
            case Op(op, given):
                return self.node(op, x, **dict(given))
            case Element(op, activation):
                return self.activated(self.norm(x) if op == "batch_norm" else x, activation)
            case Pair(op, shape, source, first, activation):
                other = self.other(source, shape)
                operands = (x, other) if first else (other, x)
                return self.activated(self.node(op, *operands), activation)
            case Norm():
                return self.standardised(layer, x)
            case Embedding(rows, channels):
                return self.node("embedding", x, self.parameter("table", (rows, channels)))
            case Recurrent():
                return self.recurrent(layer, x)
            case Attention(heads):
                return self.attention(heads, x)
            case Fork(left, right, join, axis):
                rows = (self.row(left, x), self.row(right, x))
                return self.node(join, *rows, **({"axis": axis} if join == "concat" else {}))
        assert_never(layer)

    def conv(self, layer: Conv, x: str) -> str:
        y = self.over_points(layer, x) if layer.tile else self.over_taps(layer, x)
        if layer.norm:
            y = self.norm(y)
        if layer.residual != "none":
            y = self.node("add", y, x if layer.residual == "self" else self.input(self.shapes[y]))
        return self.activated(y, layer.activation)

    def over_taps(self, layer: Conv, x: str) -> str:
        shape = (layer.filters, self.shapes[x][1] // layer.groups, *layer.kernel)
        weight = self.weight(shape, layer.scheme, layer.keep, layer.groups)
        return self.node(
            "conv", x, weight, *self.bias(layer), stride=layer.stride, padding=layer.padding,
            dilation=layer.dilation, groups=layer.groups,
        )  # fmt: skip

    def over_points(self, layer: Conv, x: str) -> str:
        points = (m + r - 1 for m, r in zip(layer.tile, layer.kernel, strict=True))
        shape = (layer.filters, self.shapes[x][1], *points)
        weight = self.weight(shape, layer.scheme, layer.keep)
        given = {"outputs": layer.tile, "padding": layer.padding}
        return self.node("winograd_conv", x, weight, *self.bias(layer), **given)

    def conv_transpose(self, layer: ConvTranspose, x: str) -> str:
        shape = (self.shapes[x][1], layer.filters // layer.groups, *layer.kernel)
        weight = self.constant("weight", self.values.weight(self.rng, shape))
        y = self.node(
            "conv_transpose", x, weight, *self.bias(layer), stride=layer.stride,
            padding=layer.padding, output_padding=layer.output_padding,
            dilation=layer.dilation, groups=layer.groups,
        )  # fmt: skip
        return self.activated(y, layer.activation)

    def linear(self, layer: Linear, x: str) -> str:
        rank = len(self.shapes[x])
        if layer.flatten and rank > 2:
            x = self.node("flatten", x, start=1, end=rank - 1)
        weight = self.weight((layer.filters, self.shapes[x][-1]), layer.scheme, layer.keep)
        y = self.node("linear", x, weight, *self.bias(layer))
        return self.activated(y, layer.activation)

    def norm(self, x: str) -> str:
        names = [self.constant("norm", a) for a in self.values.norm(self.rng, self.shapes[x][1])]
        return self.node("batch_norm", x, *names, eps=self.values.EPS)

    def standardised(self, layer: Norm, x: str) -> str:
        shape = self.shapes[x]
        each = (shape[1],) if layer.op == "group_norm" else shape[len(shape) - layer.axes :]
        names = ["gamma"] if layer.op == "rms_norm" else ["gamma", "beta"]
        given = [self.parameter(name, each) for name in names]
        return self.node(layer.op, x, *given, **dict(layer.attributes))

    def recurrent(self, layer: Recurrent, x: str) -> str:
        _, batch, channels = self.shapes[x]
        gates, hidden = _GATES[layer.op], layer.hidden
        weights = [
            self.weight((gates * hidden, width), layer.scheme, layer.keep, gates)
            for width in (channels, hidden)
        ]
        biases = [self.parameter("bias", (gates * hidden,)) for _ in weights]
        states = [self.other(layer.state, (batch, hidden))
                  for _ in range(2 if layer.op == "lstm" else 1)]  # fmt: skip
        given = dict(layer.attributes)
        y, *finals = self.results(layer.op, x, *weights, *biases, *states, **given)
        self.finals += finals
        return y

    def attention(self, heads: int, x: str) -> str:
        n, t, c = self.shapes[x]
        project = Linear(c, flatten=False)
        q, k, v = (
            self.node("transpose", self.node(
                "reshape", self.linear(project, x), shape=(n, t, heads, c // heads)
            ), order=(0, 2, 3, 1) if part == "k" else (0, 2, 1, 3))
            for part in "qkv"
        )  # fmt: skip
        scale = self.constant("scale", np.array(1 / sqrt(c // heads), np.float32))
        scores = self.node("mul", self.node("matmul", q, k), scale)
        y = self.node("matmul", self.node("softmax", scores, axis=3), v)
        y = self.node("reshape", self.node("transpose", y, order=(0, 2, 1, 3)), shape=(n, t, c))
        return self.linear(project, y)
