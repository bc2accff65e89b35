"""The demo from start to finish: train, prune, compile, check, measure, on the host and emulated.

networks -> Graphs -> Plans and Artifacts, for this host and for an aarch64 core
host:      every layer against the reference, the whole test set, latency beside torch
emulated:  every layer against the reference, a part of the test set, guest instructions
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress

from gossamer.demo import measure
from gossamer.demo.findings import Emulated, Findings, Host
from gossamer.demo.phases import Phases
from gossamer.demo.results import DENSE, PRUNED, DemoReport
from jit.artifact import Artifact, build
from jit.decide import plan
from jit.devices import open_device
from jit.session import DeviceError, Session
from prune.demo.recipe import Recipe
from prune.demo.train import DemoResult, load_or_train
from refimpl.graph import Graph
from refimpl.importers.torch import capture

EMULATED = "cortex-a76"
"""The aarch64 core that code is also made for; QEMU stands in for it."""


@dataclass(frozen=True)
class Effort:
    """How much the demo does.

    Attributes:
        recipe: of the networks.
        emulated_clips: test clips that the emulated core names; each takes it a few seconds.
        rounds: of the latency comparison.
    """

    recipe: Recipe = field(default_factory=Recipe)
    emulated_clips: int = 12
    rounds: int = 15


def run_demo(folder: Path, *, progress: Progress, effort: Effort | None = None) -> DemoReport:
    """Run the demo; the networks are kept in `folder`, and what is there already is used.

    Args:
        folder: made when missing; gets the checkpoints.
        progress: a task is added to it for every phase.
        effort: the demo's own where None.

    Raises:
        CheckpointError: a network in the folder is damaged.
        DeviceError: the host cannot run the code, or a device was lost; an emulator that is not
            installed is no error, but is said in the report.
        OSError: the folder cannot be written.
    """
    return _Demo(Phases(progress), effort or Effort()).run(folder)


class _Demo:
    def __init__(self, phases: Phases, effort: Effort) -> None:
        self.phases, self.effort = phases, effort

    def run(self, folder: Path) -> DemoReport:
        job = self._networks(folder)
        graphs = self._capture(job)
        host = self._on_host(job, graphs, self._compile(graphs, "host"))
        emulated = self._on_emulator(job, self._compile(graphs, EMULATED))
        return Findings(job, host, emulated, self.phases.seconds).report()

    def _networks(self, folder: Path) -> DemoResult:
        with self.phases.phase("Networks: train, prune, retrain, or load"):
            progress = self.phases.progress
            return load_or_train(folder, progress=progress, recipe=self.effort.recipe)

    def _capture(self, job: DemoResult) -> dict[str, Graph]:
        example = (torch.from_numpy(job.test.frames[:1]),)
        with self.phases.phase("Capture both networks", 2) as tick:
            graphs = {}
            for name, module, masks in ((DENSE, job.dense, None), (PRUNED, job.pruned, job.masks)):
                graphs[name] = capture(module, example, masks=masks)
                tick()
            return graphs

    def _compile(self, graphs: Mapping[str, Graph], target: str) -> dict[str, Artifact]:
        with self.phases.phase(f"Plan and compile for {target}", len(graphs)) as tick:
            artifacts = {}
            for name, graph in graphs.items():
                artifacts[name] = build(plan(graph, target))
                tick()
            return artifacts

    # -- this machine ------------------------------------------------------------------------

    def _on_host(
        self, job: DemoResult, graphs: Mapping[str, Graph], artifacts: dict[str, Artifact]
    ) -> Host:
        clip = job.test.frames[:1]
        with open_device("host") as session:
            faults, shares = self._check("this machine", session, artifacts, clip)
            named = self._named("this machine", session, artifacts, job.test.frames)
            with self.phases.phase("Latency: ours and torch in turns"):
                race, times = measure.race(graphs, artifacts, session, clip, self.effort.rounds)
            return Host(artifacts, session.info.description, faults, shares, named, race, times)

    # -- the emulated core -------------------------------------------------------------------

    def _on_emulator(self, job: DemoResult, artifacts: dict[str, Artifact]) -> Emulated:
        device, frames = f"qemu:{EMULATED}", job.test.frames[: self.effort.emulated_clips]
        try:
            session = open_device(device)
        except DeviceError as error:
            return Emulated(artifacts, missing=f"{device} was left out: {error}")
        with session:
            faults, shares = self._check(device, session, artifacts, frames[:1])
            named = self._named(device, session, artifacts, frames)
            description = session.info.description
        # Counting slows the emulator down: only what is counted runs under it.
        with open_device(device, counting=True) as session:
            if session.counting is not None:
                return Emulated(artifacts, description, faults, shares, named, session.counting)
            counts = self._instructions(session, artifacts, frames[:1])
            return Emulated(artifacts, description, faults, shares, named, "", counts)

    def _instructions(
        self, session: Session, artifacts: Mapping[str, Artifact], clip: np.ndarray
    ) -> dict[str, dict[str, int]]:
        """Guest instructions by network and layer."""
        counts = {}
        with (
            self.phases.phase("Count guest instructions", len(artifacts)) as tick,
            measure.loaded(artifacts, session) as executables,
        ):
            for name, executable in executables.items():
                counts[name] = measure.layer_instructions(executable, clip)
                tick()
        return counts

    # -- both --------------------------------------------------------------------------------

    def _check(
        self, where: str, session: Session, artifacts: Mapping[str, Artifact], clip: np.ndarray
    ) -> tuple[list[str], dict[str, float]]:
        """What is wrong, in words, and the largest share of the error bound used, by network."""
        faults, shares = [], {}
        with (
            self.phases.phase(f"Check every layer on {where}", len(artifacts)) as tick,
            measure.loaded(artifacts, session) as executables,
        ):
            for name, executable in executables.items():
                shares[name], found = measure.check(executable, clip)
                faults += [f"{name} on {where}: {fault}" for fault in found]
                tick()
        return faults, shares

    def _named(
        self, where: str, session: Session, artifacts: Mapping[str, Artifact], frames: np.ndarray
    ) -> dict[str, np.ndarray]:
        """The class of every clip, by network."""
        words = f"Name {len(frames)} test clips on {where}"
        with (
            self.phases.phase(words, len(artifacts) * len(frames)) as tick,
            measure.loaded(artifacts, session) as executables,
        ):
            return {
                name: measure.predict(executable, frames, tick)
                for name, executable in executables.items()
            }
