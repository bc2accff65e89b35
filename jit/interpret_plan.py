"""Run a small Plan at any stage of lowering, in NumPy: the meaning of its Programs.

Every launch is interpreted as the stage left it, from the naive loops to the last form before
code, on the memory that the compiled code would use, with an initialised bit per element.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from jit.interpreter import Memory, interpret
from jit.kernels.batch import BatchKernel
from jit.kernels.block import BlockKernel
from jit.kernels.conv import ConvKernel
from jit.kernels.listed import ListedKernel
from jit.kernels.panel import PanelKernel
from jit.launches import Launch, Ref, launches, segment_of
from jit.pipeline import lower
from jit.program import BYTES, Program
from jit.target import target
from refimpl.plan import Plan
from refimpl.tiles import Tiles, unpack

_WEIGHTED = (ConvKernel, PanelKernel, ListedKernel, BlockKernel, BatchKernel)

LAST = "last"
"""Stands for the last stage of every kernel, whatever it is called."""


def interpret_plan(plan: Plan, *inputs: np.ndarray, stage: str = LAST) -> dict[str, np.ndarray]:
    """Every value by name, float64, read when its step ends.

    Args:
        plan: at most some 10^5 multiply-adds, or it takes minutes.
        inputs: arrays of the plan's input shapes.
        stage: a name from `jit.pipeline`; kernels without that stage run at their last one.

    Raises:
        ProgramError: a Program reads what was never written, or leaves a buffer.
    """
    machine = _Machine(plan, stage)
    return machine.run(inputs)


class _Machine:
    def __init__(self, plan: Plan, stage: str):
        self.plan, self.stage = plan, stage
        self.launches, image = launches(plan, target(plan.target))
        self.constants = {
            "f32": np.frombuffer(image, np.float32).astype(np.float64),
            "i32": np.frombuffer(image, np.int32),
            "f16": np.frombuffer(image, np.float16),
        }
        self.segments: dict[str, Memory] = {"arena": Memory.blank(plan.arena_bytes // 4)}
        for name, place in plan.places.items():
            if place.segment in ("input", "output"):
                self.segments[segment_of(name, place)] = Memory.blank(place.nbytes // 4)

    def run(self, inputs: tuple[np.ndarray, ...]) -> dict[str, np.ndarray]:
        for name, array in zip(self.plan.inputs, inputs, strict=True):
            packed = self.plan.places[name].layout.pack(np.asarray(array, np.float64))
            self.segments[f"input:{name}"] = Memory.holding(packed)
        values: dict[str, np.ndarray] = {}
        for i, launch in enumerate(self.launches):
            self.launch(launch)
            if i + 1 == len(self.launches) or self.launches[i + 1].step != launch.step:
                values[launch.step] = self.value(launch.step)
        return values

    def program(self, launch: Launch) -> Program:
        entries = lower(launch.kernel).entries
        if self.is_product(
            launch
        ):  # its naive loops would take each point's filters by all others'
            entries = entries[1:]
        return next((e.program for e in entries if e.name == self.stage), entries[-1].program)

    def is_product(self, launch: Launch) -> bool:
        """Whether a launch multiplies the transformed tiles of a convolution by Winograd."""
        step = next(s for s in self.plan.steps if s.name == launch.step)
        return step.winograd is not None and isinstance(launch.kernel, ConvKernel)

    def launch(self, launch: Launch) -> None:
        program = self.program(launch)
        memory = {name: self.memory(ref, program, name) for name, ref in launch.buffers}
        weighted = isinstance(launch.kernel, _WEIGHTED)
        if weighted and not self.is_product(launch):
            memory["w"] = Memory.holding(self.dense_weight(launch))
        known = {b.name for b in program.buffers}
        params = {p.name: launch.params[p.name] for p in program.params}
        interpret(program, params, {n: m for n, m in memory.items() if n in known})

    def memory(self, ref: Ref, program: Program, name: str) -> Memory:
        if ref.segment != "constants":
            held = self.segments[ref.segment]
            return Memory(held.data, held.initialised, ref.offset // 4)
        dtype = next((b.dtype for b in program.buffers if b.name == name), "f32")
        return Memory.holding(self.constants[dtype], ref.offset // BYTES[dtype])

    def dense_weight(self, launch: Launch) -> np.ndarray:
        """The rows of a region, in the order of their strips: every weight, pruned ones zero."""
        step = next(s for s in self.plan.steps if s.name == launch.step)
        tiles = self.plan.weights[step.weight]
        if isinstance(launch.kernel, BlockKernel | BatchKernel):  # the tiles of one height
            same = [
                [t for t in strip if t.rows.size == launch.kernel.rows] for strip in tiles.strips
            ]
            return unpack(Tiles(tiles.shape, tuple(map(tuple, same))))[0]
        weight, _ = unpack(tiles)
        strips = np.concatenate([strip[0].rows for strip in tiles.strips])
        rows = strips[launch.first_row :][: launch.params["F"]]
        real = (rows >= 0).reshape(-1, *[1] * (weight.ndim - 1))
        return np.where(real, weight[rows], 0.0)

    def value(self, name: str) -> np.ndarray:
        place = self.plan.places[name]
        start = place.offset // 4
        data = self.segments[segment_of(name, place)].data[start : start + place.nbytes // 4]
        return place.layout.unpack(data, place.shape)


def stage_names(plan: Plan) -> list[str]:
    """Every stage that the plan's convolutions go through, in order."""
    names: dict[str, None] = {}
    for launch in launches(plan, target(plan.target))[0]:
        if isinstance(launch.kernel, _WEIGHTED):
            names |= dict.fromkeys(e.name for e in lower(launch.kernel).entries)
    return list(names)


def differences(
    plan: Plan, reference: Mapping[str, np.ndarray], *inputs: np.ndarray
) -> dict[str, float]:
    """For every stage, the largest difference of any value from the reference's."""
    result = {}
    for stage in stage_names(plan):
        values = interpret_plan(plan, *inputs, stage=stage)
        result[stage] = max(float(np.max(np.abs(v - reference[n]))) for n, v in values.items())
    return result
