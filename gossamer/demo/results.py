"""What the demo measured, as values: the rows of its table, its layers, its goals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from refimpl.schemes import Scheme

DENSE, PRUNED = "dense", "pruned"
TORCH, GOSSAMER = "torch", "gossamer"

Spread = tuple[float, float, float]
"""10th, 50th and 90th percentile."""


@dataclass(frozen=True)
class Row:
    """One network in one place.

    Attributes:
        network: `DENSE` or `PRUNED`.
        engine: `TORCH` or `GOSSAMER`.
        device: "host" or an emulated core, as `jit.devices.open_device` takes it.
        how: what else there is to know of how it ran, for people; may be empty.
        right: clips it names rightly, of `clips` test clips.
        clips: how many it was asked.
        macs: multiply-accumulates of one inference that are carried out.
        weight_bytes: its weights as they lie there, index lists and other constants included.
        latency_ms: of one inference, one thread; None where time means nothing.
        instructions: guest instructions of one inference; None where they are not counted.
        bound_share: the largest share of the error bound that any layer used; None where the
            layers are not ours to check.
    """

    network: str
    engine: str
    device: str
    how: str
    right: int
    clips: int
    macs: int
    weight_bytes: int
    latency_ms: Spread | None = None
    instructions: int | None = None
    bound_share: float | None = None

    @property
    def accuracy(self) -> float:
        """The share of the clips that it names rightly."""
        return self.right / self.clips


@dataclass(frozen=True)
class Layer:
    """One step of the compiled networks, by the name its layer has in the network.

    Attributes:
        name: of the layer.
        dense_macs: multiply-accumulates in the dense network; 0 where there are none.
        kept_macs: the same in the pruned one.
        microseconds: median time on this machine, by network.
        instructions: guest instructions, by network; empty where they are not counted.
    """

    name: str
    dense_macs: int
    kept_macs: int
    microseconds: Mapping[str, float]
    instructions: Mapping[str, int]


@dataclass(frozen=True)
class Goal:
    """Something the demo promises, in words that hold what was measured, and whether it holds."""

    words: str
    met: bool


@dataclass(frozen=True, eq=False)
class Guess:
    """A test clip and what the compiled pruned network says it shows.

    Attributes:
        frames: float32 (16, 32, 32) in [0, 1].
        motion: the true one.
        named: the one it named.
    """

    frames: np.ndarray
    motion: str
    named: str


@dataclass(frozen=True, eq=False)
class DemoReport:
    """Everything the demo found.

    Attributes:
        rows: of the table.
        layers: in the order they run.
        goals: what was promised, and whether it holds.
        faults: what the checks found wrong, in words; empty when every layer is right.
        speedup: dense over pruned on this machine, of the fastest run of each: whatever else runs
            only ever adds time, and more often to the longer runs; None if not measured.
        cautions: what could not be measured and how to get it, and what is to be doubted.
        scheme: of the pruned layers, as text.
        masks: weight name -> (scheme, bool mask).
        guesses: a few clips to look at.
        seconds: wall time by phase.
        training_seconds: by network; of an earlier run where that run's networks were loaded.
        about: machine, target and versions, by name.
    """

    rows: tuple[Row, ...]
    layers: tuple[Layer, ...]
    goals: tuple[Goal, ...]
    faults: tuple[str, ...]
    speedup: float | None
    cautions: tuple[str, ...]
    scheme: str
    masks: Mapping[str, tuple[Scheme, np.ndarray]]
    guesses: tuple[Guess, ...]
    seconds: Mapping[str, float]
    training_seconds: Mapping[str, float]
    about: Mapping[str, str]

    @property
    def total_seconds(self) -> float:
        """Wall time of all phases."""
        return sum(self.seconds.values())

    def row(self, network: str, engine: str, device: str = "host") -> Row:
        """The row of that network, engine and device. Raises KeyError if there is none."""
        for row in self.rows:
            if (row.network, row.engine, row.device) == (network, engine, device):
                return row
        raise KeyError(f"{network} by {engine} on {device}")

    def json(self) -> dict[str, Any]:
        """The numbers, as JSON values; masks and clips are left out."""
        return {
            "rows": [{**asdict(row), "accuracy": row.accuracy} for row in self.rows],
            "speedup": self.speedup,
            "layers": [asdict(layer) for layer in self.layers],
            "goals": [asdict(goal) for goal in self.goals],
            "faults": list(self.faults),
            "cautions": list(self.cautions),
            "scheme": self.scheme,
            "seconds": dict(self.seconds),
            "training_seconds": dict(self.training_seconds),
            "about": dict(self.about),
        }
