"""Cases as values a person can read: layers, and nets of layers.

A `Net` says the structure and `conformance.values.Values` what kind of numbers, by a seed;
`conformance.build` makes a Graph and its inputs of the two.  Nothing here draws at random:
`conformance.strategies` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from refimpl.graph import Attributes, Shape

Activation = tuple[str, tuple[tuple[str, float | str], ...]]
Pairs = tuple[tuple[int, int], ...]
Source = Literal["input", "constant"]
"""Where the other operand of a layer comes from."""


@dataclass(frozen=True)
class Conv:
    """A convolution, perhaps with batch norm, then a residual, then an activation.

    residual: a second input of the network, or the convolution's own input where shapes agree.
    keep: the share of weights that the scheme keeps; 0 keeps none.
    tile: the outputs of a tile where the weights are points of transformed kernels, else ().
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
    tile: Shape = ()


@dataclass(frozen=True)
class ConvTranspose:
    """A transposed convolution, then an activation."""

    filters: int
    kernel: Shape
    stride: Shape
    padding: Pairs
    output_padding: Shape
    dilation: Shape
    groups: int = 1
    bias: bool = True
    activation: Activation | None = None


@dataclass(frozen=True)
class Linear:
    """A linear layer on the last axis; where `flatten` is set, of all axes but the first."""

    filters: int
    bias: bool = True
    activation: Activation | None = None
    scheme: str = "dense"
    keep: float = 1.0
    flatten: bool = True


@dataclass(frozen=True)
class Op:
    """An operator of one value that has no parameters."""

    op: str
    attributes: Attributes


@dataclass(frozen=True)
class Element:
    """An activation alone, or after a batch norm."""

    op: Literal["none", "batch_norm"]
    activation: Activation | None = None


@dataclass(frozen=True)
class Pair:
    """An operator of the value and another of shape `other`, under broadcasting.

    first: the value comes first; otherwise the other does.
    """

    op: str
    other: Shape
    source: Source = "input"
    first: bool = True
    activation: Activation | None = None


@dataclass(frozen=True)
class Norm:
    """Layer or root mean square norm over the last `axes`, or a norm of groups of channels."""

    op: Literal["layer_norm", "rms_norm", "group_norm"]
    attributes: Attributes
    axes: int = 1


@dataclass(frozen=True)
class Embedding:
    """Rows of a table; comes first in a Net, whose input are then indices."""

    rows: int
    channels: int


@dataclass(frozen=True)
class Recurrent:
    """One layer in one direction on (T, N, C); its final states are outputs of the net, too.

    state: where the state before the first time comes from.
    """

    op: Literal["rnn", "gru", "lstm"]
    attributes: Attributes
    hidden: int
    state: Source = "input"
    scheme: str = "dense"
    keep: float = 1.0


@dataclass(frozen=True)
class Attention:
    """Scaled dot product attention of (N, T, C) with itself, with four linear layers."""

    heads: int


@dataclass(frozen=True)
class Fork:
    """Two rows of layers on the same value, joined: by `concat` along the axis, or elementwise.

    A row of none is the value itself.
    """

    left: tuple[Layer, ...]
    right: tuple[Layer, ...]
    join: Literal["add", "mul", "concat"]
    axis: int = 1


Layer = (
    Conv
    | ConvTranspose
    | Linear
    | Op
    | Element
    | Pair
    | Norm
    | Embedding
    | Recurrent
    | Attention
    | Fork
)


@dataclass(frozen=True)
class Net:
    """Layers in a row on one input."""

    shape: Shape
    layers: tuple[Layer, ...]
