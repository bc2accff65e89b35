"""A network measured beside the peers, dense and pruned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from rich.table import Table

from bench.aims import FASTEST, FEWER, Aim, Finding, aims_json, find
from bench.contest import OURS, Contest, compiled, contest, target_of
from bench.errors import BenchError
from bench.layer import DENSE, PRUNED
from bench.networks.case import Case
from bench.networks.graphs import over_points, points_name, pruned
from bench.networks.prunings import PRUNINGS, NetworkPruning
from bench.rivals import SPARSE_PEER, rivals
from jit.target import target as target_named
from refimpl.graph import Graph, macs
from refimpl.plan.report import counted_threads
from refimpl.schemes import KGS, Scheme, Scope, scheme_from_text

BY_TAPS = "pruned by taps"
"""The label of the network pruned by taps beside one that is pruned in the Winograd domain."""
_SPARSE = f"{SPARSE_PEER}, pruned"
_IMAGES = (Aim(PRUNED, FASTEST, 1.0), Aim(PRUNED, _SPARSE, 1.0))

_AIMS: Mapping[tuple[str, str], Sequence[Aim]] = {
    ("c3d", "3.57x"): (
        Aim(DENSE, "openvino", 2.5),
        Aim(PRUNED, FASTEST, 3.3),
        Aim(PRUNED, FASTEST, 3.7, stretch=True),
        Aim(PRUNED, FEWER, 1.0, stretch=True),
    ),
    ("c3d", "3.57x winograd"): (
        Aim(PRUNED, FASTEST, 5.0),
        Aim(PRUNED, f"{OURS}{BY_TAPS}", 1.0),
    ),
    ("r2plus1d_18", "3.20x"): (Aim(PRUNED, FASTEST, 3.0),),
    ("vgg16", "8x"): _IMAGES,
    ("resnet50", "4x"): _IMAGES,
    ("mobilenet_v2", "4x"): _IMAGES,
}
ALONE = ", 1 thread"
"""What the label of ours on one thread ends with, beside ours on several."""
_TWO_THREADS = 1.85
_GRU_BATCHES = {1: 8.0, 32: 5.0}  # times as fast as ONNX Runtime's dense one


@dataclass(frozen=True)
class NetworkReport:
    """What was measured of a network.

    Attributes:
        case: the network and its input.
        pruning: the name of how it was pruned; "" where it was not.
        scheme: of the pruned layers; None where there are none.
        device: where ours ran.
        threads: that ours and the peers had.
        contest: costs, errors and speed-ups of ours and of the peers.
    """

    case: Case
    pruning: str
    scheme: Scheme | None
    device: str
    threads: int
    contest: Contest

    @property
    def correct(self) -> bool:
        """Whether all of ours computed what they should."""
        return self.contest.correct

    def findings(self) -> list[Finding]:
        """Every ratio that matters, with its aim where one is set."""
        subject = f"{self.case} {self.pruning}".strip()
        if self.threads > 1:
            subject += f", {self.threads} threads"
        found = [find(subject, aim, self.contest.comparison) for aim in self._aims()]
        # The fastest peer may be one that an aim names already.
        aimed = {finding.promise for finding in found if finding.aim}
        return [finding for finding in found if finding.aim or finding.promise not in aimed]

    def table(self) -> Table:
        """For people."""
        thin = f" at {self.pruning}  {self.scheme}" if self.pruning else " dense"
        on = f"{self.device}, {counted_threads(self.threads)}"
        return self.contest.table(f"{self.case}{thin}  on {on}")

    def json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "network": self.case.name,
            "batch": self.case.batch,
            "input": list(self.case.shape),
            "pruning": self.pruning or None,
            "scheme": None if self.scheme is None else str(self.scheme),
            "device": self.device,
            "threads": self.threads,
            "aims": aims_json(self.findings()),
            **self.contest.json(),
        }

    def _aims(self) -> list[Aim]:
        aims = list(_AIMS.get((self.case.name, self.pruning), ()))
        if self.case.name == "gru" and self.pruning:
            aims.append(Aim(PRUNED, "onnxruntime", _GRU_BATCHES.get(self.case.batch)))
        if self.threads == 2:
            aims += [Aim(ours, ours + ALONE, _TWO_THREADS) for ours in (DENSE, PRUNED)]
        usual = [Aim(DENSE, FASTEST)]
        if self.pruning:
            usual += [Aim(PRUNED, other) for other in (DENSE, FASTEST, FEWER, _SPARSE)]
        said = {(aim.ours, aim.theirs) for aim in aims}
        return aims + [aim for aim in usual if (aim.ours, aim.theirs) not in said]


def suiting_scheme(target: str) -> KGS:
    """The group that suits a target: two vectors of filters, at least 8.

    Raises:
        TargetError: there is no such target.
    """
    return KGS(32 if target_named(target).lanes == 16 else 8, 4)


def pruning_of(name: str, pruning: str | None) -> tuple[str, NetworkPruning | None]:
    """How a network is pruned: its name and what it means; ("", None) for not at all.

    Args:
        name: of the network.
        pruning: a name among those known for it, "none", or None for its last one.

    Raises:
        BenchError: the network has no pruning of that name.
    """
    known = PRUNINGS.get(name, {})
    chosen = ["none", *known][-1] if pruning is None else pruning
    if chosen == "none":
        return "", None
    if chosen not in known:
        names = ", ".join([*known, "none"])
        raise BenchError(f"{name} is not pruned at {chosen!r} here; known are {names}")
    return chosen, known[chosen]


def bench_network(
    case: Case,
    pruning: str | None = None,
    scheme: str | Scheme | None = None,
    *,
    device: str = "host",
    target: str | None = None,
    peers: Sequence[str] | None = None,
    rounds: int = 9,
    scope: Scope | None = None,
    threads: int = 1,
    tune: bool = False,
    seed: int = 0,
    tell: Callable[[str], None] = lambda _: None,
) -> NetworkReport:
    """Measure a network, dense and pruned, in one run with the peers.

    Peers run it dense; the one that skips zeros runs it pruned; and the fastest of them runs it
    with as many fewer filters in every layer as leave the multiply-accumulates that ours keeps.
    Beside a network pruned in the Winograd domain runs the one that lost the same shares of taps.

    Args:
        case: the network and its input.
        pruning: as in `pruning_of`.
        scheme: of all pruned layers; None is the pruning's own.
        threads: of ours and of the peers; above 1, ours on one takes part as well.
        tune: measure candidates on the device first.
        device, target, peers, rounds, scope, seed, tell: as in `bench.layer.bench_layer`.

    Raises:
        BenchError, SchemeError, TargetError, PlanError, CaptureError, DeviceError: what cannot
            be done.
    """
    name, how = pruning_of(case.name, pruning)
    machine = target or target_of(device)
    tell(f"capturing {case}")
    dense = case.graph(seed=seed)
    thin: dict[str, Graph] = {}
    chosen: Scheme | None = None
    if how is not None:
        given = scheme or how.scheme or suiting_scheme(machine)
        chosen = scheme_from_text(given) if isinstance(given, str) else given
        thin = _pruned(dense, how, chosen, scope, seed)
    # Peers know no points: theirs is the network whose taps were pruned.
    taps = thin.get(BY_TAPS, thin.get("pruned"))
    tell(f"compiling {case}")
    graphs, tuned_on = {"dense": dense, **thin}, device if tune else None
    variants = compiled(graphs, machine, threads=threads, tuned_on=tuned_on, tell=tell)
    if threads > 1:
        alone = {f"{label}{ALONE}": graph for label, graph in graphs.items()}
        variants += compiled(alone, machine, tuned_on=tuned_on, tell=tell)
    result = contest(
        variants,
        rivals(dense, {label: g for label, g in thin.items() if g is taps}, peers, device),
        device=device,
        threads=threads,
        fewer_filters=partial(_thinned, case, taps, seed, tell) if taps else None,
        rounds=rounds,
        seed=seed,
        tell=tell,
    )
    return NetworkReport(case, name, chosen, device, threads, result)


def _pruned(
    dense: Graph, how: NetworkPruning, scheme: Scheme, scope: Scope | None, seed: int
) -> dict[str, Graph]:
    """The pruned networks, by label: in the Winograd domain, with that of taps beside it."""
    ratios = how.ratios(dense)
    taps = pruned(dense, ratios, scheme, scope=scope, seed=seed)
    if not how.tiles:
        return {"pruned": taps}
    names = {name: points_name(name) if name in how.tiles else name for name in ratios}
    shares = {names[name]: ratio for name, ratio in ratios.items()}
    points = pruned(over_points(dense, how.tiles), shares, scheme, scope=scope, seed=seed)
    return {"pruned": points, BY_TAPS: taps}


def _thinned(case: Case, pruned: Graph, seed: int, tell: Callable[[str], None]) -> Graph:
    """The network with fewer filters, of the pruned one's multiply-accumulates."""
    kept = sum(kept for _, kept in macs(pruned).values())
    tell(f"thinning {case} to {kept / 1e6:.0f} MMAC")
    return case.graph(case.width_for(kept), seed)
