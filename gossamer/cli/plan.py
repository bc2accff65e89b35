"""The verb `plan`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from math import inf
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from gossamer.cli.models import Shapes, StoredAs, Threads, plan_of, tuned
from gossamer.cli.output import show_json, show_line, show_table
from gossamer.errors import ModelError
from gossamer.front import save
from refimpl.plan import Plan
from refimpl.plan.report import HEADINGS, ReportRow, duration, rows, summary


def plan(
    model: str,
    *,
    target: str | None = None,
    out: Annotated[Path | None, Parameter(alias="-o")] = None,
    candidates: bool = False,
    tune: bool = False,
    device: str | None = None,
    threads: Threads = None,
    weights: StoredAs = None,
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
        Also show what each layer's choice won over, in predicted cycles and measured time.
    tune
        Measure the promising candidates of every layer on the device, and take the fastest. Times
        are kept, so tuning can be interrupted and goes on where it was.
    device
        Where --tune measures: host, the default, host-isolated or opencl.
    json
        Print JSON.
    """
    if device is not None and not tune:
        raise ModelError("--device says where --tune measures; --target says what to compile for")
    if tune:
        made = tuned(model, device or "host", target, shape, threads, weights)
    else:
        made = plan_of(model, target, shape, threads, weights)
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
    found = [cells for row in rows(made) for cells in _candidates(row)]
    headings = ("layer", "candidate", "cycles", "of best", "measured", "")
    show_table(headings, found, left=2)


def _candidates(row: ReportRow) -> Iterator[tuple[str, ...]]:
    seconds = dict(row.seconds)
    # What was measured first, by its time; then the others by prediction.
    ranked = sorted(row.candidates, key=lambda item: (seconds.get(item[0], inf), item[1]))
    least = min((cycles for _, cycles in ranked), default=1)
    for i, (name, cycles) in enumerate(ranked):
        time = duration(seconds[name]) if name in seconds else ""
        taken = "taken" if name == row.how else ""
        label = row.layer if i == 0 else ""
        yield (label, name, f"{cycles:.0f}", f"{cycles / least:.2f}", time, taken)
