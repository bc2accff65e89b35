"""How verbs print: tables for people, JSON for machines, progress on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from math import isfinite
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

_WIDE = 200


def show_json(value: Any) -> None:
    """Print dictionaries, sequences and numbers for machines; NaN and infinities become null."""
    json.dump(_finite(value), sys.stdout, indent=2, allow_nan=False)
    sys.stdout.write("\n")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def counted(count: int, noun: str) -> str:
    """`1 input`, `2 inputs`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def shortened(name: str, most: int = 40) -> str:
    """A long name with its middle left out: both ends of a path tell layers apart."""
    if len(name) <= most:
        return name
    end = (most - 1) // 2
    return f"{name[: most - 1 - end]}\N{HORIZONTAL ELLIPSIS}{name[-end:]}"


def show_line(text: str) -> None:
    """Print a line for people, as it is: names from models are never taken for markup."""
    print_out(Text(text), soft_wrap=True)


def show_table(headings: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> None:
    """Print a table; the first `left` columns and the last are texts, the others numbers."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for i, heading in enumerate(headings):
        if left <= i < len(headings) - 1:
            table.add_column(heading, justify="right", no_wrap=True)
        else:
            table.add_column(heading)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    print_out(table)


def print_out(what: Any, *, soft_wrap: bool = False) -> None:
    """Print anything of rich's on standard output."""
    console = Console(highlight=False)
    # A file or a pipe has no width of its own: there, a table gets what it needs.  A terminal too
    # narrow for the longest words gets longer lines: a number that is cut off is a wrong number.
    least = console.measure(what, options=console.options.update(width=_WIDE)).minimum
    console.width = max(console.width, least) if sys.stdout.isatty() else _WIDE
    console.print(what, soft_wrap=soft_wrap)


def working(text: str) -> AbstractContextManager[Any]:
    """Show on standard error that something is under way, while it is."""
    return Console(stderr=True, highlight=False).status(Text(text))
