"""A single layer as text, and the Graph it stands for.

    layer   := KIND ":" sizes ["@" sizes] ("," option)*
    KIND    := "conv1d" | "conv2d" | "conv3d" | "linear"
    sizes   := INT ("x" INT)*
    option  := ("stride" | "padding" | "dilation") "=" sizes | ("groups" | "batch") "=" INT

`conv3d:256x128x3x3x3@8x28x28` has 256 filters, 128 channels (of one convolution group), a kernel
of 3 x 3 x 3 and an input of depth 8, height and width 28; `linear:1000x4096` has 1000 outputs and
4096 inputs.  An option's sizes are one for every axis or one for each.  Strides, dilation, groups
and batch are 1 where not given; padding is half the kernel, rounded down.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod

import numpy as np

from bench.errors import BenchError
from refimpl.graph import Constant, Graph, GraphError, Node, Shape, Sparsity, attributes, check
from refimpl.ops import OPERATORS, ShapeError
from refimpl.schemes import Dense, Scheme, Scope

_AXES = {"linear": 0, "conv1d": 1, "conv2d": 2, "conv3d": 3}
_TEXT = re.compile(r"(\w+):(\d+(?:x\d+)*)(?:@(\d+(?:x\d+)*))?((?:,\w+=\d+(?:x\d+)*)*)", re.ASCII)
_LARGEST = 2**28  # values in a weight or an activation: a gibibyte of float32
_EXAMPLES = "conv3d:256x256x3x3x3@8x28x28, conv2d:64x3x7x7@224x224,stride=2 or linear:1000x4096"


@dataclass(frozen=True)
class LayerShape:
    """A convolution or linear layer; `spatial` is of the input, `weight` is (F, C/groups, *K)."""

    weight: Shape
    spatial: Shape
    stride: Shape
    padding: Shape
    dilation: Shape
    groups: int = 1
    batch: int = 1

    @property
    def input(self) -> Shape:
        """(N, C, *spatial)."""
        return (self.batch, self.weight[1] * self.groups, *self.spatial)

    def __str__(self) -> str:
        """The text that `layer_shape` reads back to an equal value."""
        kind = f"conv{len(self.spatial)}d" if self.spatial else "linear"
        text = f"{kind}:{_sizes(self.weight)}"
        text += f"@{_sizes(self.spatial)}" if self.spatial else ""
        usual = _defaults(self.weight)
        for name, value in usual.items():
            given = getattr(self, name)
            text += f",{name}={_sizes(given)}" if given != value else ""
        text += f",groups={self.groups}" if self.groups != 1 else ""
        return text + (f",batch={self.batch}" if self.batch != 1 else "")


def layer_shape(text: str) -> LayerShape:
    """The layer that a text describes, in the module's grammar.

    Raises:
        BenchError: the text breaks the grammar, or describes no layer; the message says how.
    """
    match = _TEXT.fullmatch(text.replace(" ", ""))
    axes = _AXES.get(match[1]) if match else None
    if match is None or axes is None:
        raise BenchError(f"{text!r} is not a layer; write one like {_EXAMPLES}")
    weight, spatial = _numbers(match[2]), _numbers(match[3] or "")
    if len(weight) != 2 + axes or len(spatial) != axes:
        raise BenchError(
            f"{text!r}: a {match[1]} has {2 + axes} sizes of its weight and {axes} of its input "
            f"behind an @; write it like {_EXAMPLES}"
        )
    shape = LayerShape(weight, spatial, **_options(text, match[4], weight))
    _check(text, shape)
    return shape


def layer_graph(
    shape: LayerShape, scheme: Scheme, keep: float, *, scope: Scope | None = None, seed: int = 0
) -> Graph:
    """The layer with a bias, random weights and a random legal mask: input "x", output "y".

    The weights are the same for every scheme and keep (those that stay), given the seed.

    Args:
        shape: the layer.
        scheme: `Dense()` for no mask.
        keep: the share of weights that stays, in (0, 1].
        scope: "strip" keeps equally many units in every strip of filters, "layer" chooses among
            all; None is "strip" where the scheme has strips, else "layer".
        seed: of weights, bias and mask.

    Raises:
        SchemeError: the scheme cannot keep that share, or has no strips.
    """
    rng = np.random.default_rng(seed)
    terms = prod(shape.weight[1:])
    weight = (rng.standard_normal(shape.weight) * np.sqrt(2 / terms)).astype(np.float32)
    constants = {"bias": Constant(rng.standard_normal(shape.weight[0]).astype(np.float32))}
    sparsity = {}
    if scheme != Dense() or keep != 1:
        mask = random_mask(shape.weight, scheme, keep, scope=scope, parts=shape.groups, seed=seed)
        weight = np.where(mask, weight, np.float32(0))
        sparsity = {"weight": Sparsity(scheme, Constant(mask))}
    constants["weight"] = Constant(weight)
    graph = Graph(str(shape), (("x", shape.input),), (_node(shape),), ("y",), constants, sparsity)
    check(graph)
    return graph


def random_mask(
    shape: Shape, scheme: Scheme, keep: float, *, scope: Scope | None, parts: int, seed: int
) -> np.ndarray:
    """A random legal mask (bool, the weight's shape): the projection of noise; see `layer_graph`.

    Raises:
        SchemeError: as `Scheme.project`.
    """
    if scope is None:
        scope = "layer" if scheme.units(shape, parts=parts).strip is None else "strip"
    noise = np.random.default_rng([seed, 1]).standard_normal(shape)
    return scheme.project(noise, keep, scope=scope, parts=parts)


def _node(shape: LayerShape) -> Node:
    inputs = ("x", "weight", "bias")
    if not shape.spatial:
        return Node(("y",), "linear", inputs)
    padding = tuple((p, p) for p in shape.padding)
    given = attributes(
        stride=shape.stride, padding=padding, dilation=shape.dilation, groups=shape.groups
    )
    return Node(("y",), "conv", inputs, given)


def _defaults(weight: Shape) -> dict[str, Shape]:
    kernel = weight[2:]
    ones = (1,) * len(kernel)
    return {"stride": ones, "padding": tuple(k // 2 for k in kernel), "dilation": ones}


def _options(text: str, given: str, weight: Shape) -> dict:
    values: dict = {**_defaults(weight), "groups": 1, "batch": 1}
    known = ["batch"] if len(weight) == 2 else list(values)
    for item in filter(None, given.split(",")):
        name, _, sizes = item.partition("=")
        if name not in known:
            raise BenchError(f"{text!r}: unknown option {name!r}; known are {', '.join(known)}")
        values[name] = _option(text, name, _numbers(sizes), len(weight) - 2)
    return values


def _option(text: str, name: str, numbers: Shape, axes: int) -> Shape | int:
    wanted = (1,) if name in ("groups", "batch") else (1, axes)
    if len(numbers) not in wanted:
        raise BenchError(f"{text!r}: {name} takes {' or '.join(map(str, wanted))} sizes")
    if name in ("groups", "batch"):
        return numbers[0]
    return numbers * axes if len(numbers) == 1 else numbers


def _check(text: str, shape: LayerShape) -> None:
    numbers = (*shape.weight, *shape.input, *shape.stride, *shape.dilation, shape.groups)
    if min(numbers) < 1 or max(prod(shape.weight), prod(shape.input)) > _LARGEST:
        raise BenchError(f"{text!r}: sizes are 1 or more, and at most 2^28 values in a tensor")
    try:
        layer_output(shape)
    except GraphError as error:
        raise BenchError(f"{text!r}: {error}") from error


def layer_output(shape: LayerShape) -> Shape:
    """(N, F, *output positions).

    Raises:
        GraphError: the kernel does not fit the input, or the groups do not divide the filters.
    """
    node = _node(shape)
    given = [shape.input, shape.weight, shape.weight[:1]]
    try:
        output = OPERATORS[node.op].shape(given, node.attrs)
    except ShapeError as error:
        raise GraphError(str(error)) from error
    if prod(output) > _LARGEST:
        raise GraphError("the output has more than 2^28 values")
    return output


def _numbers(sizes: str) -> Shape:
    # Nine digits are past every limit, and int() of them is cheap.
    return tuple(int(size[:9]) for size in sizes.split("x")) if sizes else ()


def _sizes(numbers: Shape) -> str:
    return "x".join(map(str, numbers))
