"""Hold networks at full size to their meaning: captured, compiled, every step within its bound.

python -m bench.networks.check            every network of the table, one after another
python -m bench.networks.check unet gru --batch 2 --device host-isolated

Three comparisons each: the reference's outputs beside torch's own in float64; every step of the
compiled network, on what the steps before it made, within its error bound; and the outputs beside
the reference's, end to end.  Weights are random.  Exit code 1 if a step is out of its bound.
"""

from __future__ import annotations

import argparse
import copy
import gc
import time
from collections.abc import Sequence

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from bench.networks.definitions import DEFINITIONS, build
from conformance.check import check_plan
from jit.decide import plan
from jit.executable import open_executable
from jit.session import DeviceError
from refimpl import graph as graphs
from refimpl.importers import CaptureError
from refimpl.importers.torch import capture
from refimpl.plan import PlanError
from refimpl.plan.report import short

HEADINGS = (
    "network", "input", "nodes", "parameters", "MACs", "from torch", "steps", "kernels",
    "bound used", "end to end", "ms",
)  # fmt: skip


def check(name: str, width: float, batch: int, device: str) -> tuple[list[str], bool]:
    """One row of the table, and whether every step is within its bound.

    Raises:
        CaptureError, PlanError, DeviceError: the network cannot be captured, planned or run.
    """
    definition = DEFINITIONS[name]
    # Sequences have their batch second.
    at = 1 if definition.input[0] > 1 else 0
    shape = tuple(batch if axis == at else n for axis, n in enumerate(definition.input))
    module, x = build(name, width), definition.example(shape)
    graph = capture(module, (x,))
    exact = graphs.evaluate(graph, x.numpy(), fast=True)[0]
    distance = _share(_in_float64(module, x), exact)
    made = plan(graph, "host")
    with open_executable(made, device) as net:
        found = net(x.numpy())[0]
        seconds = _fastest(net, x.numpy())
        report = check_plan(made, net, (x.numpy(),))
        kernels = len({launch.kernel for launch in net.artifact.launches})
    used = max(step.share for step in report.steps)
    macs = sum(kept for _, kept in graphs.macs(graph).values())
    size = sum(c.array.size for c in graph.constants.values())
    row = [
        name, "x".join(map(str, shape)), str(len(graph.nodes)), short(size), short(macs),
        f"{distance:.0e}", str(len(made.steps)), str(kernels),
        f"{used:.0%}" if report.ok else "BROKEN", f"{_share(found, exact):.0e}",
        f"{1000 * seconds:.1f}",
    ]  # fmt: skip
    return row, report.ok


def _in_float64(module: torch.nn.Module, x: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        wide = copy.deepcopy(module).double()
        return wide(x.double() if x.is_floating_point() else x).numpy()


def _share(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference, as a share of the largest value."""
    return float(np.abs(a - b).max() / np.abs(b).max())


def _fastest(net, x: np.ndarray, runs: int = 3) -> float:
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        net(x)
        times.append(time.perf_counter() - start)
    return min(times)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.networks.check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(DEFINITIONS))
    parser.add_argument("--width", type=float, default=1.0, help="of the published channels")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--device", default="host")
    given = parser.parse_args(arguments)
    unknown = [name for name in given.names if name not in DEFINITIONS]
    if unknown:
        parser.exit(2, f"there is no network {unknown[0]!r}; there are {', '.join(DEFINITIONS)}\n")
    table, whole = Table(*HEADINGS), True
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for name in progress.track(given.names or list(DEFINITIONS)):
            progress.console.log(name)
            try:
                row, ok = check(name, given.width, given.batch, given.device)
            except (CaptureError, PlanError, DeviceError) as error:
                row, ok = [name, str(error)], False
            table.add_row(*row)
            whole = whole and ok
            gc.collect()
    Console().print(table)
    return 0 if whole else 1


if __name__ == "__main__":
    raise SystemExit(main())
