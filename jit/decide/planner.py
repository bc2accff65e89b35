"""From a Graph to a Plan: decompose, fold, lay out, schedule contractions, place all values."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import replace
from math import prod

import numpy as np

from jit.decide.ablation import check_optimisations, picking, uncompacted
from jit.decide.arena import lay_out
from jit.decide.candidates import (
    ALGORITHMS,
    DIRECT,
    Layer,
    Pick,
    candidates,
    check_names,
    chosen,
    fewest_cycles,
    filter_order,
    refusal,
)
from jit.decide.decompose import decompose
from jit.decide.draft import Draft
from jit.decide.fold import Folded, fold
from jit.decide.halved import Weights, check_stored, check_weights, halved, is_halved
from jit.decide.layouts import Layouts, Need, over_channels
from jit.decide.packing import pack_as
from jit.decide.problem import ConvProblem, conv_problem, recurrence_problem, required
from jit.decide.tasks import check_threads, divide
from jit.target import Target
from jit.target import target as target_named
from refimpl import graph as graphs
from refimpl.graph import Constant, Graph, Shape, attributes
from refimpl.layout import Layout, plain
from refimpl.names import unused
from refimpl.plan import ELEMENTWISE, Choice, Place, Plan, PlanError, Step, Winograd
from refimpl.plan.panels import panels_of
from refimpl.plan.turned import turned_places
from refimpl.plan.winograd import kernel_shape, scratch_shapes
from refimpl.tiles import Tiles


def plan(
    graph: Graph,
    target: str | Target = "host",
    threads: int = 1,
    algorithms: Collection[str] = ALGORITHMS,
    pick: Pick = fewest_cycles,
    without: Collection[str] = (),
    weights: Weights = "float32",
) -> Plan:
    """Make every decision for the target.

    Args:
        graph: checked first.
        target: a name that `jit.target.target` knows, or a Target.
        threads: that run the network together, each with a share of every step that is large
            enough; results do not depend on their number.
        algorithms: what convolutions may be computed by: "direct", "winograd", Winograd with
            certain tiles, such as "winograd F(2,4,4)", or a candidate by its name in a Choice. A
            convolution that none of them fits is computed directly. "csr" and "fkw", formats to
            compare with, are never chosen unless they are named.
        pick: takes one of the candidates that are left for a layer.
        without: `OPTIMISATIONS` that are left out, to measure them; of direct convolutions only.
        weights: "float16" stores those of linear layers and recurrences so; the Plan means the
            rounded ones, and says of every step how far they were rounded.

    Raises:
        GraphError: the Graph is ill-formed. TargetError: an unknown target.
        PlanError: an operator or shape that cannot be compiled yet, by the node's name; a weight
            that none of the formats can hold that alone were named; more threads than the
            target's devices can run; weights that the target cannot widen, or float16 not hold.
        ValueError: no algorithm or optimisation has the name, or optimisations are to be left out
            of others than direct convolutions.
    """
    check_names(algorithms)
    check_optimisations(without)
    if without and set(algorithms) != {DIRECT}:
        raise ValueError(f"to leave out {min(without)}, name {DIRECT!r} as the only algorithm")
    machine = target_named(target) if isinstance(target, str) else target
    check_threads(threads, machine)
    check_weights(weights, machine)
    graphs.check(graph)
    whole = uncompacted(graph) if "compaction" in without else graph
    folded = fold(decompose(whole), fuses="fusion" not in without)
    pick, reorder = picking(pick, machine, without), "reorder" not in without
    made = _Planner(whole, machine, threads, folded, algorithms, pick, reorder, weights).run()
    check_stored(made, weights)
    return made


class _Planner:
    def __init__(
        self,
        graph: Graph,
        machine: Target,
        threads: int,
        folded: Folded,
        algorithms: Collection[str],
        pick: Pick,
        reorder: bool,
        weights: Weights,
    ):
        self.graph, self.machine, self.threads, self.folded = graph, machine, threads, folded
        self.algorithms, self.pick = algorithms, pick
        self.reorder, self.stored_as = reorder, weights
        self.shapes = folded.shapes
        self.layouts = Layouts(graph, folded, machine.lanes)
        self.steps: list[Step] = []
        self.places: dict[str, Place] = {}
        self.weights: dict[str, Tiles] = {}
        self.constants: dict[str, Constant] = {}
        self.copies: dict[tuple[str, Layout], str] = {}
        self.held_constants: dict[tuple[str, Shape, Layout], str] = {}

    def run(self) -> Plan:
        indices = {d.inputs[0] for d in self.folded.drafts if d.op == "embedding"}
        for name, shape in self.graph.inputs:
            kind = "i32" if name in indices else "f32"
            self.places[name] = Place(shape, plain(shape), "input", dtype=kind)
        for draft in self.folded.drafts:
            self.add(draft)
        returned = {
            output: self.give_back(source, self.fresh(f"{output}:out"))
            for output, source in self.folded.outputs.items()
        }
        result = Plan(
            self.graph.name,
            self.machine.name,
            self.threads,
            tuple(name for name, _ in self.graph.inputs),
            tuple(returned[name] for name in self.graph.outputs),
            self.places,
            tuple(self.steps),
            self.weights,
            self.constants,
            0,
        )
        return lay_out(divide(result, self.machine))

    # -- values in the layout that a reader needs ----------------------------------------------

    def fresh(self, wanted: str) -> str:
        """A name for what only the Plan has."""
        return unused(wanted, self.shapes, self.places)

    def held(self, draft: Draft, value: str) -> str:
        """The name in the Plan of a value as the draft reads it, copied there if need be."""
        if value in self.graph.constants:
            return self.constant(draft, value)
        wanted = self.layouts.need(draft, value)
        if wanted == "any" or self.lies(value, wanted):
            return value
        if wanted == "even":
            return self.copied(value, "even", plain(self.shapes[value]))
        if value in dict(self.graph.inputs):
            return self.copied(value, "in", self.layouts.of[value])
        return self.copied(value, "blocks", self.layouts.in_blocks_for_readers(value))

    def lies(self, value: str, wanted: Need) -> bool:
        """Whether a value lies as wanted without a copy."""
        place = self.places[value]
        if wanted == "even":
            return place.layout.block == 1 or len(place.shape) <= 2
        return place.segment != "input" and place.layout.block > 1

    def copied(self, source: str, how: str, layout: Layout) -> str:
        """A copy of a value in another layout, made once."""
        if (source, layout) not in self.copies:
            name = self.fresh(f"{source}:{how}")
            self.copies[source, layout] = name
            self.places[name] = Place(self.shapes[source], layout, "arena")
            choice = Choice("relayout", f"read in {layout}")
            self.steps.append(Step(name, "relayout", (source,), choice=choice))
        return self.copies[source, layout]

    def give_back(self, source: str, name: str) -> str:
        """Copy an output to the caller's array, which has that name."""
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
        return name

    def constant(self, draft: Draft | None, value: str) -> str:
        """The Plan's name of a constant that a step reads as a value.

        What walks over blocks reads it in blocks, too; beside other values it has all channels.
        """
        array = self.graph.constants[value].array
        layout = plain(array.shape)
        if draft is not None and self.layouts.in_blocks(draft):
            if draft.op in ELEMENTWISE:
                first = value == draft.inputs[0]
                array = over_channels(array, self.shapes[draft.name], whole=first)
                layout = Layout(self.machine.lanes, plain(array.shape).halo)
            else:
                layout = self.layouts.in_blocks_for_readers(value)
        key = (value, array.shape, layout)
        if key not in self.held_constants:
            name = self.fresh(f"{value}:constant")
            self.held_constants[key] = name
            self.constants[name] = Constant(array)
            self.places[name] = Place(array.shape, layout, "constant")
        return self.held_constants[key]

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
            case "conv" | "winograd_conv":
                step = self.contraction(draft, step)
            case "recurrence":
                step = self.recurrence(draft, step)
            case "affine":
                step = self.per_channel(draft, step, "scale", "shift")
            case "depthwise":
                step = self.per_channel(draft, step, "weight", "bias")
                positions = shape[0] * prod(shape[2:])
                kept = int(required(draft.stored).sum())
                step = replace(
                    step,
                    dense_macs=draft.dense_weights * positions,
                    kept_macs=kept * positions,
                )
        self.steps.append(step)

    def per_channel(self, draft: Draft, step: Step, weight: str, bias: str) -> Step:
        step = replace(step, weight=f"{draft.name}.{weight}", bias=f"{draft.name}.{bias}")
        self.constants[step.weight] = Constant(required(draft.weight))
        self.constants[step.bias] = Constant(required(draft.bias))
        return step

    def contraction(self, draft: Draft, step: Step) -> Step:
        shape, x = self.shapes[draft.name], self.places[step.inputs[0]]
        given = {"reorder": self.reorder, "narrow": self.is_halved(draft)}
        problem = conv_problem(draft, x, shape, self.machine, **given)
        step = self.scheduled(draft, step, problem, prod(problem.output))
        return self.packed(draft, step, problem)

    def is_halved(self, draft: Draft) -> bool:
        return is_halved(self.stored_as, draft, self.shapes[draft.name])

    def tiles(self, step: Step, weight: Shape, way: Winograd) -> tuple[str, ...]:
        """The names of the transformed tiles of a block and their products, which get places."""
        names = tuple(self.fresh(f"{step.name}:{what}") for what in ("tiles", "products"))
        shapes = scratch_shapes(way, kernel_shape(step, weight), self.machine.lanes)
        for name, shape in zip(names, shapes, strict=True):
            # An odd number of cache lines between rows, or they would share a cache set.
            layout = Layout(self.machine.lanes, ((0, 1 - shape[2] % 2),))
            self.places[name] = Place(shape, layout, "arena")
        return names

    def recurrence(self, draft: Draft, step: Step) -> Step:
        rows, gates = self.shapes[draft.inputs[0]]
        batch = self.places[step.inputs[1]].shape[0]
        layout = self.layouts.of[draft.name]
        wanted = {"sum": (batch, gates)}
        if dict(draft.attributes)["kind"] == "gru_reset_first":
            wanted["reset"] = (batch, self.shapes[draft.name][1])
            wanted["sum of reset"] = (batch, gates)
        scratch = {self.fresh(f"{draft.name}:{what}"): shape for what, shape in wanted.items()}
        self.places |= {name: Place(shape, layout, "arena") for name, shape in scratch.items()}
        step = replace(step, scratch=tuple(scratch))
        given = {"reorder": self.reorder, "narrow": self.is_halved(draft)}
        problem = recurrence_problem(draft, batch, layout.block, **given)
        return self.packed(draft, self.scheduled(draft, step, problem, rows), problem)

    def scheduled(self, draft: Draft, step: Step, problem: ConvProblem, times: int) -> Step:
        """The step cut in the fastest way to multiply by its stored weights, `times` each."""
        found = candidates(problem, self.machine, self.algorithms)
        if not found:
            raise PlanError(refusal(step.label, self.algorithms))
        picked = self.pick(self.layer(step, problem), found)
        taken = picked.candidate
        step = replace(
            step,
            schedule=taken.schedule,
            winograd=taken.winograd,
            choice=chosen(problem, found, picked, self.machine),
            dense_macs=draft.dense_weights * times,
            kept_macs=int(problem.stored.sum()) * (problem.tiles or times),
        )
        if taken.winograd is None:
            return step
        return replace(step, scratch=self.tiles(step, problem.stored.shape, taken.winograd))

    def layer(self, step: Step, problem: ConvProblem) -> Layer:
        """What a candidate's time depends on, beside the machine."""
        values = [self.places[name] for name in (*step.reads, step.name)]
        parts = (
            step.op,
            [(place.shape, place.layout) for place in values],
            step.attributes,
            step.activation,
            problem.stored.shape,
            problem.reorder,
            problem.weight_bytes,
            self.threads,
        )
        # Frozen dataclasses of names and numbers: their repr is exact.
        whole = hashlib.sha256(repr(parts).encode())
        whole.update(np.packbits(problem.stored).tobytes())
        return Layer(step.name, whole.hexdigest())

    def packed(self, draft: Draft, step: Step, problem: ConvProblem) -> Step:
        """The step with its weight packed as it is scheduled."""
        weight, stored, schedule = required(draft.weight), problem.stored, step.schedule
        assert schedule is not None
        if step.op == "conv" and step.winograd is not None:
            # A kernel that is transformed yet has no place for absent weights.
            stored = np.ones(weight.shape, bool)
        order = None
        if schedule.panel or schedule.storage:
            order = filter_order(weight, problem, schedule)
            scratch = panels_of(step, weight.shape, problem.output, self.threads).places(step.name)
            self.places |= scratch
            step = replace(step, scratch=tuple(scratch))
        if schedule.turned:
            scratch = turned_places(step.name, schedule, weight.shape)
            self.places |= scratch
            step = replace(step, scratch=(*step.scratch, *scratch))
        tiles = pack_as(schedule, weight, stored, order)
        tiles, rounding = halved(step.label, tiles) if self.is_halved(draft) else (tiles, 0.0)
        step = replace(step, rounding=rounding)
        self.weights[f"{draft.name}.weight"] = tiles
        self.constants[f"{draft.name}.bias"] = Constant(required(draft.bias))
        return replace(step, weight=f"{draft.name}.weight", bias=f"{draft.name}.bias")
