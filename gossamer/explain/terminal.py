"""An Explanation in the terminal, for 100 columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.console import Console, Group, RenderableType
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from gossamer.explain.explanation import (
    Change,
    ExplainError,
    Explanation,
    changes,
    compare,
)
from gossamer.explain.meaning import COMPILED, Verdict
from gossamer.explain.outline import Launched, Outline, decision
from gossamer.explain.outline import forms as outline_forms
from gossamer.explain.pictures import column_picture, tile_picture
from gossamer.explain.wording import (
    Verdicts,
    counts_rows,
    decision_lines,
    folded,
    instruction,
    printable,
    same,
    stage_order,
)

CODE_STAGES = {"llvm": "LLVM IR", "assembly": "assembly"}
"""What follows the stages of the trace."""


# -- the decision ------------------------------------------------------------------------------


def _same_decision(found: Sequence[Explanation]) -> list[list[Explanation]]:
    groups: dict[str, list[Explanation]] = {}
    for e in found:
        groups.setdefault(repr((decision_lines(e), tile_picture(e))), []).append(e)
    return list(groups.values())


def _decision(e: Explanation) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for what, value in decision_lines(e):
        table.add_row(what, Text(value))
    return table


# -- the stages --------------------------------------------------------------------------------


def _stage_table(found: Sequence[Explanation], verdicts: Verdicts) -> Table:
    several = len(found) > 1
    table = Table(box=None, padding=(0, 1), collapse_padding=True)
    for name in ["stage", *(["for"] if several else []), "what it does"]:
        table.add_column(name, no_wrap=name != "what it does")
    for name in ("lines", "+", "-", "ms"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("on a shrunk layer")
    deltas = {e.target.name: {entry.name: d for entry, d in changes(e.trace)} for e in found}
    for stage in stage_order(found):
        for group in same(found, stage):
            e = group[0]
            entry, delta = e.stage(stage), deltas[e.target.name][stage]
            names = "all" if len(group) == len(found) else " ".join(x.target.name for x in group)
            again = e is not same(found, stage)[0][0]
            style = "bold" if entry.changed else "dim"
            row: list[RenderableType] = [Text("" if again else stage, style=style)]
            row += [names] if several else []
            row += ["" if again else entry.summary, *_size(delta), f"{1000 * entry.seconds:.1f}"]
            table.add_row(*row, _verdict(_worst(group, verdicts, stage)))
    if any(v.stage == COMPILED for found_here in verdicts.values() for v in found_here):
        _code_rows(table, found, verdicts, several)
    return table


def _code_rows(
    table: Table, found: Sequence[Explanation], verdicts: Verdicts, several: bool
) -> None:
    for e in found:
        seconds = f"{1000 * sum(e.seconds):.1f}"
        names = [e.target.name] if several else []
        lines = str(len(e.code))
        table.add_row(
            COMPILED,
            *names,
            "LLVM IR, then machine code",
            lines,
            "",
            "",
            seconds,
            _verdict(_worst([e], verdicts, COMPILED)),
        )


def _size(delta: Sequence[Change]) -> tuple[str, str, str]:
    kept, added, removed = (sum(c.mark == mark for c in delta) for mark in " +-")
    return str(kept + added), f"{added}", f"{removed}"


def _worst(group: Sequence[Explanation], verdicts: Verdicts, stage: str) -> Verdict | None:
    mine = [v for e in group for v in verdicts.get(e.target.name, ()) if v.stage == stage]
    return max(mine, key=lambda v: v.share) if mine else None


def _verdict(v: Verdict | None) -> Text:
    if v is None:
        return Text("")
    style = "green" if v.agrees else "red" if v.was_run else "yellow"
    return Text(printable(str(v)), style=style)


# -- code --------------------------------------------------------------------------------------


def _code(text: str, lexer: str) -> Text:
    if not lexer:
        return Text(text)
    highlighted = Syntax(text, lexer, theme="ansi_dark", background_color="default")
    return highlighted.highlight(text.rstrip("\n"))


def diff_text(delta: Sequence[Change], context: int = 2) -> Text:
    """Changed lines with a little context."""
    near = {
        j
        for i, change in enumerate(delta)
        if change.mark != " "
        for j in range(i - context, i + context + 1)
    }
    result = Text()
    for shown, run in groupby(enumerate(delta), key=lambda item: item[0] in near):
        if not shown:
            result.append("  ...\n", style="dim")
            continue
        for _, change in run:
            style = {"+": "green", "-": "red"}.get(change.mark, "")
            result.append(f"{change.mark} {change.text}\n", style=style)
    result.rstrip()
    return result


def _counts(found: Sequence[Explanation]) -> Table:
    table = Table(
        box=None,
        padding=(0, 2),
        title="the inner loop per kept column (static counts)",
        title_justify="left",
        title_style="bold",
    )
    table.add_column("")
    for e in found:
        table.add_column(e.target.name, justify="right")
    for what, numbers in counts_rows(found):
        table.add_row(what, *numbers)
    return table


# -- views -------------------------------------------------------------------------------------


def show_summary(console: Console, found: Sequence[Explanation], verdicts: Verdicts) -> None:
    """The decisions, all stages in a table, the inner loops and their counts."""
    for group in _same_decision(found):
        e = group[0]
        title = f"{printable(e.plan.name)} for {', '.join(x.target.name for x in group)}"
        console.rule(Text(title, style="bold"), align="left")
        console.print(_decision(e))
        console.print(Text("\n".join(["", *tile_picture(e), ""])))
    console.print(Text("\n".join([*column_picture(found[0]), ""])))
    console.print(_stage_table(found, verdicts))
    console.print()
    console.print(_counts(found))
    for e in found:
        loop = e.code[e.loop.start : e.loop.stop]
        body = Text("\n".join(folded(loop)))
        console.print(Group(Text(f"\nthe inner loop for {e.target.name}", style="bold"), body))


def show_stage(console: Console, found: Sequence[Explanation], stage: str) -> None:
    """One form in full, once for all targets that share it."""
    for heading, text, lexer in forms(found, stage):
        console.print(Text(heading, style="bold"))
        console.print(_code(text, lexer), soft_wrap=True)


def forms(found: Sequence[Explanation], stage: str) -> Iterator[tuple[str, str, str]]:
    """(heading, text, language) of a stage for every target where it differs.

    Raises ExplainError naming the stages there are.
    """
    if stage in CODE_STAGES:
        for e in found:
            heading = f"{CODE_STAGES[stage]} for {e.target.name}"
            if stage == "llvm":
                yield heading, e.annotated, "llvm"
            else:
                yield heading, "\n".join(map(instruction, e.code)), ""
        return
    groups = same(found, stage)
    if not groups:
        known = ", ".join([*stage_order(found), *CODE_STAGES])
        raise ExplainError(f"there is no stage {stage!r}; the stages are {known}")
    for group in groups:
        entry = group[0].stage(stage)
        names = ", ".join(e.target.name for e in group)
        yield f"{stage} for {names}: {entry.summary}", str(entry.program), "python"


def show_changed(console: Console, found: Sequence[Explanation]) -> None:
    """Of every stage that changed something, what it changed."""
    deltas = {e.target.name: {entry.name: d for entry, d in changes(e.trace)} for e in found}
    for stage in stage_order(found):
        for group in same(found, stage):
            entry = group[0].stage(stage)
            if not entry.changed:
                continue
            names = ", ".join(e.target.name for e in group)
            console.print(Text(f"{stage} for {names}: {entry.summary}", style="bold"))
            console.print(diff_text(deltas[group[0].target.name][stage]), soft_wrap=True)


def show_difference(
    console: Console, found: Sequence[Explanation], before: str, after: str
) -> None:
    """What changed between two stages."""
    for e in found:
        a, b = e.stage(before), e.stage(after)
        console.print(Text(f"from {before} to {after} for {e.target.name}", style="bold"))
        console.print(diff_text(compare(str(a.program), str(b.program))), soft_wrap=True)


def show_outline(console: Console, o: Outline) -> None:
    """A step that is no convolution: its decision, and every kernel with its stages."""
    title = f"{printable(o.plan.name)} for {o.target.name}"
    console.rule(Text(title, style="bold"), align="left")
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for what, value in decision(o):
        table.add_row(what, Text(printable(value)))
    console.print(table)
    for kernel in o.kernels:
        times = "once" if kernel.launches == 1 else f"{kernel.launches} times"
        console.print(Text(f"\n{kernel.name}, launched {times}", style="bold"))
        console.print(_outline_stages(kernel))


def _outline_stages(kernel: Launched) -> Table:
    table = Table(box=None, padding=(0, 1), collapse_padding=True)
    table.add_column("stage", no_wrap=True)
    table.add_column("what it does")
    for name in ("lines", "+", "-", "ms"):
        table.add_column(name, justify="right", no_wrap=True)
    for entry, delta in changes(kernel.trace):
        style = "bold" if entry.changed else "dim"
        numbers = (*_size(delta), f"{1000 * entry.seconds:.1f}")
        table.add_row(Text(entry.name, style=style), entry.summary, *numbers)
    return table


def show_outline_stage(console: Console, o: Outline, stage: str) -> None:
    """One form of every kernel of the step in full; every form where `stage` is ""."""
    for heading, text, lexer in outline_forms(o, stage):
        console.print(Text(printable(heading), style="bold"))
        console.print(_code(text, lexer), soft_wrap=True)


def show_all(console: Console, found: Sequence[Explanation]) -> None:
    """Every form in full: the stages, the IR and the assembly."""
    for stage in [*stage_order(found), *CODE_STAGES]:
        show_stage(console, found, stage)


def show_verdicts(console: Console, found: Sequence[Explanation], verdicts: Verdicts) -> None:
    """Every form's verdict in a table."""
    table = Table(box=None, padding=(0, 2))
    for name in ("target", "stage", "on the shrunk layer", "of the bound"):
        table.add_column(name)
    for e in found:
        for v in verdicts[e.target.name]:
            share = f"{v.share:.1%}" if v.was_run and v.share < float("inf") else ""
            table.add_row(e.target.name, v.stage, _verdict(v), share)
    console.print(table)
