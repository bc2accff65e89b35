"""From a Graph to a Plan: fold, choose layouts, schedule every convolution, place all values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod

import numpy as np

from jit.decide.arena import lay_out
from jit.decide.fold import Draft, fold
from jit.decide.schedule import ConvProblem, choose, heights
from jit.target import Target
from jit.target import target as target_named
from refimpl import graph as graphs
from refimpl.graph import Constant, Graph, Shape
from refimpl.layout import Layout
from refimpl.plan import Choice, Place, Plan, PlanError, Step
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
    drafts, outputs = fold(graph, graphs.shapes(graph))
    return _Planner(graph, machine, drafts, outputs).run()


class _Planner:
    def __init__(self, graph: Graph, machine: Target, drafts: list[Draft], outputs: dict[str, str]):
        self.graph, self.machine = graph, machine
        self.drafts, self.outputs = drafts, outputs
        self.shapes = dict(graphs.shapes(graph))
        self.steps: list[Step] = []
        self.places: dict[str, Place] = {}
        self.weights: dict[str, Tiles] = {}
        self.constants: dict[str, Constant] = {}
        self.layouts = self.choose_layouts()

    def run(self) -> Plan:
        for name, shape in self.graph.inputs:
            self.places[name] = Place(shape, _plain(shape), "input")
            self.relayout(name, f"{name}:in", self.layouts[name], "arena")
        for draft in self.drafts:
            self.add(draft)
        for output, source in self.outputs.items():
            shape = self.shapes[output]
            self.relayout(self.held(source), f"{output}:out", None, "output", shape)
        result = Plan(
            self.graph.name,
            self.machine.name,
            1,
            tuple(n for n, _ in self.graph.inputs),
            tuple(f"{name}:out" for name in self.graph.outputs),
            self.places,
            tuple(self.steps),
            self.weights,
            self.constants,
            0,
        )
        return lay_out(result)

    def held(self, value: str) -> str:
        """The value's name in the Plan: an input of the Graph is used in its compiled layout."""
        return f"{value}:in" if any(value == name for name, _ in self.graph.inputs) else value

    # -- layouts -----------------------------------------------------------------------------

    def choose_layouts(self) -> dict[str, Layout]:
        """Blocks of the target's vector; an input of few channels that only convolutions read
        stays plain, since a block would be mostly empty; halos as wide as the widest consumer."""
        inputs = dict(self.graph.inputs)
        layouts = {}
        for value in [*inputs, *(d.name for d in self.drafts)]:
            shape = self.shapes[value]
            readers = [d for d in self.drafts if value in (*d.inputs, d.residual)]
            convs = [d for d in readers if d.op == "conv" and value == d.inputs[0]]
            # A convolution may add its own input to its result, and then reads it in blocks too.
            only = len(convs) == len(readers) and all(d.residual != value for d in readers)
            only = only and value not in self.outputs.values()
            few = value in inputs and only and len(shape) > 2 and shape[1] < self.machine.lanes
            layouts[value] = Layout(1 if few else self.machine.lanes, _halo(shape, convs))
        return layouts

    # -- steps -------------------------------------------------------------------------------

    def relayout(
        self,
        source: str,
        name: str,
        layout: Layout | None,
        segment: str,
        shape: Shape | None = None,
    ) -> None:
        shape = shape or self.places[source].shape
        layout = layout or _plain(shape)
        self.places[name] = Place(shape, layout, segment)
        reason = (
            "the caller's array is plain"
            if segment == "output"
            else f"the network works in {layout}"
        )
        self.steps.append(Step(name, "relayout", (source,), choice=Choice("relayout", reason)))

    def add(self, draft: Draft) -> None:
        shape = self.shapes[draft.name]
        step = Step(
            draft.name,
            draft.op,
            tuple(self.held(i) for i in draft.inputs),
            draft.attributes,
            residual=self.held(draft.residual) if draft.residual else "",
            activation=draft.activation,
            covers=draft.covers,
            choice=Choice(draft.op, "the only way it is compiled"),
        )
        self.places[draft.name] = Place(shape, self.layouts[draft.name], "arena")
        if draft.op == "conv":
            step = self.schedule(draft, step, shape)
        elif draft.op == "affine":
            step = replace(step, weight=f"{draft.name}.scale", bias=f"{draft.name}.shift")
            self.constants[step.weight] = Constant(_required(draft.weight))
            self.constants[step.bias] = Constant(_required(draft.bias))
        self.steps.append(step)

    def schedule(self, draft: Draft, step: Step, shape: Shape) -> Step:
        weight, stored = _required(draft.weight), _required(draft.stored)
        batch, _, *axes = shape
        # A kernel that covers the whole of what a flatten flattened has one position.
        spatial = tuple(axes) if len(shape) == weight.ndim else (1,) * (weight.ndim - 2)
        x_block = self.places[step.inputs[0]].layout.block
        problem = ConvProblem(stored, (batch, *spatial), x_block)
        schedule, choice = choose(problem, self.machine)
        strips = heights(weight.shape[0], schedule.rows, schedule.lanes)
        tiles = pack(weight, stored, strips, schedule.channel_block)
        self.weights[f"{draft.name}.weight"] = tiles
        self.constants[f"{draft.name}.bias"] = Constant(_required(draft.bias))
        positions = batch * prod(spatial)
        return replace(
            step,
            weight=f"{draft.name}.weight",
            bias=f"{draft.name}.bias",
            schedule=schedule,
            choice=choice,
            dense_macs=draft.dense_weights * positions,
            kept_macs=int(stored.sum()) * positions,
        )


def _required(array: np.ndarray | None) -> np.ndarray:
    if array is None:
        raise PlanError("a step lacks its weight")
    return array


def _plain(shape: Shape) -> Layout:
    return Layout(1, ((0, 0),) * (len(shape) - 2))


def _halo(shape: Shape, convs: list[Draft]) -> tuple[tuple[int, int], ...]:
    halo = [(0, 0)] * (len(shape) - 2)
    for draft in convs:
        padding: Mapping = dict(draft.attributes)
        for axis, (lo, hi) in enumerate(padding["padding"]):
            halo[axis] = (max(halo[axis][0], lo), max(halo[axis][1], hi))
    return tuple(halo)
