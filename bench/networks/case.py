"""A network of the table on an input of a given size, as a Graph."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.errors import BenchError
from bench.networks.definitions import DEFINITIONS, Definition, build
from refimpl.graph import Graph
from refimpl.importers.torch import capture

_HALVINGS = 12  # of the widths in question: finer than a channel in a thousand


@dataclass(frozen=True)
class Case:
    """A network by its name in `DEFINITIONS`, samples at a time, and steps of a sequence.

    Raises:
        BenchError: there is no such network, or `steps` is given for one without.
    """

    name: str
    batch: int = 1
    steps: int | None = None

    def __post_init__(self) -> None:
        if self.name not in DEFINITIONS:
            known = ", ".join(DEFINITIONS)
            raise BenchError(f"no network is called {self.name!r}; known are {known}")
        if self.batch < 1 or (self.steps or 1) < 1:
            raise BenchError(f"{self.name}: batch and steps are 1 or more")
        if self.steps is not None and not self._sequence:
            raise BenchError(f"{self.name} has no steps; give them for a recurrent network")

    def __str__(self) -> str:
        """What tables call it."""
        steps = f", {self.shape[0]} steps" if self._sequence else ""
        return f"{self.name}{steps}" + (f", batch {self.batch}" if self.batch > 1 else "")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the input."""
        first, second, *rest = self._definition.input
        if self._sequence:
            return (self.steps or first, self.batch, *rest)
        return (self.batch, second, *rest)

    def graph(self, width: float = 1.0, seed: int = 0) -> Graph:
        """The captured network, its weights drawn from the seed."""
        module = build(self.name, width, seed)
        return capture(module, (self._definition.example(self.shape),))

    def macs(self, width: float = 1.0) -> int:
        """Multiply-accumulates at a width, without making any weights."""
        whole = self._definition.indices is not None
        with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
            x = torch.empty(self.shape, dtype=torch.long if whole else torch.float32)
            self._definition.make(width).eval()(x)
        return counter.get_total_flops() // 2

    def width_for(self, macs: int) -> float:
        """The width whose multiply-accumulates come closest to so many, at most the published.

        It thins every layer alike, as pruning whole filters at one rate does.
        """
        low, high = 0.0, 1.0
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (low, middle) if self.macs(middle) > macs else (middle, high)
        return high

    @property
    def _definition(self) -> Definition:
        return DEFINITIONS[self.name]

    @property
    def _sequence(self) -> bool:
        # Sequences have their batch second, and more than one step.
        return self._definition.input[0] > 1
