"""Executable: an Artifact loaded on a device.  Arrays in, arrays out; steps timed or watched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np

from jit.artifact import Artifact, NativeArtifact, OpenCLArtifact, build
from jit.devices import open_device
from jit.inputs import InputError, as_indices
from jit.launches import Launch, Ref, segment_of
from jit.opencl.runtime import OpenCLPlacement, OpenCLSession
from jit.placement import MachinePlacement, Placement
from jit.session import CallResult, DeviceError, Guard, MachineSession, Session
from refimpl.plan import Plan

_POISON = np.float32(np.nan)


@dataclass(frozen=True)
class StepTime:
    """Nanoseconds of one step in every run, in order."""

    step: str
    nanoseconds: tuple[int, ...]

    def percentile(self, q: float) -> float:
        """The q-th percentile in microseconds."""
        return float(np.percentile(self.nanoseconds, q)) / 1000


class Executable:
    """A compiled network on a device; a context manager that frees its memory there."""

    def __init__(
        self,
        artifact: Artifact,
        session: Session,
        *,
        guard: Guard = "none",
        owns_session: bool = False,
    ):
        """Load code and constants and reserve memory.

        Args:
            artifact: for the session's architecture and features.
            session: an open device.
            guard: where to put a guard page at every buffer ("none", "start" or "end").
            owns_session: close the session with the Executable; it stays the caller's otherwise.

        Raises:
            DeviceError: the device cannot run code for this target, by name of what it lacks;
                or it has no guard pages.
        """
        self.artifact, self.session = artifact, session
        self.plan = artifact.plan
        self._placement = _place(artifact, session, guard)
        self._spans = _spans(artifact.launches)
        self._owns_session = owns_session

    # -- running -----------------------------------------------------------------------------

    def __call__(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """Run the network. Inputs are real arrays of the plan's shapes, taken as float32."""
        self.feed(*inputs)
        self.run()
        return self.results()

    def feed(self, *inputs: np.ndarray) -> None:
        """Copy the inputs to the device. Raises InputError naming the input that does not fit."""
        if len(inputs) != len(self.plan.inputs):
            wanted = ", ".join(self.plan.inputs)
            raise InputError(
                f"{self.plan.name} takes {len(self.plan.inputs)} inputs ({wanted}), "
                f"not {len(inputs)}"
            )
        for name, array in zip(self.plan.inputs, inputs, strict=True):
            shape = self.plan.places[name].shape
            if tuple(np.shape(array)) != shape:
                raise InputError(
                    f"input {name!r} has shape {tuple(np.shape(array))}, the plan was "
                    f"made for {shape}"
                )
            if self.plan.places[name].dtype == "i32":
                data = as_indices(self.plan, name, array)
            else:
                data = np.ascontiguousarray(array, dtype=np.float32)
            self._placement.write(f"input:{name}", data)

    def run(
        self, *, runs: int = 1, warmup: int = 0, count: bool = False, timeout_s: float = 600.0
    ) -> CallResult:
        """Run the network on the inputs that lie there."""
        return self._placement.call(
            0,
            len(self.artifact.launches),
            runs=runs,
            warmup=warmup,
            count=count,
            timeout_s=timeout_s,
        )

    def results(self) -> tuple[np.ndarray, ...]:
        """The outputs of the last run, float32."""
        return tuple(self.value(name) for name in self.plan.outputs)

    def value(self, name: str) -> np.ndarray:
        """A value as it lies in memory now, float32; only meaningful while it is alive."""
        place = self.plan.places[name]
        return place.layout.unpack(self.memory(name), place.shape)

    def memory(self, name: str) -> np.ndarray:
        """The flat memory image of a value, halo and tail lanes included."""
        place = self.plan.places[name]
        data = self._placement.read(Ref(segment_of(name, place), place.offset), place.nbytes)
        return np.frombuffer(data, np.float32)

    def steps(self, *inputs: np.ndarray, poison: bool = False) -> Iterator[str]:
        """Run step by step; after each, its name is given and its value can be read.

        With `poison`, arena and outputs are filled with NaN first, so that what a kernel fails to
        write shows.
        """
        self.feed(*inputs)
        if poison:
            for segment, size in self._placement.sizes.items():
                if segment == "arena" or segment.startswith("output:"):
                    self._placement.write(segment, np.full(size // 4, _POISON))
        for step, (begin, end) in self._spans.items():
            self._placement.call(begin, end)
            yield step

    def profile(self, *inputs: np.ndarray, runs: int = 50, warmup: int = 5) -> list[StepTime]:
        """Time every step by itself, `runs` passes over the network in order."""
        self.feed(*inputs)
        self.run(runs=max(warmup, 1))
        times: dict[str, list[int]] = {step: [] for step in self._spans}
        for _ in range(runs):
            for step, (begin, end) in self._spans.items():
                times[step] += self._placement.call(begin, end).nanoseconds
        return [StepTime(step, tuple(t)) for step, t in times.items()]

    def instructions(self, *inputs: np.ndarray) -> dict[str, int]:
        """Guest instructions of every step by its name, of one pass over the network.

        Raises:
            DeviceError: the device cannot count, or was not asked to when it was opened.
        """
        self.feed(*inputs)
        # Counting runs the step, so the next one finds its input.
        return {step: self._count(*span) for step, span in self._spans.items()}

    def _count(self, begin: int, end: int) -> int:
        counted = self._placement.call(begin, end, count=True).instructions
        if counted is None:
            raise DeviceError(f"{self.session.name} ran a step and counted nothing")
        return counted

    def close(self) -> None:
        """Free the memory on the device; closing twice is harmless."""
        self._placement.close()
        if self._owns_session:
            self.session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_executable(
    network: Plan | Artifact, device: str, *, guard: Guard = "none", counting: bool = False
) -> Executable:
    """A network ready to run on the device of that name, which is closed with it.

    Args:
        network: a Plan is built first.
        device: as `jit.devices.open_device` takes it.
        guard: as `Executable` takes it.
        counting: ask for instruction counts, as `open_device` does.

    Raises:
        DeviceError: the device cannot be opened, or cannot run code for the plan's target.
    """
    artifact = build(network) if isinstance(network, Plan) else network
    session = open_device(device, counting=counting)
    try:
        return Executable(artifact, session, guard=guard, owns_session=True)
    except BaseException:
        session.close()
        raise


def _place(artifact: Artifact, session: Session, guard: Guard) -> Placement:
    target, info = artifact.target, session.info
    if isinstance(artifact, NativeArtifact) and isinstance(session, MachineSession):
        if target.arch == info.arch:
            _check_features(artifact, session)
            return MachinePlacement(artifact, session, guard)
    elif isinstance(artifact, OpenCLArtifact) and isinstance(session, OpenCLSession):
        _check_features(artifact, session)
        return OpenCLPlacement(artifact, session, guard)
    made = f" ({target.arch})" if target.arch != target.name else ""
    raise DeviceError(
        f"the plan is for {target.name}{made}, {session.name} runs {info.arch}; plan "
        "it for a target of that architecture"
    )


def _check_features(artifact: Artifact, session: Session) -> None:
    missing = sorted(set(artifact.target.features) - session.info.features)
    if missing:
        raise DeviceError(
            f"the plan is for {artifact.target.name}, {session.name} lacks "
            f"{', '.join(missing)}; plan it for a target without them, or "
            "choose another device"
        )


def _spans(launches: tuple[Launch, ...]) -> dict[str, tuple[int, int]]:
    """First and end launch of every step."""
    spans: dict[str, tuple[int, int]] = {}
    for i, launch in enumerate(launches):
        spans[launch.step] = (spans.get(launch.step, (i, i))[0], i + 1)
    return spans
