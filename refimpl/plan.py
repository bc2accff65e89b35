"""Plan: a Graph with every decision made and explained, for one target.

    plan   := name, target, threads, inputs, outputs, places, steps, weights, constants, arena size
    place  := value -> shape, layout, segment (input | output | arena), byte offset
    step   := value = OP(values) + residual, activation; how it is scheduled; why

Steps run in order.  OP is `conv` (also linear layers: no spatial axes, or a kernel that covers
the whole input of a flatten), a pooling, an elementwise operator, `affine` (x*scale + shift per
channel), `softmax` or `relayout` (the same values in another layout or shape).  Batch norms are
folded into weights, grouped convolutions are convolutions whose weight has absent blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import groupby
from math import prod
from typing import Any

import numpy as np

from refimpl.graph import Attributes, Constant, Shape
from refimpl.layout import Layout
from refimpl.ops import OPERATORS
from refimpl.plan_report import show
from refimpl.tiles import Tiles, unpack

STEP_OPS = (
    "conv",
    "max_pool",
    "avg_pool",
    "adaptive_avg_pool",
    "adaptive_max_pool",
    "add",
    "sub",
    "mul",
    "activation",
    "affine",
    "softmax",
    "relayout",
)
ALIGNMENT = 64
"""Bytes to which every value in the arena is aligned."""


class PlanError(ValueError):
    """A Plan that breaks a rule, or a Graph that cannot be planned; the message names the node."""


@dataclass(frozen=True)
class Place:
    """Where a value lies: float32, `offset` in bytes inside its segment."""

    shape: Shape
    layout: Layout
    segment: str
    offset: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes in memory, halo and tail lanes included."""
        return 4 * self.layout.size(self.shape)


@dataclass(frozen=True)
class Schedule:
    """How a convolution is cut: see `jit.kernels.conv.ConvKernel` for what each part means."""

    rows: int
    lanes: int
    tile: tuple[int, int]
    run: int
    channel_block: int
    filters_first: bool


@dataclass(frozen=True)
class Choice:
    """Why a step is done the way it is: (candidate, predicted cycles) pairs and a sentence."""

    winner: str
    reason: str
    candidates: tuple[tuple[str, float], ...] = ()

    @property
    def cycles(self) -> float:
        """Predicted cycles of the winner, 0 where nothing was predicted."""
        return dict(self.candidates).get(self.winner, 0.0)


@dataclass(frozen=True)
class Step:
    """One fused operation and the value it computes."""

    name: str
    op: str
    inputs: tuple[str, ...]
    attributes: Attributes = ()
    weight: str = ""
    bias: str = ""
    residual: str = ""
    activation: tuple[str, tuple[Any, ...]] | None = None
    schedule: Schedule | None = None
    covers: tuple[str, ...] = ()
    choice: Choice = field(default_factory=lambda: Choice("", ""))
    dense_macs: int = 0
    kept_macs: int = 0

    @property
    def label(self) -> str:
        """What people know the step by: the first layer of the network that it covers."""
        return self.covers[0] if self.covers else self.name

    @property
    def reads(self) -> tuple[str, ...]:
        """Every value that the step reads."""
        return (*self.inputs, self.residual) if self.residual else self.inputs


@dataclass(frozen=True)
class Plan:
    """A network ready to be lowered for `target`."""

    name: str
    target: str
    threads: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    places: Mapping[str, Place]
    steps: tuple[Step, ...]
    weights: Mapping[str, Tiles]
    constants: Mapping[str, Constant]
    arena_bytes: int

    @property
    def weight_bytes(self) -> int:
        """Bytes of packed weights, their lists and the other constants."""
        tiles = sum(t.nbytes for t in self.weights.values())
        return tiles + sum(c.array.nbytes for c in self.constants.values())

    @property
    def liveness_bound(self) -> int:
        """The most bytes of the arena that one step needs: no arena can be smaller."""
        needed = [0] * (len(self.steps) + 1)
        for name, (first, last) in lifetimes(self).items():
            for step in range(first, last + 1):
                needed[step] += self.places[name].nbytes
        return max(needed)

    def __str__(self) -> str:
        """A small report: per step how it is computed, its size and the reason."""
        return show(self)


def output_positions(plan: Plan, step: Step) -> Shape:
    """Output positions along the axes of a convolution; 1 each where its kernel covers all."""
    rank = len(plan.places[step.inputs[0]].shape) - 2
    shape = plan.places[step.name].shape[2:]
    return shape if len(shape) == rank else (1,) * rank


def stored_macs(plan: Plan, step: Step) -> int:
    """Multiply-adds that a convolution performs, explicit zeros and padding rows included."""
    batch = plan.places[step.name].shape[0]
    return plan.weights[step.weight].stored * batch * prod(output_positions(plan, step))


def evaluate(plan: Plan, *inputs: np.ndarray, fast: bool = True) -> dict[str, np.ndarray]:
    """Every value by name, float64: what the Plan computes, whatever runs it."""
    check(plan)
    values = {name: np.asarray(x, np.float64) for name, x in zip(plan.inputs, inputs, strict=True)}
    for step in plan.steps:
        with np.errstate(all="ignore"):
            values[step.name] = evaluate_step(plan, step, values, fast=fast)
    return values


def evaluate_step(
    plan: Plan, step: Step, values: Mapping[str, np.ndarray], *, fast: bool = True
) -> np.ndarray:
    """What one step computes from the values it reads, float64, in its place's shape."""
    x = [values[name] for name in step.inputs]
    y = _operate(plan, step, x, fast)
    y = y.reshape(plan.places[step.name].shape)
    if step.residual:
        y = y + values[step.residual]
    return activate(step, y) if step.activation else y


def _operate(plan: Plan, step: Step, x: list[np.ndarray], fast: bool) -> np.ndarray:
    attributes = dict(step.attributes)
    match step.op:
        case "conv":
            return _convolve(plan, step, x[0], fast)
        case "affine":
            scale, shift = (
                plan.constants[name].array.astype(np.float64) for name in (step.weight, step.bias)
            )
            each = (1, -1) + (1,) * (x[0].ndim - 2)
            return x[0] * scale.reshape(each) + shift.reshape(each)
        case "activation" | "relayout":
            return x[0]
    return OPERATORS[step.op].evaluate(*x, **attributes)


def _convolve(plan: Plan, step: Step, x: np.ndarray, fast: bool) -> np.ndarray:
    weight, stored = unpack(plan.weights[step.weight])
    bias = plan.constants[step.bias].array.astype(np.float64)
    operator = OPERATORS["conv" if x.ndim > 2 else "linear"]
    attributes = dict(step.attributes) if x.ndim > 2 else {}
    if x.ndim > 2:
        attributes["groups"] = 1
    meaning = operator.fast if fast and operator.fast else operator.evaluate
    return meaning(x, weight.astype(np.float64), bias, kept=stored, **attributes)


def activate(step: Step, y: np.ndarray) -> np.ndarray:
    """The step's activation at y."""
    assert step.activation is not None
    name, numbers = step.activation
    operator = OPERATORS[name]
    return operator.evaluate(y, **dict(zip(operator.attributes, numbers, strict=True)))


def check(plan: Plan) -> None:
    """Raise PlanError, naming the step and the rule, unless the Plan is well-formed."""
    known = set(plan.inputs)
    for name in (*plan.inputs, *plan.outputs, *(s.name for s in plan.steps)):
        _require(name in plan.places, name, "the value has no place")
    for name, place in plan.places.items():
        _check_place(plan, name, place)
    for step in plan.steps:
        _check_step(plan, step, known)
        known.add(step.name)
    for name in plan.outputs:
        _require(name in known, name, "the output is never computed")
    _check_arena(plan)


def _require(condition: bool, name: str, rule: str) -> None:
    if not condition:
        raise PlanError(f"{name}: {rule}")


def _check_place(plan: Plan, name: str, place: Place) -> None:
    _require(place.segment in ("input", "output", "arena"), name, f"no segment {place.segment!r}")
    _require(len(place.shape) >= 2 and min(place.shape) >= 1, name, f"bad shape {place.shape}")
    _require(len(place.layout.halo) == len(place.shape) - 2, name, "layout of another rank")
    if place.segment == "arena":
        _require(place.offset % ALIGNMENT == 0, name, f"not aligned to {ALIGNMENT} bytes")
        inside = 0 <= place.offset <= plan.arena_bytes - place.nbytes
        _require(inside, name, "lies outside the arena")


def _check_step(plan: Plan, step: Step, known: set[str]) -> None:
    _require(step.op in STEP_OPS, step.name, f"no operation {step.op!r}")
    _require(step.name not in known, step.name, "is computed twice")
    for name in step.reads:
        _require(name in known, step.name, f"reads {name}, which is not computed before")
    if step.op == "conv":
        _check_conv(plan, step)
    if step.op == "affine":
        present = {step.weight, step.bias} <= plan.constants.keys()
        _require(present, step.name, "its scale or shift is missing")
    if step.activation is not None:
        _require(step.activation[0] in OPERATORS, step.name, f"no {step.activation[0]!r}")
    if step.residual:
        r, y = plan.places[step.residual], plan.places[step.name]
        _require(r.shape == y.shape, step.name, "the residual has another shape")
        same = r.layout.block == y.layout.block
        _require(same, step.name, "the residual is in blocks of another size")


def _check_conv(plan: Plan, step: Step) -> None:
    s = step.schedule
    _require(step.weight in plan.weights, step.name, "its weight is missing")
    _require(step.bias in plan.constants, step.name, "its bias is missing")
    if s is None:
        raise PlanError(f"{step.name}: has no schedule")
    sound = s.lanes >= 1 and s.rows >= s.lanes and s.rows % s.lanes == 0 and min(s.tile) >= 1
    _require(sound and s.run >= 1 and s.channel_block >= 1, step.name, f"unsound {s}")
    x, w = plan.places[step.inputs[0]], plan.weights[step.weight].shape
    _require(len(w) == len(x.shape) and w[1] == x.shape[1], step.name, "weight of another shape")
    _require(plan.places[step.name].shape[1] == w[0], step.name, "filters do not match")
    shape = plan.constants[step.bias].array.shape
    _require(shape == (w[0],), step.name, "bias of another shape")
    _check_strips(plan, step, s.lanes)
    padding = dict(step.attributes).get("padding", ())
    for (lo, hi), (have_lo, have_hi) in zip(padding, x.layout.halo, strict=True):
        _require(lo <= have_lo and hi <= have_hi, step.name, "the halo is smaller than the padding")


def _check_strips(plan: Plan, step: Step, lanes: int) -> None:
    """A vector of filters lies in one block of channels, however the strips before it end."""
    block, row = plan.places[step.name].layout.block, 0
    _require(block % lanes == 0, step.name, f"vectors of {lanes} do not divide blocks of {block}")
    heights = [strip[0].rows.size for strip in plan.weights[step.weight].strips]
    for height, group in groupby(heights):
        _require(height % lanes == 0, step.name, "a strip is not made of whole vectors")
        rows = height * len(list(group))
        # Strips of one height are one kernel's work; it counts channels from where they begin.
        inside = row % block == 0 or row % block + rows <= block
        _require(inside, step.name, f"strips from filter {row} straddle blocks of {block} channels")
        row += rows


def lifetimes(plan: Plan) -> dict[str, tuple[int, int]]:
    """First and last step at which each value of the arena must be intact."""
    life: dict[str, tuple[int, int]] = {}
    for i, step in enumerate(plan.steps):
        for name in step.reads:
            first = life.get(name, (-1, -1))[0]
            life[name] = (first, i)
        life[step.name] = (i, i)
    for name in plan.outputs:
        life[name] = (life[name][0], len(plan.steps))
    return {name: span for name, span in life.items() if plan.places[name].segment == "arena"}


def _check_arena(plan: Plan) -> None:
    spans = sorted(lifetimes(plan).items(), key=lambda item: item[1])
    for i, (a, (_, last)) in enumerate(spans):
        for b, (first, _) in spans[i + 1 :]:
            if first > last:
                break
            pa, pb = plan.places[a], plan.places[b]
            apart = pa.offset + pa.nbytes <= pb.offset or pb.offset + pb.nbytes <= pa.offset
            _require(apart, a, f"shares memory with {b} while both are needed")
