"""Measure a network, dense and pruned, beside the peers on the same weights.

    python -m bench.networks c3d
    python -m bench.networks gru --batch 32 --steps 100 --peers torch,onnxruntime
    python -m bench.networks resnet50 --pruning none --device host-isolated

Float32, interleaved rounds, outputs checked first.  The exit code says if ours were
right, not if an aim was met.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench.aims import aims_table
from bench.command import command, peers_from_text, show, telling, threads_option
from bench.networks.case import Case
from bench.networks.definitions import DEFINITIONS
from bench.networks.measure import bench_network
from bench.networks.prunings import PRUNINGS


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    known = "; ".join(f"{name} {', '.join(ratios)}" for name, ratios in PRUNINGS.items())
    parser = command("bench.networks", __doc__)
    threads_option(parser)
    parser.add_argument("name", choices=DEFINITIONS, metavar="NAME", help=", ".join(DEFINITIONS))
    parser.add_argument("--pruning", help=f"or none; {known}; default: the last")
    parser.add_argument("--scheme", help="such as kgs:8x4; default: what suits the target")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--steps", type=int, help="of a sequence")
    parser.add_argument("--device", default="host")
    parser.add_argument("--target", help="default: what the device's name says")
    parser.add_argument("--peers", help="comma-separated names, or none; default: all")
    parser.add_argument("--scope", choices=("strip", "layer"), help="of the random masks")
    given = parser.parse_args(arguments)
    peers = None if given.peers is None else peers_from_text(given.peers)
    with telling(parser) as tell:
        report = bench_network(
            Case(given.name, given.batch, given.steps),
            given.pruning,
            given.scheme,
            device=given.device,
            target=given.target,
            peers=peers,
            rounds=given.rounds,
            scope=given.scope,
            threads=given.threads,
            tune=given.tune,
            seed=given.seed,
            tell=tell,
        )
    show(given, report.json(), [report.table(), aims_table(report.findings())])
    return 0 if report.correct else 1


if __name__ == "__main__":
    raise SystemExit(main())
