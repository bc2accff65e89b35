"""From a Graph to a Plan: decompose, fold, lay out, schedule contractions, place all values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod

import numpy as np

from jit.decide.arena import lay_out
from jit.decide.blocks import packed
from jit.decide.decompose import decompose
from jit.decide.draft import Draft
from jit.decide.fold import Folded, fold
from jit.decide.layouts import Layouts, Need
from jit.decide.panels import row_order
from jit.decide.planes import useful_planes, useful_share
from jit.decide.schedule import ConvProblem, choose, heights
from jit.target import Target
from jit.target import target as target_named
from refimpl import graph as graphs
from refimpl.graph import Constant, Graph, Shape, attributes
from refimpl.layout import Layout, plain
from refimpl.plan import Choice, Place, Plan, PlanError, Step
from refimpl.plan.panels import panels_of
from refimpl.tiles import Tiles, pack


def plan(graph: Graph, target: str | Target = "host", threads: int = 1) -> Plan:
    """Make every decision for the target.

    Args:
        graph: checked first.
        target: a name that `jit.target.target` knows, or a Target.
        threads: tasks that a kernel's work is divided into; 1 so far.

    Raises:
        GraphError: the Graph is ill-formed. TargetError: an unknown target.
        PlanError: an operator or shape that cannot be compiled yet, by the node's name.
    """
    if threads != 1:
        raise PlanError(f"{threads} threads: plans for more than one thread are not supported yet")
    machine = target_named(target) if isinstance(target, str) else target
    graphs.check(graph)
    return _Planner(graph, machine, fold(decompose(graph))).run()


class _Planner:
    def __init__(self, graph: Graph, machine: Target, folded: Folded):
        self.graph, self.machine, self.folded = graph, machine, folded
        self.shapes = folded.shapes
        self.layouts = Layouts(graph, folded, machine.lanes)
        self.steps: list[Step] = []
        self.places: dict[str, Place] = {}
        self.weights: dict[str, Tiles] = {}
        self.constants: dict[str, Constant] = {}

    def run(self) -> Plan:
        indices = {d.inputs[0] for d in self.folded.drafts if d.op == "embedding"}
        for name, shape in self.graph.inputs:
            kind = "i32" if name in indices else "f32"
            self.places[name] = Place(shape, plain(shape), "input", dtype=kind)
        for draft in self.folded.drafts:
            self.add(draft)
        for output, source in self.folded.outputs.items():
            self.give_back(source, f"{output}:out")
        result = Plan(
            self.graph.name,
            self.machine.name,
            1,
            tuple(name for name, _ in self.graph.inputs),
            tuple(f"{name}:out" for name in self.graph.outputs),
            self.places,
            tuple(self.steps),
            self.weights,
            self.constants,
            0,
        )
        return lay_out(result)

    # -- values in the layout that a reader needs ----------------------------------------------

    def held(self, draft: Draft, value: str) -> str:
        """The name in the Plan of a value as the draft reads it, copied there if need be."""
        if value in self.graph.constants:
            return self.constant(draft, value)
        wanted = self.layouts.need(draft, value)
        if wanted == "any" or self.lies(value, wanted):
            return value
        if wanted == "even":
            return self.copied(value, f"{value}:even", plain(self.shapes[value]))
        if value in dict(self.graph.inputs):
            return self.copied(value, f"{value}:in", self.layouts.of[value])
        blocks = self.layouts.in_blocks_for_readers(value)
        return self.copied(value, f"{value}:blocks", blocks)

    def lies(self, value: str, wanted: Need) -> bool:
        """Whether a value lies as wanted without a copy."""
        place = self.places[value]
        if wanted == "even":
            return place.layout.block == 1 or len(place.shape) <= 2
        return place.segment != "input" and place.layout.block > 1

    def copied(self, source: str, name: str, layout: Layout) -> str:
        """A copy of a value in another layout, made once."""
        if name not in self.places:
            self.places[name] = Place(self.shapes[source], layout, "arena")
            choice = Choice("relayout", f"read in {layout}")
            self.steps.append(Step(name, "relayout", (source,), choice=choice))
        return name

    def give_back(self, source: str, name: str) -> None:
        """Copy an output to the caller's array."""
        if source in self.graph.constants:
            source = self.constant(None, source)
        shape = self.places[source].shape
        self.places[name] = Place(shape, plain(shape), "output")
        choice = Choice("relayout", "the caller's array is plain")
        if 2 <= len(shape) <= 5:
            step = Step(name, "relayout", (source,), choice=choice)
        else:
            step = Step(name, "reshape", (source,), attributes(shape=shape), choice=choice)
        self.steps.append(step)

    def constant(self, draft: Draft | None, value: str) -> str:
        """The Plan's name of a constant that a step reads as a value.

        Beside values in blocks it lies in blocks, too, and has all their channels.
        """
        array, name, layout = self.graph.constants[value].array, f"{value}:constant", None
        if draft is not None and self.layouts.in_blocks(draft):
            array = _over_channels(array, self.shapes[draft.name], whole=value == draft.inputs[0])
            name = f"{draft.name}.{value}:constant"
            layout = Layout(self.machine.lanes, plain(array.shape).halo)
        self.constants[name] = Constant(array)
        self.places[name] = Place(array.shape, layout or plain(array.shape), "constant")
        return name

    # -- steps -------------------------------------------------------------------------------

    def add(self, draft: Draft) -> None:
        shape = self.shapes[draft.name]
        step = Step(
            draft.name,
            draft.op,
            tuple(self.held(draft, i) for i in draft.inputs),
            draft.attributes,
            residual=self.held(draft, draft.residual) if draft.residual else "",
            activation=draft.activation,
            covers=draft.covers,
            choice=Choice(draft.op, "the only way it is compiled"),
        )
        self.places[draft.name] = Place(shape, self.layouts.of[draft.name], "arena")
        match draft.op:
            case "conv":
                step = self.contraction(draft, step)
            case "recurrence":
                step = self.recurrence(draft, step)
            case "affine":
                step = self.per_channel(draft, step, "scale", "shift")
            case "depthwise":
                step = self.per_channel(draft, step, "weight", "bias")
                positions = shape[0] * prod(shape[2:])
                kept = int(_required(draft.stored).sum())
                step = replace(
                    step,
                    dense_macs=draft.dense_weights * positions,
                    kept_macs=kept * positions,
                )
        self.steps.append(step)

    def per_channel(self, draft: Draft, step: Step, weight: str, bias: str) -> Step:
        step = replace(step, weight=f"{draft.name}.{weight}", bias=f"{draft.name}.{bias}")
        self.constants[step.weight] = Constant(_required(draft.weight))
        self.constants[step.bias] = Constant(_required(draft.bias))
        return step

    def contraction(self, draft: Draft, step: Step) -> Step:
        weight, (batch, _, *axes) = _required(draft.weight), self.shapes[draft.name]
        # A kernel that covers the whole of what a flatten flattened has one position.
        covers = len(axes) != weight.ndim - 2
        spatial = (1,) * (weight.ndim - 2) if covers else tuple(axes)
        x = self.places[step.inputs[0]]
        useful = _useful(draft, x.shape, spatial)
        problem = ConvProblem(_required(draft.stored), (batch, *spatial), x.layout.block, useful)
        return self.packed(draft, step, problem, batch * prod(spatial))

    def recurrence(self, draft: Draft, step: Step) -> Step:
        rows, gates = self.shapes[draft.inputs[0]]
        batch = self.places[step.inputs[1]].shape[0]
        layout = self.layouts.of[draft.name]
        scratch = {f"{draft.name}:sum": (batch, gates)}
        if dict(draft.attributes)["kind"] == "gru_reset_first":
            scratch[f"{draft.name}:reset"] = (batch, self.shapes[draft.name][1])
            scratch[f"{draft.name}:sum of reset"] = (batch, gates)
        for name, shape in scratch.items():
            self.places[name] = Place(shape, layout, "arena")
        step = replace(step, scratch=tuple(scratch))
        problem = ConvProblem(_required(draft.stored), (batch,), layout.block, panels=False)
        return self.packed(draft, step, problem, rows)

    def with_scratch(self, step: Step, places: Mapping[str, Place]) -> Step:
        """The step with scratch of its own."""
        self.places |= places
        return replace(step, scratch=tuple(places))

    def packed(self, draft: Draft, step: Step, problem: ConvProblem, times: int) -> Step:
        """The step with its weight packed for the fastest schedule; `times` it is used."""
        weight, stored = _required(draft.weight), problem.stored
        schedule, choice = choose(problem, self.machine)
        strips, order = heights(weight.shape[0], schedule.rows, schedule.grain), None
        if schedule.panel:
            order = row_order(problem, schedule.rows)
            scratch = panels_of(replace(step, schedule=schedule), weight.shape, problem.output, 1)
            step = self.with_scratch(step, scratch.places(step.name))
        if schedule.strip:
            tiles = packed(weight, stored, schedule)
        else:
            tiles = pack(weight, stored, strips, schedule.channel_block, order)
        self.weights[f"{draft.name}.weight"] = tiles
        self.constants[f"{draft.name}.bias"] = Constant(_required(draft.bias))
        return replace(
            step,
            weight=f"{draft.name}.weight",
            bias=f"{draft.name}.bias",
            schedule=schedule,
            choice=choice,
            dense_macs=draft.dense_weights * times,
            kept_macs=int(stored.sum()) * times,
        )


def _useful(draft: Draft, x: Shape, outputs: Shape) -> float:
    """The share of a convolution's products that are not with planes of padding."""
    if len(outputs) < 3:
        return 1.0
    a, taps = dict(draft.attributes), _required(draft.weight).shape[2]
    before, _ = a["padding"][0]
    planes = useful_planes(outputs[0], x[2], taps, a["stride"][0], a["dilation"][0], before)
    return useful_share(planes, taps)


def _required(array: np.ndarray | None) -> np.ndarray:
    if array is None:
        raise PlanError("a step lacks its weight")
    return array


def _over_channels(array: np.ndarray, shape: Shape, *, whole: bool) -> np.ndarray:
    """The array with the axes of `shape`: all channels, other axes as they are or, whole, all."""
    full = (1,) * (len(shape) - array.ndim) + array.shape
    sizes: Mapping[int, int] = {1: shape[1]} if not whole else dict(enumerate(shape))
    wanted = tuple(sizes.get(axis, size) for axis, size in enumerate(full))
    return np.broadcast_to(array.reshape(full), wanted)
