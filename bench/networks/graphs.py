"""Networks as Graphs with random weights, and the papers' prune ratios."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

import numpy as np

from bench.errors import BenchError
from bench.shape import random_mask
from refimpl.graph import Constant, Graph, Shape, Sparsity, check
from refimpl.importers.build import Builder
from refimpl.ops import OPERATORS
from refimpl.schemes import Scheme, Scope

Ratios = Mapping[str, float]
"""The share of weights pruned, by the layer's name."""

C3D_RATIOS: dict[str, Ratios] = {
    "2.53x": {"conv2": 0.85, "conv3a": 0.80, "conv3b": 0.85},
    "3.57x": {"conv2": 0.85, "conv3a": 0.80, "conv3b": 0.85, "conv4b": 0.80},
}
"""RT3D's released configurations for C3D, by the factor of multiply-accumulates they save."""

DEMO_RATIOS: dict[str, Ratios] = {
    "3x": {"conv2": 0.70, "conv3a": 0.70, "conv3b": 0.70, "conv4": 0.70},
}
"""The demo's network with all its prunable layers alike."""


def c3d(seed: int = 0, classes: int = 101) -> Graph:
    """C3D for clips of 16 frames of 112 x 112: input (1, 3, 16, 112, 112), 38.5 GMAC."""
    net = _Network((1, 3, 16, 112, 112), seed)
    net.conv("conv1", 64).pool("pool1", (1, 2, 2))
    net.conv("conv2", 128).pool("pool2", (2, 2, 2))
    net.conv("conv3a", 256).conv("conv3b", 256).pool("pool3", (2, 2, 2))
    net.conv("conv4a", 512).conv("conv4b", 512).pool("pool4", (2, 2, 2))
    net.conv("conv5a", 512).conv("conv5b", 512).pool("pool5", (2, 2, 2), pad=(0, 1, 1))
    net.flatten().linear("fc6", 4096, relu=True).linear("fc7", 4096, relu=True)
    return net.linear("fc8", classes).graph("c3d")


def demo(seed: int = 0) -> Graph:
    """The demo's network (`prune.demo.network`), captured: input (1, 1, 16, 32, 32), 248 MMAC.

    Raises:
        ImportError: torch is not installed.
    """
    import torch

    from prune.demo.network import MotionNet
    from refimpl.importers.torch import capture

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return capture(MotionNet(), (torch.zeros(1, 1, 16, 32, 32),))


NETWORKS: dict[str, tuple[Callable[[int], Graph], dict[str, Ratios]]] = {
    "c3d": (c3d, C3D_RATIOS),
    "demo": (demo, DEMO_RATIOS),
}
"""By name: how to make the dense Graph from a seed, and the ratios that are known for it."""


def pruned(
    graph: Graph, ratios: Ratios, scheme: Scheme, *, scope: Scope | None = None, seed: int = 0
) -> Graph:
    """The Graph with random legal masks on the weights of the layers that `ratios` names.

    Raises:
        BenchError: a layer has no weight in the Graph.
        SchemeError: the scheme cannot keep that share.
    """
    constants, sparsity = dict(graph.constants), dict(graph.sparsity)
    for number, (layer, ratio) in enumerate(ratios.items()):
        name = f"{layer}.weight"
        if name not in constants:
            raise BenchError(f"{graph.name} has no layer {layer!r} with a weight")
        weight = constants[name].array
        user = next(node for node in graph.nodes if name in node.inputs)
        parts = OPERATORS[user.op].parts(user.attrs)
        mask = random_mask(
            weight.shape, scheme, 1 - ratio, scope=scope, parts=parts, seed=seed + number
        )
        constants[name] = Constant(np.where(mask, weight, np.float32(0)))
        sparsity[name] = Sparsity(scheme, Constant(mask))
    result = Graph(graph.name, graph.inputs, graph.nodes, graph.outputs, constants, sparsity)
    check(result)
    return result


class _Network:
    """A chain of layers under construction; weights keep the size of activations."""

    def __init__(self, shape: Shape, seed: int) -> None:
        self.builder = Builder([("x", shape)])
        self.rng = np.random.default_rng(seed)
        self.value = "x"

    def conv(self, name: str, filters: int) -> _Network:
        """3 x 3 x 3, stride and padding 1, with bias and ReLU."""
        weight = self._weight(name, (filters, self._shape()[1], 3, 3, 3))
        ones, sides = (1, 1, 1), ((1, 1),) * 3
        self._add(name, "conv", *weight, stride=ones, padding=sides, dilation=ones, groups=1)
        return self._add(f"{name}.relu", "relu")

    def pool(self, name: str, kernel: Shape, pad: Shape = (0, 0, 0)) -> _Network:
        """Maximum, stride as the kernel."""
        sides = tuple((p, p) for p in pad)
        return self._add(
            name,
            "max_pool",
            kernel=kernel,
            stride=kernel,
            padding=sides,
            dilation=(1, 1, 1),
            ceil_mode=False,
        )

    def flatten(self) -> _Network:
        """All but the batch."""
        return self._add("flatten", "flatten", start=1, end=len(self._shape()) - 1)

    def linear(self, name: str, outputs: int, relu: bool = False) -> _Network:
        """With bias, and ReLU where asked."""
        self._add(name, "linear", *self._weight(name, (outputs, self._shape()[1])))
        return self._add(f"{name}.relu", "relu") if relu else self

    def graph(self, name: str) -> Graph:
        """The network."""
        return self.builder.graph(name, [self.value], {})

    def _add(self, name: str, op: str, *constants: str, **given: object) -> _Network:
        self.value = self.builder.add(name, op, (self.value, *constants), **given)
        return self

    def _weight(self, name: str, shape: Shape) -> tuple[str, str]:
        values = self.rng.standard_normal(shape, np.float32) * np.float32(
            np.sqrt(2 / prod(shape[1:]))
        )
        bias = 0.1 * self.rng.standard_normal(shape[0], np.float32)
        return (
            self.builder.constant(f"{name}.weight", values),
            self.builder.constant(f"{name}.bias", bias),
        )

    def _shape(self) -> Shape:
        return self.builder.shapes[self.value]
