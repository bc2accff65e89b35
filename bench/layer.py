"""One layer, dense and pruned, beside the peers: what `gossamer bench --layer` shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from bench.contest import OURS, Contest, compiled, contest, target_of
from bench.rivals import HERE, SPARSE_PEER, rivals
from bench.shape import LayerShape, layer_graph, layer_shape
from jit.target import target as target_named
from refimpl.schemes import Dense, Pattern, Scheme, Scope, scheme_from_text

DENSE, PRUNED = f"{OURS}dense", f"{OURS}pruned"
DIRECT = " direct"
"""What the labels of contestants of ours end with that are computed directly beside ones that are
computed by Winograd."""

PEERS_OF_LAYERS = ("torch", "onnxruntime", "openvino", "ncnn", "mnn", "mnn-accurate")
"""Peers that are given plain arrays, as ours are.  Torch's channels-last is fed in its own layout,
which is right for networks alone; and compiling with torch takes long, and fuses nothing here."""


@dataclass(frozen=True)
class LayerReport:
    """What was measured of a layer.

    Attributes:
        layer: the layer.
        scheme: of the pruned contestant.
        kept: the share of weights that its mask really keeps.
        device: where ours ran; peers ran on this machine.
        target: what ours was compiled for.
        contest: costs, errors and speed-ups of `DENSE`, `PRUNED` (unless the scheme is dense),
            both computed directly too where the planner prefers Winograd, the pruned layer from
            CSR, and FKW where it has patterns, and the peers.
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


def formats_of(layer: LayerShape, scheme: Scheme, target: str) -> tuple[str, ...]:
    """Formats of `refimpl.storage` that a pruned layer may be computed from, to compare with."""
    each_channel_alone = layer.groups == layer.weight[0] > 1
    if each_channel_alone or target_named(target).grid:
        return ()
    return ("csr", "fkw") if isinstance(scheme, Pattern) else ("csr",)


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
    tell: Callable[[str], None] = lambda _: None,
) -> LayerReport:
    """Compile a layer with random weights, check it, and measure it in one run with the peers.

    Args:
        layer: in the grammar of `bench.shape`.
        scheme: in the grammar of `refimpl.schemes`; "dense" measures no pruned contestant.
        keep: the share of weights that stays.
        device: as `jit.devices.open_device` takes it; an emulator counts guest instructions.
        target: to compile for; None is what the device's name says.
        peers: of `bench.peers.PEERS`; None is `PEERS_OF_LAYERS` and the one that skips zeros
            where they can be timed, else none.
        rounds: that count, after a warm-up round.
        scope: of the random mask: "strip" (balanced) or "layer"; None is "strip" where the
            scheme has strips.
        seed: of weights, mask and inputs.
        tell: told what is being done, in a few words.

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
    thin = {label: graph for label, graph in graphs.items() if label != "dense"}
    if peers is None and device in HERE:
        peers = (*PEERS_OF_LAYERS, SPARSE_PEER)
    chosen_peers = rivals(graphs["dense"], thin, peers, device)
    variants = compiled(graphs, machine, direct=True, formats=formats_of(shape, chosen, machine))
    result = contest(variants, chosen_peers, device=device, rounds=rounds, seed=seed, tell=tell)
    return LayerReport(shape, chosen, kept, device, variants[0].plan.target, result)
