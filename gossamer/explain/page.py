"""One page with loops, LLVM IR and assembly side by side, linked line by line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gossamer.explain.assembly import Line
from gossamer.explain.explanation import ExplainError, Explanation, changes, compare
from gossamer.explain.pictures import column_picture, tile_picture
from gossamer.explain.wording import Verdicts, counts_rows, decision_lines, printable
from jit.files import write_whole
from jit.llvm_origin import origins

if TYPE_CHECKING:
    from pygments.formatters import HtmlFormatter


@dataclass(frozen=True)
class Row:
    """A line of a pane: coloured markup, the Program's line it came from (0: none), a mark."""

    markup: str
    origin: int = 0
    mark: str = ""


def page(found: Sequence[Explanation], verdicts: Verdicts) -> str:
    """The page as text: self-contained, no script or style from elsewhere, all names escaped.

    Raises:
        ExplainError: jinja2 or pygments is not installed.
    """
    try:
        import jinja2
        from pygments.formatters import HtmlFormatter
    except ImportError as error:
        raise ExplainError(
            f"the page needs {error.name}; install it with: pip install 'gossamer[report]'"
        ) from error
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("gossamer.explain", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    formatter = HtmlFormatter(style="friendly", nowrap=True)
    return environment.get_template("page.html").render(
        title=f"{printable(found[0].step.name)} of {printable(found[0].plan.name)}",
        style=formatter.get_style_defs(".code"),
        targets=[_target(e, verdicts, formatter) for e in found],
        counts=counts_rows(found),
        names=[e.target.name for e in found],
    )


def write_page(found: Sequence[Explanation], verdicts: Verdicts, path: Path) -> None:
    """Write the page, whole or not at all."""
    text = page(found, verdicts)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.encode())


def _target(e: Explanation, verdicts: Verdicts, formatter: HtmlFormatter) -> dict[str, Any]:
    annotated = e.annotated.rstrip("\n")
    from_program = [0, *origins(annotated)]
    shown = {v.stage: v for v in verdicts.get(e.target.name, ())}
    stages, before = [], ""
    for entry, _ in changes(e.trace):
        text = str(entry.program)
        last = entry is e.trace.entries[-1]
        stages.append(
            {
                "name": entry.name,
                "summary": entry.summary,
                "milliseconds": f"{1000 * entry.seconds:.1f}",
                "verdict": shown.get(entry.name, ""),
                "rows": _rows(text, "python", formatter, linked=last),
                "changes": _changes(before, text, formatter),
            }
        )
        before = text
    return {
        "name": e.target.name,
        "decision": decision_lines(e),
        "pictures": "\n".join([*tile_picture(e), "", *column_picture(e)]),
        "stages": stages,
        "ir": [
            Row(row.markup, origin)
            for row, origin in zip(
                _rows(annotated, "llvm", formatter), from_program[1:], strict=True
            )
        ],
        "assembly": [
            Row(_instruction(line), from_program[line.ir], "loop" if i in e.loop else "")
            for i, line in enumerate(e.code)
        ],
        "compiled": shown.get("compiled", ""),
    }


def _instruction(line: Line) -> str:
    """By hand: to the lexers there are, an immediate operand of aarch64 is a comment."""
    name, _, operands = (escape(part) for part in line.text.partition("\t"))
    if line.is_label:
        return f'<span class="nl">{name}</span>'
    return f'    <span class="k">{name:<12}</span> {operands}'


def _rows(text: str, language: str, formatter: HtmlFormatter, *, linked: bool = False) -> list[Row]:
    """A row per line; `linked` rows name themselves as their origin."""
    # stripnl would drop blank lines at the ends and shift every number.
    from pygments import highlight
    from pygments.lexers import get_lexer_by_name

    lexer = get_lexer_by_name(language, stripnl=False, ensurenl=False)
    lines = highlight(text.rstrip("\n"), lexer, formatter).split("\n")
    wanted = len(text.rstrip("\n").split("\n"))
    return [Row(line, i if linked else 0) for i, line in enumerate(lines[:wanted], 1)]


def _changes(before: str, after: str, formatter: HtmlFormatter) -> list[Row]:
    delta = compare(before, after)
    rows = _rows("\n".join(change.text for change in delta), "python", formatter)
    marks = {"+": "added", "-": "removed", " ": ""}
    return [Row(row.markup, 0, marks[c.mark]) for row, c in zip(rows, delta, strict=True)]
