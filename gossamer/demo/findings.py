"""From what was measured to what is reported: rows, layers, goals."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version

import numpy as np

from bench.compare import Comparison
from gossamer.demo.measure import TORCH_LAYOUTS, spread_ms
from gossamer.demo.results import (
    DENSE,
    GOSSAMER,
    PRUNED,
    TORCH,
    DemoReport,
    Goal,
    Guess,
    Layer,
    Row,
)
from jit.artifact import Artifact
from prune.demo.clips import MOTIONS
from prune.demo.train import DemoResult
from refimpl.plan import Plan

LEAST_ACCURACY, LEAST_COMPRESSION, MOST_LOSS = 0.95, 3.0, 0.01

_LIBRARIES = ("torch", "llvmlite", "numpy", "scikit-learn")
_SHOWN_CLIPS = 4
_STEADY = 1.2
"""Largest quotient of median and 10th percentile on a machine that does nothing else."""


@dataclass(frozen=True)
class Host:
    """What was found on this machine; mappings are by network.

    Attributes:
        artifacts: what ran.
        description: of the machine.
        faults: of the layer checks, in words.
        shares: of the error bound, the largest.
        named: the class of every test clip.
        race: latency of ours and torch's.
        times: median microseconds by layer.
    """

    artifacts: Mapping[str, Artifact]
    description: str
    faults: list[str]
    shares: Mapping[str, float]
    named: Mapping[str, np.ndarray]
    race: Comparison
    times: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Emulated:
    """What was found on the emulated core; as `Host`, and `missing` says what was not, and why.

    Attributes:
        instructions: of the guest, for one inference, by layer.
    """

    artifacts: Mapping[str, Artifact]
    description: str = ""
    faults: list[str] = field(default_factory=list)
    shares: Mapping[str, float] = field(default_factory=dict)
    named: Mapping[str, np.ndarray] = field(default_factory=dict)
    missing: str = ""
    instructions: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Findings:
    """All that one run of the demo measured."""

    job: DemoResult
    host: Host
    emulated: Emulated
    seconds: Mapping[str, float]

    def report(self) -> DemoReport:
        """The same, as people and machines read it."""
        return DemoReport(
            rows=tuple(self._rows()),
            layers=tuple(self._layers()),
            goals=tuple(self._goals()),
            faults=tuple(self._faults()),
            speedup=self._speedup(),
            cautions=tuple(self._cautions()),
            scheme=" and ".join(sorted({str(scheme) for scheme, _ in self.job.masks.values()})),
            masks=self.job.masks,
            guesses=tuple(self._guesses()),
            seconds=dict(self.seconds),
            training_seconds={name: m.seconds for name, m in self.job.measured.items()},
            about=self._about(),
        )

    # -- rows --------------------------------------------------------------------------------

    def _rows(self) -> Iterator[Row]:
        for network in (DENSE, PRUNED):
            yield self._torch_row(network)
            yield self._host_row(network)
        for network in self.emulated.named:
            yield self._emulated_row(network)

    def _torch_row(self, network: str) -> Row:
        module = {DENSE: self.job.dense, PRUNED: self.job.pruned}[network]
        peer = self._faster_torch(network)
        return Row(
            network,
            TORCH,
            "host",
            f"eager, {TORCH_LAYOUTS[peer]}, the faster of two" if peer else "eager",
            round(self.job.measured[network].accuracy * len(self.job.test)),
            len(self.job.test),
            self.job.macs.dense,  # torch multiplies the zeros too
            sum(4 * p.numel() for p in module.parameters()),
            spread_ms(self.host.race, f"{peer} {network}") if peer else None,
        )

    def _faster_torch(self, network: str) -> str | None:
        """The layout in which torch is faster, None if it could be measured in neither."""
        timed = {}
        for peer in TORCH_LAYOUTS:
            spread = spread_ms(self.host.race, f"{peer} {network}")
            if spread is not None:
                timed[peer] = spread[0]
        return min(timed, key=timed.__getitem__, default=None)

    def _host_row(self, network: str) -> Row:
        plan = self.host.artifacts[network].plan
        return Row(
            network,
            GOSSAMER,
            "host",
            f"code for {plan.target}",
            self._right(self.host.named[network]),
            len(self.job.test),
            _macs(plan),
            plan.weight_bytes,
            spread_ms(self.host.race, f"ours {network}"),
            bound_share=self.host.shares[network],
        )

    def _emulated_row(self, network: str) -> Row:
        named, plan = self.emulated.named[network], self.emulated.artifacts[network].plan
        counted = self.emulated.instructions.get(network)
        return Row(
            network,
            GOSSAMER,
            f"qemu:{plan.target}",
            f"code for {plan.target}",
            self._right(named),
            len(named),
            _macs(plan),
            plan.weight_bytes,
            instructions=sum(counted.values()) if counted else None,
            bound_share=self.emulated.shares[network],
        )

    def _right(self, named: np.ndarray) -> int:
        return int((named == self.job.test.labels[: len(named)]).sum())

    # -- layers ------------------------------------------------------------------------------

    def _layers(self) -> Iterator[Layer]:
        """Every layer that both networks run, in order, on this machine or the emulated one."""
        plans = {name: artifact.plan for name, artifact in self.host.artifacts.items()}
        kept = {step.label: step.kept_macs for step in plans[PRUNED].steps}
        for step in plans[DENSE].steps:
            name = step.label
            yield Layer(
                name,
                step.dense_macs,
                kept.get(name, 0),
                {n: times[name] for n, times in self.host.times.items() if name in times},
                {n: c[name] for n, c in self.emulated.instructions.items() if name in c},
            )

    # -- words -------------------------------------------------------------------------------

    def _goals(self) -> Iterator[Goal]:
        test = len(self.job.test)
        dense, pruned = (self._right(self.host.named[n]) / test for n in (DENSE, PRUNED))
        macs = self.job.macs
        yield Goal(
            f"The dense network names at least {LEAST_ACCURACY:.0%} of unseen clips rightly: "
            f"{dense:.1%}.",
            dense >= LEAST_ACCURACY,
        )
        yield Goal(
            f"Pruning leaves at least {LEAST_COMPRESSION:g} times fewer MACs: "
            f"{macs.compression:.2f} times.",
            macs.compression >= LEAST_COMPRESSION,
        )
        yield Goal(
            f"Pruning costs at most {100 * MOST_LOSS:g} point of accuracy: "
            f"{100 * (pruned - dense):+.1f} points.",
            dense - pruned <= MOST_LOSS,
        )
        yield Goal("Every layer is right, within its error bound.", not list(self._faults()))

    def _faults(self) -> Iterator[str]:
        yield from self.host.faults
        yield from self.emulated.faults
        for row in self.host.race.rows:
            if row.label.startswith("ours") and row.refusal:
                yield f"{row.label}: {row.refusal}"

    def _cautions(self) -> Iterator[str]:
        if self.emulated.missing:
            yield f"Not measured: {self.emulated.missing}."
        for row in self.host.race.rows:
            if not row.label.startswith("ours") and row.refusal:
                yield f"Not measured: {row.refusal}."
        if any(self._interrupted(network) for network in (DENSE, PRUNED)):
            yield (
                "This machine was busy while latency was measured, so medians are too long. The "
                "speed-up is of the fastest runs; run the demo again when nothing else runs."
            )

    def _interrupted(self, network: str) -> bool:
        """Whether others took so much time from a network's runs that its median is off."""
        spread = spread_ms(self.host.race, f"ours {network}")
        return spread is not None and spread[1] > _STEADY * spread[0]

    def _speedup(self) -> float | None:
        rows = [self.host.race.row(f"ours {network}") for network in (DENSE, PRUNED)]
        if not all(row.rounds for row in rows):
            return None
        dense, pruned = (row.cost(0) for row in rows)
        return dense / pruned

    def _guesses(self) -> Iterator[Guess]:
        """Clips that were named rightly, of different motions, and one that was not."""
        named, labels = self.host.named[PRUNED], self.job.test.labels
        right, wrong = (np.flatnonzero((named == labels) == same) for same in (True, False))
        _, firsts = np.unique(labels[right], return_index=True)
        # Every second motion: left, up, clockwise, grow.
        for i in [*right[firsts][::2][:_SHOWN_CLIPS], *wrong[:1]]:
            frames = self.job.test.frames[i, 0]
            yield Guess(frames, MOTIONS[labels[i]], MOTIONS[named[i]])

    def _about(self) -> dict[str, str]:
        targets = {"host target": self.host.artifacts[DENSE].plan.target}
        if self.emulated.description:
            targets["emulator"] = self.emulated.description
        return {
            "machine": self.host.description,
            **targets,
            "threads": "1, for every latency",
            "python": platform.python_version(),
            **{name: version(name) for name in _LIBRARIES},
        }


def _macs(plan: Plan) -> int:
    return sum(step.kept_macs for step in plan.steps)
