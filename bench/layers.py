"""The layers of the networks, dense and pruned, beside every peer.

    python -m bench.layers
    python -m bench.layers c3_256_256_8x28 conv2d:96x64x3x3@30x30 \\
        --sparse kgs:8x4,kgs:16x4,kgs:32x4 --keep 1/2,1/3.6,1/10

Each layer is one comparison in interleaved rounds, float32: ours dense, ours pruned at
random for every scheme and share, and the peers on the dense layer.  Where ours goes by Winograd
it is measured directly as well: what pruning gains is held against the dense direct kernel, and
shown over the best dense one.  Ratios are medians over the rounds, beside their aims.  The exit
code says if ours were right, not if an aim was met.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from rich.table import Table

from bench.aims import FASTEST, Aim, Finding, aims_json, aims_table, find
from bench.command import command, peers_from_text, share_from_text, show, telling, threads_option
from bench.comparison import figures
from bench.contest import OURS, Contest, compiled, contest
from bench.layer import DENSE, DIRECT, PEERS_OF_LAYERS
from bench.peers import PeerProcesses
from bench.rivals import SPARSE_PEER, fastest, rivals
from bench.shape import LayerShape, layer_graph, layer_shape
from bench.tables import plain_table
from refimpl.schemes import Dense, Scheme, scheme_from_text

LAYERS: Mapping[str, str] = {
    **{
        f"c3_{c}_{f}_{d}x{s}": f"conv3d:{f}x{c}x3x3x3@{d}x{s}x{s}"
        for c, f, d, s in (
            (64, 128, 16, 56), (128, 256, 8, 28), (256, 256, 8, 28), (512, 512, 4, 14),
            (512, 512, 2, 7),
        )
    },
    **{
        f"c2_{c}_{c}_{s}": f"conv2d:{c}x{c}x3x3@{s}x{s}"
        for c, s in (
            (64, 224), (64, 56), (128, 112), (128, 28), (256, 56), (256, 14), (512, 28),
            (512, 14), (512, 7),
        )
    },
    **{
        f"dw_{c}_{s}": f"conv2d:{c}x1x3x3@{s}x{s},groups={c}"
        for c, s in ((96, 112), (144, 56), (192, 28), (384, 14), (576, 14), (960, 7))
    },
    **{
        f"pw_{c}_{f}_{s}": f"conv2d:{f}x{c}x1x1@{s}x{s}"
        for c, f, s in (
            (32, 16, 112), (96, 24, 56), (144, 24, 56), (192, 32, 28), (384, 64, 14),
            (576, 96, 14), (960, 160, 7), (960, 320, 7),
        )
    },
    **{
        f"fc_{c}_{f}": f"linear:{f}x{c}"
        for c, f in ((1024, 1024), (4096, 4096), (25088, 4096))
    },
}  # fmt: skip
"""C3D's, VGG's, ResNet's and MobileNet-V2's layers by name: kind, channels, filters, size."""


_DENSE_LIMIT = 1.05  # times the fastest peer


@dataclass(frozen=True)
class Pruning:
    """A scheme and the share of weights that stays, with the label of its contestant."""

    scheme: Scheme
    keep: float
    label: str


def prunings(schemes: Sequence[str], keeps: Sequence[str]) -> list[Pruning]:
    """Every scheme with every share.

    Raises:
        BenchError, SchemeError: a share or a scheme that is none.
    """
    shares = {text: share_from_text(text) for text in keeps}
    return [
        Pruning(scheme_from_text(scheme), share, f"{scheme} {text}")
        for scheme in schemes
        for text, share in shares.items()
    ]


@dataclass(frozen=True)
class LayerResult:
    """What was measured of one layer."""

    name: str
    layer: LayerShape
    prunings: tuple[Pruning, ...]
    contest: Contest

    def findings(self) -> list[Finding]:
        """The dense layer's aim, and those of the pruned ones."""
        dense = Aim(DENSE, FASTEST, _DENSE_LIMIT, "time")
        gains = (aim for pruning in self.prunings for aim in self._gains(pruning))
        aims = [dense, *gains, *self._low_strips()]
        return [find(self.name, aim, self.contest.comparison) for aim in aims]

    def _gains(self, pruning: Pruning) -> Iterator[Aim]:
        """Over our dense direct kernel, which is what the aim is about, and over the best dense."""
        share = _share_of_ideal(self.layer.weight[1], 1 / pruning.keep)
        limit = None if share is None else share / pruning.keep
        ours = OURS + pruning.label
        yield Aim(self._directly(ours), self._directly(DENSE), limit)
        if self._directly(DENSE) != DENSE:
            yield Aim(ours, DENSE)

    def _directly(self, label: str) -> str:
        """The contestant that is computed directly where that one is not."""
        known = {row.label for row in self.contest.comparison.rows}
        return label + DIRECT if label + DIRECT in known else label

    def _low_strips(self) -> Iterator[Aim]:
        """Strips of 8 filters beside strips of two of AVX-512's vectors."""
        labels = {pruning.label for pruning in self.prunings}
        for label in sorted(labels):
            high = label.replace("kgs:8x4", "kgs:32x4")
            if high != label and high in labels:
                yield Aim(self._directly(OURS + label), self._directly(OURS + high), 0.7)

    def json(self) -> dict[str, Any]:
        """For machines."""
        aims = aims_json(self.findings())
        return {"name": self.name, "layer": str(self.layer), "aims": aims, **self.contest.json()}


def _share_of_ideal(channels: int, compression: float) -> float | None:
    """How much of the saved work is to become time, by the layer's channels."""
    if compression <= 4:
        return 0.88 if channels >= 256 else 0.78 if channels >= 64 else None
    return 0.8 if channels >= 256 else None


def bench_layers(
    layers: Mapping[str, str],
    chosen: Sequence[Pruning] = (),
    *,
    peers: Sequence[str] = PEERS_OF_LAYERS,
    rounds: int = 9,
    threads: int = 1,
    tune: bool = False,
    seed: int = 0,
    tell: Callable[[str], None] = lambda _: None,
) -> Iterator[LayerResult]:
    """Measure one layer after another on this machine; peers keep their processes.

    Args:
        layers: texts in the grammar of `bench.shape`, by name.
        chosen: how ours are pruned; depthwise layers stay dense.
        threads: of ours and of the peers.
        tune: measure candidates first.
        peers, rounds, seed, tell: as in `bench.layer.bench_layer`.

    Raises:
        BenchError, SchemeError, PlanError, DeviceError: what cannot be done.
    """
    shapes = {name: layer_shape(text) for name, text in layers.items()}
    with PeerProcesses(threads) as processes:
        for name, shape in shapes.items():
            dense = layer_graph(shape, Dense(), 1.0, seed=seed)
            fitting = [] if shape.groups == shape.weight[0] else chosen
            thin = {p.label: layer_graph(shape, p.scheme, p.keep, seed=seed) for p in fitting}
            said = partial(_told, tell, name)
            how = {"threads": threads, "tuned_on": "host" if tune else None, "tell": said}
            result = contest(
                compiled({"dense": dense, **thin}, "host", direct=bool(thin), **how),
                rivals(dense, thin, peers, "host"),
                processes=processes,
                rounds=rounds,
                seed=seed,
                tell=said,
            )
            yield LayerResult(name, shape, tuple(fitting), result)


def _told(tell: Callable[[str], None], name: str, doing: str) -> None:
    tell(f"{name}: {doing}")


def dense_table(results: Sequence[LayerResult], peers: Sequence[str]) -> Table:
    """Milliseconds of everyone on the dense layers, and ours beside the aim."""
    headings = (peer.replace("-", "\n") for peer in peers)
    table = plain_table(
        "dense layers, ms", "layer", "ours", "alone", *headings, "fastest", "ours / it", ""
    )
    for result in results:
        table.add_row(result.name, *_cells(result, peers))
    note = f"ours / it, time: the median over the rounds, aim at most {_DENSE_LIMIT}"
    how = "alone: our layer without the conversion from and to plain arrays; -: not measured"
    table.caption = "\n".join([note, how, *_refusals(results, peers)])
    return table


def _cells(result: LayerResult, peers: Sequence[str]) -> list[str]:
    comparison, (found, *_) = result.contest.comparison, result.findings()
    costs = [comparison.row(label) for label in (DENSE, *peers)]
    ours, *theirs = (figures(row.cost(50) / 1e6) if row.rounds else "-" for row in costs)
    measured = DENSE in result.contest.steps
    alone = figures(result.contest.step_costs(DENSE)["y"] / 1e6) if measured else "-"
    ratio = "-" if found.ratio is None else f"{found.ratio:.2f}"
    verdict = {True: "met", False: "NOT MET", None: ""}[found.met]
    return [ours, alone, *theirs, fastest(comparison) or "-", ratio, verdict]


def _refusals(results: Sequence[LayerResult], peers: Sequence[str]) -> list[str]:
    """Every reason for which a contestant has no time, and the layers that it holds for."""
    found: dict[str, list[str]] = {}
    for result in results:
        for label in (DENSE, *peers):
            why = result.contest.comparison.row(label).refusal.removeprefix(f"{label}: ")
            if why:
                found.setdefault(f"{label}: {why}", []).append(result.name)
    return [f"{why} ({', '.join(names)})" for why, names in found.items()]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = command("bench.layers", __doc__)
    threads_option(parser)
    parser.add_argument("layers", nargs="*", help=f"names or layers; names: {', '.join(LAYERS)}")
    parser.add_argument("--sparse", default="", help="schemes, such as kgs:8x4,kgs:32x4")
    parser.add_argument("--keep", default="1/3.6", help="shares that stay, such as 1/2,1/3.6")
    parser.add_argument("--peers", default=",".join(PEERS_OF_LAYERS), help="or none")
    given = parser.parse_args(arguments)
    layers = {name: LAYERS.get(name, name) for name in given.layers or LAYERS}
    peers, results = peers_from_text(given.peers), []
    with telling(parser) as tell:
        chosen = prunings([s for s in given.sparse.split(",") if s], given.keep.split(","))
        options = {"rounds": given.rounds, "seed": given.seed, "tell": tell}
        options |= {"threads": given.threads, "tune": given.tune}
        results.extend(bench_layers(layers, chosen, peers=peers, **options))
    tables = [dense_table(results, [name for name in peers if name != SPARSE_PEER])]
    sparse = [finding for result in results for finding in result.findings()[1:]]
    if sparse:
        tables.append(aims_table(sparse, "pruned layers"))
    show(given, [result.json() for result in results], tables)
    return 0 if all(result.contest.correct for result in results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
