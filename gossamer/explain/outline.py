"""What there is of a step that is no convolution: its decision, launches and kernels' stages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gossamer.explain.explanation import ExplainError, over_filters
from jit.launches import launches
from jit.llvm import emit_assembly, emit_ir
from jit.pipeline import Trace, lower
from jit.target import LlvmTarget, llvm_target
from refimpl.plan import Plan, Step


@dataclass(frozen=True)
class Launched:
    """A kernel of the step, how often it is launched, and every form it went through."""

    name: str
    launches: int
    trace: Trace


@dataclass(frozen=True)
class Outline:
    """A step of any operation, its kernels in the order of their first launch."""

    plan: Plan
    step: Step
    target: LlvmTarget
    kernels: tuple[Launched, ...]


def is_contraction(plan: Plan, layer: str) -> bool:
    """Whether `gossamer.explain.explain` follows this layer; an unknown one is left to it."""
    convolutions = (step for step in plan.steps if step.op == "conv" and over_filters(step))
    return any(_is(step, layer) for step in convolutions) or not _matching(plan, layer)


def outline(plan: Plan, layer: str) -> Outline:
    """What there is of the step that is called `layer`, or that covers the node of that name.

    Raises:
        ExplainError: the plan has no such step.
    """
    found = _matching(plan, layer)
    if not found:
        raise ExplainError(
            f"{plan.name} has no step {layer!r}; it has {', '.join(s.name for s in plan.steps)}"
        )
    step = next((step for step in found if step.name == layer), found[0])
    machine = llvm_target(plan.target)
    kernels = Counter(x.kernel for x in launches(plan, machine)[0] if x.step == step.name)
    made = (Launched(kernel.name, count, lower(kernel)) for kernel, count in kernels.items())
    return Outline(plan, step, machine, tuple(made))


def _matching(plan: Plan, layer: str) -> list[Step]:
    return [step for step in plan.steps if _is(step, layer)]


def _is(step: Step, layer: str) -> bool:
    return layer in (step.name, step.label, *step.covers)


def decision(o: Outline) -> list[tuple[str, str]]:
    """(what, value): the Plan's decision for the step."""
    places = o.plan.places
    lines = [
        ("step", f"{o.step.name}: {o.step.op}, output {_described(o, o.step.name)}"),
        *(("reads", f"{name} {_described(o, name)}") for name in o.step.reads),
        ("because", o.step.choice.reason or "it is the only way"),
    ]
    if o.step.kept_macs:
        lines.append(("MACs", f"{o.step.kept_macs:,} kept of {o.step.dense_macs:,}"))
    scratch = sum(places[name].nbytes for name in o.step.scratch)
    if scratch:
        lines.append(("scratch", f"{scratch:,} bytes"))
    return lines


def _described(o: Outline, value: str) -> str:
    place = o.plan.places[value]
    return f"{'x'.join(map(str, place.shape)) or 'a scalar'}, {place.layout}"


def forms(o: Outline, stage: str) -> Iterator[tuple[str, str, str]]:
    """(heading, text, language) of a stage, for every kernel that has it; "" is every stage.

    Raises:
        ExplainError: no kernel has such a stage.
    """
    code = {"llvm": "llvm", "assembly": ""}
    known = dict.fromkeys(entry.name for k in o.kernels for entry in k.trace.entries)
    if stage and stage not in (*known, *code):
        stages = ", ".join([*known, *code])
        raise ExplainError(f"{o.step.name} has no stage {stage!r}; its stages are {stages}")
    for kernel in o.kernels:
        for entry in kernel.trace.entries:
            if stage in ("", entry.name):
                yield (
                    f"{entry.name} of {kernel.name}: {entry.summary}",
                    str(entry.program),
                    "python",
                )
        for name, language in code.items():
            if stage in ("", name):
                ir = emit_ir([kernel.trace.program], o.target)
                text = ir if name == "llvm" else emit_assembly(ir, o.target)
                yield f"{name} of {kernel.name} for {o.target.name}", text, language


def as_data(o: Outline) -> dict[str, Any]:
    """Everything but the code itself, for JSON."""
    return {
        "plan": o.plan.name,
        "layer": o.step.name,
        "op": o.step.op,
        "target": o.target.name,
        "reason": o.step.choice.reason,
        "macs": {"dense": o.step.dense_macs, "kept": o.step.kept_macs},
        "kernels": [
            {
                "name": kernel.name,
                "launches": kernel.launches,
                "stages": [
                    {"name": e.name, "summary": e.summary, "changed": e.changed}
                    for e in kernel.trace.entries
                ],
            }
            for kernel in o.kernels
        ],
    }
