"""The verb `plan`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from gossamer.cli.models import Shapes, Threads, plan_of
from gossamer.cli.output import show_json, show_line, show_table
from gossamer.front import save
from refimpl.plan import Plan
from refimpl.plan.report import HEADINGS, rows, summary


def plan(
    model: str,
    *,
    target: str | None = None,
    out: Annotated[Path | None, Parameter(alias="-o")] = None,
    candidates: bool = False,
    threads: Threads = None,
    shape: Shapes = None,
    json: bool = False,
) -> int:
    """Decide how a model is computed on a target: per layer the algorithm, its size and why.

    Example: `gossamer plan model.py:net --target cortex-a76 -o net.safetensors`

    Parameters
    ----------
    model
        `net.onnx`, `net.pt2`, `module.py:factory` (a function of yours returning (module, example
        inputs)), a plan file (`.safetensors`), `demo:dense` or `demo:pruned`.
    target
        What the code is made for: "host" (the default), a CPU such as cortex-a76, or opencl.
    out
        Save the plan to this file.
    candidates
        Also show what each layer's choice won over, in predicted cycles.
    json
        Print JSON.
    """
    made = plan_of(model, target, shape, threads)
    if out:
        save(made, out)
    if json:
        show_json(report(made))
        return 0
    show_plan(made)
    if candidates:
        show_candidates(made)
    if out:
        show_line(f"saved to {out}")
    return 0


def report(made: Plan) -> dict[str, Any]:
    """The plan's report for machines."""
    return {
        "name": made.name,
        "target": made.target,
        "threads": made.threads,
        "arena_bytes": made.arena_bytes,
        "liveness_bound_bytes": made.liveness_bound,
        "weight_bytes": made.weight_bytes,
        "inputs": {name: made.places[name].shape for name in made.inputs},
        "outputs": {name: made.places[name].shape for name in made.outputs},
        "steps": [asdict(row) for row in rows(made)],
    }


def show_plan(made: Plan) -> None:
    """The plan's report for people."""
    show_line(summary(made))
    show_table(HEADINGS, (row.cells for row in rows(made)), left=3)


def show_candidates(made: Plan) -> None:
    """Every layer's candidates, best first."""
    found = [
        (row.layer if i == 0 else "", name, f"{cycles:.0f}", f"{cycles / row.candidates[0][1]:.2f}")
        for row in rows(made)
        for i, (name, cycles) in enumerate(row.candidates)
    ]
    show_table(("layer", "candidate", "cycles", "of best", ""), ((*f, "") for f in found), left=2)
