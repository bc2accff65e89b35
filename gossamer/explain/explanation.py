"""Everything there is to know about one layer of a Plan, as a value."""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

from gossamer.explain.assembly import Counts, Line, count, function_lines, inner_loop, linked
from jit.kernels.conv import ConvKernel
from jit.launches import Launch, launches
from jit.llvm import emit_assembly, emit_ir
from jit.llvm_origin import emit_annotated, with_locations
from jit.pipeline import Entry, Trace, lower
from jit.shrink import shrink
from jit.target import Target, llvm_target
from refimpl.plan import Choice, Plan, Schedule, Step, stored_macs


class ExplainError(ValueError):
    """A request that cannot be met; the message names the layer and the way out."""


@dataclass(frozen=True)
class Part:
    """A kernel of the layer and the share of the layer's outputs that it computes."""

    kernel: ConvKernel
    share: float


@dataclass(frozen=True)
class Explanation:
    """One convolution or linear layer, from the Plan's decision to machine code.

    plan, step: the decision; small: the same decisions on a layer that loops in Python can run;
    parts: the layer's kernels, the one that does most first, and trace is that one's;
    ir: its IR as it is compiled, `annotated` the same with the Program's line behind each;
    code: its labels and instructions, each with its line of IR; loop: which of them are the
    innermost loop that multiplies; columns_per_iteration: how many kept columns the loop takes
    at a time; seconds: of emitting the IR and of generating code from it.
    """

    plan: Plan
    step: Step
    small: Plan
    target: Target
    parts: tuple[Part, ...]
    trace: Trace
    ir: str
    annotated: str
    assembly: str
    code: tuple[Line, ...]
    loop: range
    seconds: tuple[float, float]

    @property
    def kernel(self) -> ConvKernel:
        """The kernel that computes most of the layer."""
        return self.parts[0].kernel

    @property
    def schedule(self) -> Schedule:
        """How the layer is cut."""
        assert self.step.schedule is not None
        return self.step.schedule

    @property
    def choice(self) -> Choice:
        """Why it is cut like that."""
        return self.step.choice

    @property
    def columns_per_iteration(self) -> int:
        """Kept columns that one round of the inner loop takes."""
        return self.kernel.run

    @property
    def loop_counts(self) -> Counts:
        """Static counts of one round of the inner loop."""
        return count(list(self.code[self.loop.start : self.loop.stop]))

    @property
    def stored_macs(self) -> int:
        """Multiply-adds of the layer with explicit zeros and padding rows."""
        return stored_macs(self.plan, self.step)

    def stage(self, name: str) -> Entry:
        """The entry of the trace called that. Raises ExplainError naming those there are."""
        for entry in self.trace.entries:
            if entry.name == name:
                return entry
        known = ", ".join(e.name for e in self.trace.entries)
        raise ExplainError(f"{self.step.name} has no stage {name!r}; its stages are {known}")


def explain(plan: Plan, layer: str = "") -> Explanation:
    """Follow one layer of `plan` down to machine code.

    Args:
        plan: for any target; nothing of it is run.
        layer: a convolution or linear layer's step, or a node of the model that a step covers;
            "" is the pruned one with the most kept multiply-adds (of all if none is pruned).

    Raises:
        ExplainError: there is no such layer.
    """
    step = find_layer(plan, layer)
    machine = llvm_target(plan.target)
    mine = [launch for launch in launches(plan, machine)[0] if launch.step == step.name]
    parts = _parts([launch for launch in mine if isinstance(launch.kernel, ConvKernel)])
    trace = lower(parts[0].kernel)
    start = time.perf_counter()
    ir = emit_ir([trace.program], machine)
    emitted = time.perf_counter()
    assembly = emit_assembly(ir, machine)
    seconds = emitted - start, time.perf_counter() - emitted
    annotated = emit_annotated(trace.program, machine)
    symbol = trace.program.name
    located = emit_assembly(with_locations(annotated), machine)
    code = linked(function_lines(assembly, symbol), function_lines(located, symbol))
    return Explanation(
        plan,
        step,
        shrink(plan, step.name),
        machine,
        parts,
        trace,
        ir,
        annotated,
        assembly,
        tuple(code),
        inner_loop(code),
        seconds,
    )


def over_filters(step: Step) -> bool:
    """Whether a step multiplies by strips whose vectors hold filters."""
    return step.schedule is not None and step.schedule.over_filters


def find_layer(plan: Plan, layer: str = "") -> Step:
    """The step of a convolution by its name or that of a node it covers; see `explain`."""
    convs = [step for step in plan.steps if step.op == "conv" and over_filters(step)]
    if not convs:
        names = ", ".join(step.name for step in plan.steps)
        raise ExplainError(
            f"{plan.name} has no convolution or linear layer over strips of filters; "
            f"--layer NAME outlines one of its other steps: {names}"
        )
    if not layer:
        pruned = [step for step in convs if step.kept_macs < step.dense_macs]
        return max(pruned or convs, key=lambda step: step.kept_macs)
    for step in convs:
        if layer in (step.name, step.label, *step.covers):
            return step
    known = ", ".join(step.label for step in convs)
    raise ExplainError(f"{plan.name} has no convolution or linear layer {layer!r}; it has {known}")


def _parts(sequence: Sequence[Launch]) -> tuple[Part, ...]:
    work: dict[ConvKernel, int] = {}
    for launch in sequence:
        assert isinstance(launch.kernel, ConvKernel)
        sizes = [launch.params[f"O{a.upper()}"] for a in launch.kernel.axes]
        outputs = launch.params["F"] * prod(sizes)
        work[launch.kernel] = work.get(launch.kernel, 0) + outputs
    total = sum(work.values())
    ranked = sorted(work, key=lambda kernel: -work[kernel])
    return tuple(Part(kernel, work[kernel] / total) for kernel in ranked)


@dataclass(frozen=True)
class Change:
    """A line of a comparison: " " in both, "-" only before, "+" only after."""

    mark: str
    text: str


def compare(before: str, after: str) -> list[Change]:
    """Every line of both texts, in order."""
    a, b = before.splitlines(), after.splitlines()
    result: list[Change] = []
    for _, i, j, k, m in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if a[i:j] == b[k:m]:
            result += [Change(" ", line) for line in a[i:j]]
        else:
            result += [Change("-", line) for line in a[i:j]]
            result += [Change("+", line) for line in b[k:m]]
    return result


def changes(trace: Trace) -> Iterator[tuple[Entry, list[Change]]]:
    """Every stage with what it changed; of the first, all is new."""
    before = ""
    for entry in trace.entries:
        text = str(entry.program)
        yield entry, compare(before, text)
        before = text
