"""One layer, dense and pruned, compiled by us and beside the peers; no model needed.

    python -m bench.layer conv3d:256x256x3x3x3@8x28x28 --scheme kgs:32x4 --keep 0.278
    python -m bench.layer conv2d:64x32x3x3@28x28 --scheme kgs:8x4 --keep 0.25 \\
        --device qemu:cortex-a76
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.contest import OURS, Contest, compiled, contest, target_of
from bench.errors import BenchError
from bench.peers import PEERS
from bench.shape import LayerShape, layer_graph, layer_shape
from jit.session import DeviceError
from jit.target import TargetError
from refimpl.plan import PlanError
from refimpl.schemes import Dense, Scheme, SchemeError, Scope, scheme_from_text

DENSE, PRUNED = f"{OURS}dense", f"{OURS}pruned"


@dataclass(frozen=True)
class LayerReport:
    """What was measured of a layer.

    Attributes:
        layer: the layer.
        scheme: of the pruned contestant.
        kept: the share of weights that its mask really keeps.
        device: where ours ran; peers ran on this machine.
        target: what ours was compiled for.
        contest: costs, errors and speed-ups of `DENSE`, `PRUNED` (unless the scheme is dense)
            and the peers.
    """

    layer: LayerShape
    scheme: Scheme
    kept: float
    device: str
    target: str
    contest: Contest

    @property
    def correct(self) -> bool:
        """Whether all of ours computed what they should."""
        return self.contest.correct

    def table(self) -> Table:
        """For people."""
        title = f"{self.layer}  {self.scheme} keeping {self.kept:.3f}  on {self.device}"
        return self.contest.table(title)

    def json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "layer": str(self.layer),
            "scheme": str(self.scheme),
            "kept": self.kept,
            "device": self.device,
            "target": self.target,
            **self.contest.json(),
        }


def bench_layer(
    layer: str | LayerShape,
    scheme: str | Scheme = "dense",
    keep: float = 1.0,
    *,
    device: str = "host",
    target: str | None = None,
    peers: Sequence[str] | None = None,
    rounds: int = 15,
    scope: Scope | None = None,
    seed: int = 0,
) -> LayerReport:
    """Compile a layer with random weights, check it, and measure it in one run with the peers.

    Args:
        layer: in the grammar of `bench.shape`.
        scheme: in the grammar of `refimpl.schemes`; "dense" measures no pruned contestant.
        keep: the share of weights that stays.
        device: as `jit.devices.open_device` takes it; an emulator counts guest instructions.
        target: to compile for; None is what the device's name says.
        peers: of `bench.peers.PEERS`; None is all where they can be timed, else none.
        rounds: that count, after a warm-up round.
        scope: of the random mask: "strip" (balanced) or "layer"; None is "strip" where the
            scheme has strips.
        seed: of weights, mask and inputs.

    Raises:
        BenchError, SchemeError, TargetError, PlanError, DeviceError: what cannot be done, by the
            name of the layer, scheme, target or device.
    """
    shape = layer_shape(layer) if isinstance(layer, str) else layer
    chosen = scheme_from_text(scheme) if isinstance(scheme, str) else scheme
    machine = target or target_of(device)
    graphs = {"dense": layer_graph(shape, Dense(), 1.0, seed=seed)}
    kept = 1.0
    if chosen != Dense() or keep != 1:
        graphs["pruned"] = layer_graph(shape, chosen, keep, scope=scope, seed=seed)
        kept = float(graphs["pruned"].sparsity["weight"].mask.array.mean())
    variants = compiled(graphs, machine)
    result = contest(variants, device=device, peers=peers, rounds=rounds, seed=seed)
    return LayerReport(shape, chosen, kept, device, variants[0].plan.target, result)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.layer",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("layer")
    parser.add_argument("--scheme", default="dense", help="such as kgs:8x4")
    parser.add_argument("--keep", type=float, default=1.0, help="share of weights that stays")
    parser.add_argument("--device", default="host")
    parser.add_argument("--target", help="default: what the device's name says")
    parser.add_argument("--peers", help=f"comma-separated, of {','.join(PEERS)}; or none")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--scope", choices=("strip", "layer"), help="of the random mask")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    options = {k: v for k, v in vars(given).items() if k not in ("json", "peers")}
    try:
        report = bench_layer(**options, peers=peers_from_text(given.peers))
    except (BenchError, SchemeError, TargetError, PlanError, DeviceError) as error:
        parser.exit(2, f"{error}\n")
    if given.json:
        print(json.dumps(report.json(), indent=2))
    else:
        Console().print(report.table())
    return 0 if report.correct else 1


def peers_from_text(text: str | None) -> list[str] | None:
    """`None` for all that can be timed, [] for "none", else the names between commas."""
    if text is None:
        return None
    return [] if text == "none" else text.split(",")


if __name__ == "__main__":
    raise SystemExit(main())
