"""The verb `explain`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from gossamer.cli.models import Shapes, graph_or_plan, is_plan
from gossamer.cli.output import show_json, working
from gossamer.explain import (
    ExplainError,
    Explanation,
    Outline,
    Verdict,
    as_data,
    dump,
    first_wrong,
    is_contraction,
    outline,
    outline_data,
    plans_for,
    saved_plan,
    terminal,
    verdicts,
    write_page,
)
from gossamer.explain import explain as explain_layer
from gossamer.front import plan as make_plan
from refimpl.graph import Graph
from refimpl.plan import Plan

_EXAMPLE = ("conv2d:64x64x3x3@56x56", "kgs:16x4", 0.3)
_EXAMPLE_TARGETS = ["cortex-a76", "x86-64-avx512"]


def explain(
    model: str | None = None,
    *,
    layer: str = "",
    scheme: str | None = None,
    keep: float | None = None,
    target: Annotated[list[str] | None, Parameter(negative="")] = None,
    stage: str = "",
    changed: bool = False,
    diff: tuple[str, str] | None = None,
    all: bool = False,
    bisect: bool = False,
    dump_dir: Path | None = None,
    html: Path | None = None,
    shape: Shapes = None,
    json: bool = False,
) -> int:
    """Follow one layer from tensor to machine code.

    Shows what the planner decided and why, every stage of lowering with what it changed and
    whether it still computes the same on a shrunk layer, and the assembly with its inner loop.
    Of a step that is no convolution or linear layer: its decision, its launches and the stages of
    its kernels.

    Without a model and a layer, follows a pruned layer to NEON and to AVX-512.

    Example: `gossamer explain --all`

    Example: `gossamer explain --layer conv2d:64x64x3x3@56x56 --scheme kgs:8x4 --keep 0.3
    --target cortex-a76 --html layer.html`

    Parameters
    ----------
    model
        A plan file, or a model as for `gossamer plan`. Without one, --layer describes a layer
        that is made up.
    layer
        The layer's name in the model (default: the pruned one with the most work), or a made-up
        layer: KIND:FILTERSxCHANNELSxKERNEL@INPUT, such as conv3d:256x256x3x3x3@8x28x28.
    scheme
        How a made-up layer is pruned, such as kgs:32x4 (default: dense).
    keep
        The share of a made-up layer's weights that stays (default: 1).
    target
        What to compile for where there is no plan yet (default: this machine); may be given
        several times.
    stage
        Print one stage in full; llvm and assembly are stages too.
    changed
        Print what every stage changed.
    diff
        Print what changed between two stages.
    all
        Print every stage in full.
    bisect
        Run every stage and the machine code on a shrunk layer; name the first that is wrong.
    dump_dir
        Write every form to this folder, in numbered files.
    html
        Write one page with loops, LLVM IR and assembly side by side, linked.
    json
        Print the numbers as JSON.
    """
    console, errors = Console(highlight=False), Console(stderr=True, highlight=False)
    printing = bool(stage or changed or diff or all)
    if json and printing:
        raise ExplainError("--json gives all numbers; leave out --stage, --changed, --diff, --all")
    plans = _plans(model, layer, scheme, keep, target, shape)
    if model and layer and not is_contraction(plans[0], layer):
        views = {"changed": changed, "diff": diff, "bisect": bisect, "html": html}
        _refuse_views(layer, {**views, "dump-dir": dump_dir})
        return _outline([outline(p, layer) for p in plans], stage, all, json)
    found = [explain_layer(p, layer if model else "") for p in plans]
    if stage:
        terminal.show_stage(console, found, stage)
    if changed:
        terminal.show_changed(console, found)
    if diff:
        terminal.show_difference(console, found, *diff)
    if all:
        terminal.show_all(console, found)
    if printing and not (bisect or dump_dir or html):
        return 0
    with errors.status("running every stage on a shrunk layer"):
        shown = {e.target.name: list(verdicts(e.small, "y", compiled=True)) for e in found}
    if dump_dir:
        dump(found, shown, dump_dir)
    if html:
        write_page(found, shown, html)
    if json:
        show_json(as_data(found, shown))
    elif bisect:
        terminal.show_verdicts(console, found, shown)
    elif not printing:
        terminal.show_summary(console, found, shown)
    return _report_wrong(errors, found, shown)


def _plans(
    model: str | None,
    layer: str,
    scheme: str | None,
    keep: float | None,
    targets: list[str] | None,
    shape: list[str] | None,
) -> list[Plan]:
    """The plan of the model, or of the made-up layer, for every target."""
    if not model:
        if shape:
            raise ExplainError("--shape is for a model; a made-up layer says its size after the @")
        return _made_up(layer, scheme, keep, targets)
    if scheme or keep:
        raise ExplainError(f"--scheme and --keep are for a made-up layer; {model} has its own")
    if is_plan(model):
        return [saved_plan(model, targets or [])]
    graph = graph_or_plan(model, shape)
    assert isinstance(graph, Graph)
    with working(f"planning {model}"):
        made = [make_plan(graph, name) for name in dict.fromkeys(targets or ["host"])]
    return list({plan.target: plan for plan in made}.values())


def _made_up(
    layer: str, scheme: str | None, keep: float | None, targets: list[str] | None
) -> list[Plan]:
    if layer:
        given = (layer, scheme or "dense", 1.0 if keep is None else keep)
        return plans_for(*given, targets or [])
    if scheme or keep:
        raise ExplainError(f"--scheme and --keep need a --layer, such as {_EXAMPLE[0]}")
    return plans_for(*_EXAMPLE, targets or _EXAMPLE_TARGETS)


def _refuse_views(layer: str, views: Mapping[str, object]) -> None:
    """What is only made of convolutions and linear layers cannot be asked of another step."""
    asked = [f"--{name}" for name, value in views.items() if value]
    if asked:
        raise ExplainError(
            f"{' and '.join(asked)} need a convolution or linear layer, which {layer} is not; "
            "--stage and --all show its kernels"
        )


def _outline(found: list[Outline], stage: str, all: bool, json: bool) -> int:
    if json:
        show_json({"targets": [outline_data(o) for o in found]})
        return 0
    console = Console(highlight=False)
    for o in found:
        if stage or all:
            terminal.show_outline_stage(console, o, stage)
        else:
            terminal.show_outline(console, o)
    return 0


def _report_wrong(
    errors: Console, found: list[Explanation], shown: dict[str, list[Verdict]]
) -> int:
    """Name the first wrong stage of every target; 1 if there is one, else 0."""
    wrong = {e.target.name: first_wrong(shown[e.target.name]) for e in found}
    for name, verdict in wrong.items():
        if verdict:
            text = f"{name}: the first wrong stage is {verdict.stage}: it {verdict}"
            errors.print(text, style="red", markup=False, soft_wrap=True)
    return 1 if any(wrong.values()) else 0
