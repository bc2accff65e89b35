"""A Graph as torch runs it: eager, in channels-last memory, or compiled; inside a worker."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bench.peers.torch_operations import operation
from refimpl.graph import Graph

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
        self.steps = [(n, operation(n), dict(n.attributes)) for n in graph.nodes]

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        names = (name for name, _ in self.graph.inputs)
        values = {**self.held, **dict(zip(names, inputs, strict=True))}
        for node, compute, attributes in self.steps:
            found = compute(*(values[name] for name in node.inputs), **attributes)
            results = (found,) if len(node.outputs) == 1 else found
            values |= zip(node.outputs, results, strict=True)
        return tuple(values[name] for name in self.graph.outputs)
