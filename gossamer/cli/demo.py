"""The verb `demo`."""

from __future__ import annotations

import shlex
import sys
from json import dumps
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from gossamer.cli.models import DEMO_FOLDER
from gossamer.cli.output import print_out, show_json, show_line
from gossamer.demo.page import html_page
from gossamer.demo.results import DemoReport
from gossamer.demo.run import run_demo
from gossamer.demo.table import terminal_summary
from jit.files import write_whole


def demo(*, folder: Path = DEMO_FOLDER, json: bool = False) -> int:
    """Train, prune, compile, check and measure a small 3-D network on real handwriting.

    Trains a dense network and a pruned one (a few minutes, once), compiles both for this machine
    and for an aarch64 core, holds every layer to its error bound, and measures accuracy, latency
    beside torch, and, where QEMU is there, guest instructions.  Writes `report.html` and
    `report.json` into the folder.  A second run loads the networks and measures again.

    Exits with 1 if a layer is out of its bound.  Goals of accuracy and size are printed with what
    was measured, met or not.

    Example: `gossamer demo`

    Parameters
    ----------
    folder
        Where the networks and the report are kept; made when it is missing.
    json
        Print JSON.
    """
    try:
        with _progress() as progress:
            report = run_demo(folder, progress=progress)
    except KeyboardInterrupt:
        if any(folder.glob("*.safetensors")):
            Console(stderr=True, highlight=False).print(
                f"Finished networks are kept in {folder}; the next run goes on from them.",
                markup=False,
            )
        raise
    written = _write(folder, report)
    if json:
        show_json(report.json())
    else:
        print_out(terminal_summary(report))
        show_line(f"{report.total_seconds:.0f} s altogether. The report: {written}")
    return 1 if report.faults else 0


def _progress() -> Progress:
    return Progress(
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        console=Console(stderr=True),
    )


def _write(folder: Path, report: DemoReport) -> Path:
    """Write the page and the numbers, each whole or not at all; the page's place."""
    command = shlex.join(["gossamer", *sys.argv[1:]])
    page = html_page(report, command).encode()
    write_whole(folder / "report.json", dumps(report.json(), indent=2).encode())
    write_whole(folder / "report.html", page)
    return folder / "report.html"
