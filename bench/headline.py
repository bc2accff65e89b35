"""What this project set itself to reach, and where it stands, in some twenty minutes.

    python -m bench.headline

Layers of every kind and networks of every family, dense and pruned, on one thread and on two,
float32, each checked and compared with its peers in interleaved rounds; every ratio beside its aim.
The peers are those that are ever the fastest; `bench.layers` and `bench.networks` know others, and
more networks.  Nothing here fails a build, a shared machine being no judge: the exit code says
if the outputs were right.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

from bench.aims import Finding, aims_json, aims_table
from bench.command import REFUSALS, command, show, telling
from bench.layers import LAYERS, LayerResult, bench_layers, dense_table, prunings
from bench.networks.case import Case
from bench.networks.measure import NetworkReport, bench_network

_PEERS = ("torch", "onnxruntime", "openvino", "ncnn", "mnn-accurate")
_SLIM = ("onnxruntime", "openvino", "mnn-accurate")
_SPARSE = ("onnxruntime", "openvino", "ncnn", "mnn-accurate", "mnn-sparse")
_PRUNED_LAYERS = ("c3_256_256_8x28", "c2_128_128_28")
_DENSE_LAYERS = tuple(name for name in LAYERS if name not in _PRUNED_LAYERS)
_SCHEMES, _KEEPS = ("kgs:8x4", "kgs:16x4", "kgs:32x4"), ("1/2", "1/3.6", "1/10")
_RECURRENT = ("torch", "onnxruntime", "openvino")
_NETWORKS = (
    (Case("c3d"), None, _SLIM, 1),
    (Case("c3d"), "3.57x winograd", _SLIM, 1),
    (Case("r2plus1d_18"), None, _SLIM, 1),
    (Case("s3d"), None, _SLIM, 1),
    (Case("vgg16"), None, _SPARSE, 1),
    (Case("resnet50"), None, _SPARSE, 1),
    (Case("mobilenet_v2"), None, _SPARSE, 1),
    (Case("gru"), None, _RECURRENT, 1),
    (Case("gru", steps=100), None, _RECURRENT, 1),
    (Case("gru", batch=32), None, _RECURRENT, 1),
    (Case("c3d"), None, _SLIM, 2),
    (Case("resnet50"), None, _SLIM, 2),
    (Case("gru"), None, _RECURRENT, 2),
)
"""Networks, how they are pruned (None: as usual), their peers, and threads."""


@dataclass
class Headline:
    """What was measured so far, and what could not be, by name."""

    layers: list[LayerResult] = field(default_factory=list)
    networks: list[NetworkReport] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    @property
    def correct(self) -> bool:
        """Whether all was measured, and all of ours computed what they should."""
        contests = [r.contest for r in (*self.layers, *self.networks)]
        return not self.refused and all(contest.correct for contest in contests)

    def findings(self) -> list[Finding]:
        """Every ratio that has an aim."""
        found = [f for result in (*self.layers, *self.networks) for f in result.findings()]
        return [finding for finding in found if finding.aim]

    def tables(self) -> list[Table]:
        """For people."""
        aims = aims_table(self.findings())
        aims.caption = "\n".join(f"NOT MEASURED: {why}" for why in self.refused)
        return [
            *([dense_table(self.layers, _PEERS)] if self.layers else []),
            *(report.table() for report in self.networks),
            aims,
        ]

    def json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "aims": aims_json(self.findings()),
            "layers": [result.json() for result in self.layers],
            "networks": [report.json() for report in self.networks],
            "refused": self.refused,
        }


def measure(rounds: int, seed: int, tune: bool, tell: Callable[[str], None]) -> Headline:
    """Measure all of it; what is refused is left out, by name."""
    options = {"rounds": rounds, "seed": seed, "tune": tune, "tell": tell}
    found = Headline()
    thin = prunings(_SCHEMES, _KEEPS)
    for names, chosen in ((_DENSE_LAYERS, []), (_PRUNED_LAYERS, thin)):
        texts = {name: LAYERS[name] for name in names}
        try:
            found.layers.extend(bench_layers(texts, chosen, peers=_PEERS, **options))
        except REFUSALS as error:
            found.refused.append(f"layers: {error}")
    for case, pruning, peers, threads in _NETWORKS:
        try:
            how = {"pruning": pruning, "peers": peers, "threads": threads}
            report = bench_network(case, **how, **options)
            found.networks.append(report)
        except REFUSALS as error:
            found.refused.append(f"{case}: {error}")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser: argparse.ArgumentParser = command("bench.headline", __doc__)
    given = parser.parse_args(arguments)
    with telling(parser) as tell:
        found = measure(given.rounds, given.seed, given.tune, tell)
    show(given, found.json(), found.tables())
    return 0 if found.correct else 1


if __name__ == "__main__":
    raise SystemExit(main())
