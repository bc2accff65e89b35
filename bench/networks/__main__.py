"""Measure a network, dense and pruned, beside the peers on its dense weights.

python -m bench.networks c3d --ratios 3.57x --scheme kgs:32x4
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from rich.console import Console

from bench.errors import BenchError
from bench.layer import peers_from_text
from bench.networks.graphs import NETWORKS
from bench.networks.measure import bench_network
from jit.session import DeviceError
from jit.target import TargetError
from refimpl.plan import PlanError
from refimpl.schemes import SchemeError


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.networks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=NETWORKS)
    parser.add_argument("--ratios", required=True, help="such as 3.57x")
    parser.add_argument("--scheme", required=True, help="such as kgs:8x4")
    parser.add_argument("--device", default="host")
    parser.add_argument("--target", help="default: what the device's name says")
    parser.add_argument("--peers", help="comma-separated names, or none")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--scope", choices=("strip", "layer"), help="of the random masks")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    options = {k: v for k, v in vars(given).items() if k not in ("json", "peers")}
    try:
        result = bench_network(**options, peers=peers_from_text(given.peers))
    except (BenchError, SchemeError, TargetError, PlanError, DeviceError) as error:
        parser.exit(2, f"{error}\n")
    if given.json:
        print(json.dumps(result.json(), indent=2))
    else:
        title = f"{given.name} at {given.ratios}  {given.scheme}  on {given.device}"
        Console().print(result.table(title))
    return 0 if result.correct else 1


if __name__ == "__main__":
    raise SystemExit(main())
