"""A Graph as torch runs it: eager, in channels-last memory, or compiled; inside a worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from refimpl.graph import Graph, Node

_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


class TorchEngine:
    """torch on the Graph's nodes, under inference mode.

    With `channels_last`, input and weights lie so before the clock starts, and the output stays
    so: what a network does that keeps to that layout.

    Raises:
        ValueError: no input has an axis pair that channels-last means, or an operator is unknown.
    """

    version = str(torch.__version__)

    def __init__(
        self, graph: Graph, threads: int, *, channels_last: bool = False, compiled: bool = False
    ) -> None:
        torch.set_num_threads(threads)
        self.channels_last = channels_last
        if channels_last and not any(len(shape) in _CHANNELS_LAST for _, shape in graph.inputs):
            raise ValueError("channels_last exists for inputs of 2 and 3 spatial axes")
        constants = {
            name: self._placed(torch.from_numpy(c.array.copy()))
            for name, c in graph.constants.items()
        }
        network = _Network(graph, constants)
        self.network = torch.compile(network) if compiled else network
        self.fed: list[Tensor] = []
        self.results: tuple[Tensor, ...] = ()

    def feed(self, inputs: list[np.ndarray]) -> None:
        """Take the inputs, in the layout they are run in."""
        self.fed = [self._placed(torch.from_numpy(x)) for x in inputs]

    def run(self) -> None:
        """One run."""
        with torch.inference_mode():
            self.results = self.network(*self.fed)

    def outputs(self) -> list[np.ndarray]:
        """Of the last run."""
        return [y.contiguous().numpy() for y in self.results]

    def _placed(self, tensor: Tensor) -> Tensor:
        layout = _CHANNELS_LAST.get(tensor.ndim) if self.channels_last else None
        return tensor.contiguous(memory_format=layout) if layout else tensor


class _Network(torch.nn.Module):
    def __init__(self, graph: Graph, constants: dict[str, Tensor]) -> None:
        super().__init__()
        self.graph, self.held = graph, constants
        self.steps = [(n.name, n.inputs, _operation(n), dict(n.attributes)) for n in graph.nodes]

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        names = (name for name, _ in self.graph.inputs)
        values = {**self.held, **dict(zip(names, inputs, strict=True))}
        for name, reads, operation, attributes in self.steps:
            values[name] = operation(*(values[read] for read in reads), **attributes)
        return tuple(values[name] for name in self.graph.outputs)


def _operation(node: Node) -> Callable[..., Tensor]:
    if node.op not in _OPERATIONS:
        raise ValueError(f"{node.name}: operator {node.op} is not written for torch here")
    return _OPERATIONS[node.op]


def _padded(x: Tensor, padding: Any, value: float) -> tuple[Tensor, list[int]]:
    """x, and the padding that torch can take itself; where lo is not hi, x is padded first."""
    if all(lo == hi for lo, hi in padding):
        return x, [lo for lo, _ in padding]
    widths = [side for pair in reversed(padding) for side in pair]
    return F.pad(x, widths, value=value), [0] * len(padding)


def _conv(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> Tensor:
    x, sides = _padded(x, padding, 0.0)
    function = (F.conv1d, F.conv2d, F.conv3d)[x.ndim - 3]
    return function(x, w, b, stride, sides, dilation, groups)


def _max_pool(
    x: Tensor, *, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> Tensor:
    x, sides = _padded(x, padding, -torch.inf)
    function = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[x.ndim - 3]
    return function(x, kernel, stride, sides, dilation, ceil_mode)


def _avg_pool(
    x: Tensor, *, kernel: Any, stride: Any, padding: Any, ceil_mode: bool, count_include_pad: bool
) -> Tensor:
    if any(lo != hi for lo, hi in padding):
        raise ValueError("avg_pool with uneven padding is not written for torch here")
    function = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[x.ndim - 3]
    return function(x, kernel, stride, [lo for lo, _ in padding], ceil_mode, count_include_pad)


def _adaptive(functions: tuple[Callable[..., Any], ...]) -> Callable[..., Tensor]:
    return lambda x, *, output: functions[x.ndim - 3](x, output)


_OPERATIONS: dict[str, Callable[..., Tensor]] = {
    "conv": _conv,
    "linear": F.linear,
    "batch_norm": lambda x, g, b, m, v, *, eps: F.batch_norm(x, m, v, g, b, eps=eps),
    "relu": F.relu,
    "clamp": lambda x, *, lo, hi: torch.clamp(x, lo, hi),
    "leaky_relu": lambda x, *, slope: F.leaky_relu(x, slope),
    "elu": F.elu,
    "gelu": F.gelu,
    "sigmoid": torch.sigmoid,
    "hardsigmoid": F.hardsigmoid,
    "tanh": torch.tanh,
    "silu": F.silu,
    "hardswish": F.hardswish,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "adaptive_avg_pool": _adaptive(
        (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)
    ),
    "adaptive_max_pool": _adaptive(
        (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)
    ),
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "concat": lambda *xs, axis: torch.cat(xs, axis),
    "flatten": lambda x, *, start, end: torch.flatten(x, start, end),
    "reshape": lambda x, *, shape: torch.reshape(x, shape),
    "softmax": lambda x, *, axis: torch.softmax(x, axis),
    "mean": lambda x, *, axes, keepdims: torch.mean(x, axes, keepdims),
    "identity": lambda x: x,
}
