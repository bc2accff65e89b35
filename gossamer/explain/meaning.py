"""Does a stage still mean the same?  Every form of a shrunk layer is run and compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

import jit.interpret_plan
from conformance.check import arithmetic
from jit.artifact import build
from jit.devices import open_device
from jit.executable import Executable
from jit.inputs import random_inputs
from jit.program import ProgramError
from jit.session import Crash, DeviceError, DeviceLost, Timeout
from jit.target import target
from refimpl.bounds import bounded_step
from refimpl.graph import Constant
from refimpl.plan import Plan, Step, evaluate
from refimpl.tiles import Tiles

COMPILED = "compiled"
"""Stands for the machine code, run on the device that fits the target."""


@dataclass(frozen=True)
class Verdict:
    """How far the answer of one form is from the reference's.

    error: the largest difference of any output; share: of the bound used, 1 and more is wrong
    (infinite if nothing was computed); note: why, where it is not a matter of rounding.
    """

    stage: str
    error: float
    share: float
    note: str = ""

    @property
    def agrees(self) -> bool:
        """Every output is within its bound."""
        return self.share < 1

    @property
    def was_run(self) -> bool:
        """False where no device could run the code; the note says why."""
        return not np.isnan(self.share)

    def __str__(self) -> str:
        if not self.was_run:
            return f"not run: {self.note}"
        if self.note:
            return f"fails: {self.note}"
        return f"agrees to {self.error:.1e}" if self.agrees else f"is wrong by {self.error:.1e}"


def verdicts(plan: Plan, name: str, *, compiled: bool = False) -> Iterator[Verdict]:
    """Interpret step `name` of a small plan at every stage, in order; then run its code.

    Args:
        plan: as `jit.shrink.shrink` makes them; it has one convolution.
        name: that convolution.
        compiled: also compile it and run it on the target's device.
    """
    inputs = random_inputs(plan)
    reference = evaluate(plan, *inputs)[name]
    interpreted, emitted = _bounds(plan, name, inputs)
    for stage in jit.interpret_plan.stage_names(plan):
        try:
            answer = jit.interpret_plan.interpret_plan(plan, *inputs, stage=stage)[name]
        except ProgramError as error:
            yield Verdict(stage, np.inf, np.inf, str(error))
        else:
            yield _compare(stage, answer, reference, interpreted)
    if compiled:
        yield _run(plan, name, inputs, reference, emitted)


def first_wrong(found: list[Verdict]) -> Verdict | None:
    """The first form whose answer leaves its bound, or None."""
    return next((v for v in found if v.was_run and not v.agrees), None)


def device_for(name: str) -> str:
    """The device that runs code for the target of that name."""
    machine = target(name)
    return f"qemu:{machine.name}" if machine.arch == "aarch64" else "host-isolated"


def _run(
    plan: Plan, name: str, inputs: list[np.ndarray], reference: np.ndarray, bound: np.ndarray
) -> Verdict:
    artifact = build(plan)
    try:
        with (
            open_device(device_for(plan.target)) as session,
            Executable(artifact, session) as executable,
        ):
            for step in executable.steps(*inputs, poison=True):
                if step == name:
                    break
            return _compare(COMPILED, executable.value(name), reference, bound)
    except (Crash, DeviceLost, Timeout) as error:
        return Verdict(COMPILED, np.inf, np.inf, str(error))
    except DeviceError as error:
        return Verdict(COMPILED, np.nan, np.nan, str(error))


def _compare(stage: str, answer: np.ndarray, reference: np.ndarray, bound: np.ndarray) -> Verdict:
    difference = np.abs(answer - reference)
    share = np.where(difference > 0, difference / np.maximum(bound, 1e-300), 0.0)
    share = np.where(np.isnan(difference), np.inf, share)
    return Verdict(stage, float(np.max(difference)), float(np.max(share)))


def _bounds(plan: Plan, name: str, inputs: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Per output, the most that stages interpreted in float64, and that code, may be off.

    By Winograd they are the same: a transformed weight is rounded to float32 before any stage.
    """
    step = next(s for s in plan.steps if s.name == name)
    if step.winograd is not None:
        _, bound = bounded_step(plan, step, evaluate(plan, *inputs), arithmetic(plan))
        return bound, bound
    size = _magnitude(plan, name, inputs)
    return size * np.finfo(np.float64).eps, size * np.finfo(np.float32).eps


def _magnitude(plan: Plan, name: str, inputs: list[np.ndarray]) -> np.ndarray:
    """Per output, what one unit of rounding may change of it.

    Terms |w||x| summed one after another, `depth` of them, err by at most depth units of their
    sum; bias, residual and the activation add a few; activations other than two that say so in
    their attribute have slopes below 1.5.
    """
    step = next(s for s in plan.steps if s.name == name)
    depth = max(tile.columns.size for tile in plan.weights[step.weight])
    positive = replace(
        plan,
        weights={key: _absolute(tiles) for key, tiles in plan.weights.items()},
        constants={key: Constant(np.abs(c.array)) for key, c in plan.constants.items()},
        steps=tuple(replace(s, activation=None) for s in plan.steps),
    )
    sums = evaluate(positive, *(np.abs(x) for x in inputs))[name]
    return (depth + 8) * _slope(step) * sums


def _absolute(tiles: Tiles) -> Tiles:
    strips = (tuple(replace(t, values=np.abs(t.values)) for t in strip) for strip in tiles.strips)
    return replace(tiles, strips=tuple(strips))


def _slope(step: Step) -> float:
    kind, numbers = step.activation or ("", ())
    return max(1.5, *map(abs, numbers)) if kind in ("leaky_relu", "elu") else 1.5
