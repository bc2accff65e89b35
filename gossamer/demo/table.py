"""The demo's table and verdict for a terminal of 100 columns."""

from __future__ import annotations

from rich.box import SIMPLE
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gossamer.demo.results import DENSE, GOSSAMER, PRUNED, DemoReport, Row
from gossamer.demo.words import (
    accuracy,
    headline,
    instructions,
    latency,
    mega,
    network_name,
    place,
    share,
    weights,
)


def terminal_summary(report: DemoReport) -> RenderableType:
    """The headline, the table, what was promised and whether it holds, what is missing."""
    lines: list[RenderableType] = [Text(headline(report), style="bold"), _table(report)]
    lines += [_verdict(goal.words, goal.met) for goal in report.goals]
    lines += [Text(f"  ✗ {fault}", style="red") for fault in report.faults]
    lines += [Text(f"  – {caution}", style="yellow") for caution in report.cautions]
    lines.append(Text(_notes(report), style="dim"))
    return Group(*lines)


def _table(report: DemoReport) -> Table:
    table = Table(box=SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("")
    for name in (
        "accuracy",
        "MACs",
        "weights\nMB",
        "latency, ms\np50 (p10-p90)",
        "guest\ninstructions",
        "bound\nused",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    for network in (DENSE, PRUNED):
        table.add_row(network_name(report, network), style="bold")
        for row in (row for row in report.rows if row.network == network):
            table.add_row(*_cells(row), style=_style(row))
    return table


def _cells(row: Row) -> tuple[str, ...]:
    return (
        f"  {place(row)}",
        accuracy(row),
        mega(row.macs),
        weights(row),
        latency(row),
        instructions(row),
        share(row),
    )


def _style(row: Row) -> str:
    return "" if row.engine == GOSSAMER else "dim"


def _verdict(words: str, met: bool) -> Text:
    return Text(f"  {'✓' if met else '✗'} {words}", style="green" if met else "red")


def _notes(report: DemoReport) -> str:
    hows = {f"{place(row)}: {row.how}": None for row in report.rows if row.how}
    about = [f"{name}: {value}" for name, value in report.about.items()]
    return "\n".join(
        ["Latency of one clip, one thread. " + "; ".join(hows) + ".", "; ".join(about)]
    )
