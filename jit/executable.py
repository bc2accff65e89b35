"""Executable: an Artifact loaded on a device.  Arrays in, arrays out; steps timed or watched."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from jit.artifact import Artifact, kernel_symbols
from jit.launches import Launch, Ref
from jit.session import CallResult, DeviceError, Guard, Session

_POISON = np.float32(np.nan)


class InputError(ValueError):
    """An input that the network does not take; the message names it and what is wanted."""


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

    def __init__(self, artifact: Artifact, session: Session, *, guard: Guard = "none"):
        """Load code and constants and reserve memory.

        Args:
            artifact: for the session's architecture and features.
            session: stays the caller's; it is not closed here.
            guard: where to put a guard page at every buffer ("none", "start" or "end").

        Raises:
            DeviceError: the device cannot run code for this target, by name of what it lacks.
        """
        _check_device(artifact, session)
        self.artifact, self.session = artifact, session
        self.plan = artifact.plan
        self._owned: list[int] = []
        self._segments: dict[str, tuple[int, int]] = {}
        self._base = session.load(artifact.blob)
        self._owned.append(self._base)
        self._reserve(guard)
        self._table = self._tabulate()
        self._spans = _spans(artifact.launches)

    # -- memory ------------------------------------------------------------------------------

    def _alloc(self, nbytes: int, guard: Guard = "none") -> int:
        address = self.session.alloc(max(nbytes, 4), guard=guard)
        self._owned.append(address)
        return address

    def _reserve(self, guard: Guard) -> None:
        sizes = {"constants": len(self.artifact.constants), "arena": self.plan.arena_bytes}
        for name, place in self.plan.places.items():
            if place.segment in ("input", "output"):
                sizes[f"{place.segment}:{name}"] = place.nbytes
        for segment, size in sizes.items():
            self._segments[segment] = (self._alloc(size, guard), size)
        self.session.write(self._segments["constants"][0], self.artifact.constants)

    def _address(self, ref: Ref) -> int:
        base, size = self._segments[ref.segment]
        if not 0 <= ref.offset <= size:
            raise DeviceError(f"offset {ref.offset} is outside segment {ref.segment} ({size} bytes)")
        return base + ref.offset

    def _tabulate(self) -> int:
        """The launch table on the device: (kernel, buffers, params) per launch."""
        names = {kernel: symbol for symbol, kernel in kernel_symbols(self.artifact.launches).items()}
        words: list[int] = []
        rows: list[tuple[int, int, int]] = []
        for launch in self.artifact.launches:
            symbol, refs = names[launch.kernel], dict(launch.buffers)
            takes = self.artifact.signatures[symbol]
            code = self._base + self.artifact.blob.symbols[symbol]
            rows.append((code, len(words), len(words) + len(takes.buffers)))
            words += [self._address(refs[name]) for name in takes.buffers]
            words += [launch.params[name] for name in takes.params]
        size = 24 * len(rows)
        table = self._alloc(size + 8 * len(words))
        first = table + size
        flat = [x for code, b, p in rows for x in (code, first + 8 * b, first + 8 * p)]
        data = struct.pack(f"<{len(flat)}Q{len(words)}q", *flat, *words)
        self.session.write(table, data)
        return table

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
            raise InputError(f"{self.plan.name} takes {len(self.plan.inputs)} inputs ({wanted}), "
                             f"not {len(inputs)}")
        for name, array in zip(self.plan.inputs, inputs, strict=True):
            shape = self.plan.places[name].shape
            if tuple(np.shape(array)) != shape:
                raise InputError(f"input {name} has shape {tuple(np.shape(array))}, the plan was "
                                 f"made for {shape}")
            data = np.ascontiguousarray(array, dtype=np.float32)
            self.session.write(self._segments[f"input:{name}"][0], data)

    def run(self, *, runs: int = 1, warmup: int = 0, count: bool = False,
            timeout_s: float = 600.0) -> CallResult:
        """Run the network on the inputs that lie there."""
        return self._call(0, len(self.artifact.launches), runs=runs, warmup=warmup, count=count,
                          timeout_s=timeout_s)

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
        segment = place.segment if place.segment == "arena" else f"{place.segment}:{name}"
        data = self.session.read(self._address(Ref(segment, place.offset)), place.nbytes)
        return np.frombuffer(data, np.float32)

    def steps(self, *inputs: np.ndarray, poison: bool = False) -> Iterator[str]:
        """Run step by step; after each, its name is given and its value can be read.

        With `poison`, arena and outputs are filled with NaN first, so that what a kernel fails to
        write shows.
        """
        self.feed(*inputs)
        if poison:
            for segment, (address, size) in self._segments.items():
                if segment == "arena" or segment.startswith("output:"):
                    self.session.write(address, np.full(size // 4, _POISON))
        for step, (begin, end) in self._spans.items():
            self._call(begin, end - begin)
            yield step

    def profile(self, *inputs: np.ndarray, runs: int = 50, warmup: int = 5) -> list[StepTime]:
        """Time every step by itself, `runs` passes over the network in order."""
        self.feed(*inputs)
        self.run(runs=max(warmup, 1))
        times: dict[str, list[int]] = {step: [] for step in self._spans}
        for _ in range(runs):
            for step, (begin, end) in self._spans.items():
                times[step] += self._call(begin, end - begin).nanoseconds
        return [StepTime(step, tuple(t)) for step, t in times.items()]

    def count(self, step: str) -> int | None:
        """Guest instructions of one step on the values that lie there."""
        begin, end = self._spans[step]
        return self._call(begin, end - begin, count=True).instructions

    def _call(self, begin: int, launches: int, *, runs: int = 1, warmup: int = 0,
              count: bool = False, timeout_s: float = 600.0) -> CallResult:
        walker = self._base + self.artifact.blob.symbols["run"]
        args: Sequence[int] = (self._table + 24 * begin, launches, 0, 1)
        return self.session.call(walker, args, runs=runs, warmup=warmup, count=count,
                                 timeout_s=timeout_s)

    def close(self) -> None:
        """Free the memory on the device; closing twice is harmless."""
        owned, self._owned = self._owned, []
        for address in reversed(owned):
            self.session.free(address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _check_device(artifact: Artifact, session: Session) -> None:
    target, info = artifact.target, session.info
    if target.arch != info.arch:
        raise DeviceError(f"the plan is for {target.name} ({target.arch}), {session.name} runs "
                          f"{info.arch}; plan it for a target of that architecture")
    missing = sorted(set(target.features) - info.features)
    if missing:
        raise DeviceError(f"the plan is for {target.name}, {session.name} lacks "
                          f"{', '.join(missing)}; plan it for a smaller target")


def _spans(launches: tuple[Launch, ...]) -> dict[str, tuple[int, int]]:
    """First and end launch of every step."""
    spans: dict[str, tuple[int, int]] = {}
    for i, launch in enumerate(launches):
        spans[launch.step] = (spans.get(launch.step, (i, i))[0], i + 1)
    return spans
