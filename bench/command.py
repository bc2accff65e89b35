"""What this package's command lines share: how they read options, tell progress, fail."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from bench.errors import BenchError
from jit.session import DeviceError
from jit.target import TargetError
from jit.tune import TableError
from refimpl.graph import GraphError
from refimpl.importers import CaptureError
from refimpl.plan import PlanError
from refimpl.schemes import SchemeError

REFUSALS = (
    BenchError, SchemeError, TargetError, PlanError, DeviceError, GraphError, CaptureError,
    TableError,
)  # fmt: skip
"""What is wrong with a request or its device: told in a line, with exit code 2."""


def command(module: str, description: str | None) -> argparse.ArgumentParser:
    """A parser with the options that every comparison has."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=_count, default=9, help="that count; default 9")
    parser.add_argument("--seed", type=int, default=0, help="of weights, masks and inputs")
    parser.add_argument(
        "--tune", action="store_true", help="measure our candidates first; times are kept"
    )
    parser.add_argument("--json", action="store_true")
    return parser


def threads_option(parser: argparse.ArgumentParser) -> None:
    """Let a comparison be made on several threads."""
    parser.add_argument("--threads", type=_count, default=1, help="of ours and of the peers")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)


def peers_from_text(text: str) -> list[str]:
    """[] for "none", else the names between commas."""
    return [] if text == "none" else text.split(",")


def share_from_text(text: str) -> float:
    """`0.25`, `1/4` or `1/3.6`.

    Raises:
        BenchError: it is not a number above 0 and at most 1.
    """
    above, slash, below = text.partition("/")
    try:
        share = float(above) / float(below) if slash else float(above)
    except (ValueError, ZeroDivisionError):
        share = 0.0
    if not 0 < share <= 1:
        raise BenchError(f"{text!r} is no share of weights; write one like 1/3.6 or 0.25")
    return share


@contextmanager
def telling(parser: argparse.ArgumentParser) -> Iterator[Callable[[str], None]]:
    """A line on standard error that says what is being done; refusals end the command."""
    console = Console(stderr=True)
    try:
        with console.status("starting") as status:
            yield status.update
    except REFUSALS as error:
        parser.exit(2, f"{error}\n")


def show(given: argparse.Namespace, found: Any, tables: Sequence[Table]) -> None:
    """Print the JSON that was asked for, or the tables, at their full width."""
    if given.json:
        print(json.dumps(found, indent=2))
        return
    console = Console()
    room = console.options.update_width(1000)
    widths = [Measurement.get(console, room, table).maximum for table in tables]
    Console(width=max(console.width, *widths)).print(*tables, sep="\n")
