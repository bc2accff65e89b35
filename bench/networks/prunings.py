"""How the networks are pruned in the comparison: published ratios where there are any.

RT3D's are those of its released configurations, by the factor of multiply-accumulates that they
save there: only early, heavy layers are pruned.  Its 2.09x for S3D comes to 1.84x on the network
here; "winograd" prunes the same share of the points of transformed kernels, in the same layers.
GRIM's group publishes 10x for all weights of the GRU.  For the networks on images no ratios
per layer are published: all but the first convolution, depthwise ones and the classifier are
pruned alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bench.networks.graphs import Ratios
from refimpl.graph import Graph, Shape


@dataclass(frozen=True)
class NetworkPruning:
    """Which weights of a network lose which share, and with which scheme.

    Attributes:
        ratios: of a Graph of the network.
        scheme: in the grammar of `refimpl.schemes`; "" is the KGS that suits the target.
        tiles: of the weights that are pruned in the Winograd domain the outputs of a tile; the
            share is then one of points.
    """

    ratios: Callable[[Graph], Ratios]
    scheme: str = ""
    tiles: Mapping[str, Shape] = field(default_factory=dict)


def _published(ratios: Ratios) -> NetworkPruning:
    return NetworkPruning(lambda _: ratios)


def _convolutions(graph: Graph) -> list[str]:
    """Weights of all convolutions but the first and those within a channel."""
    nodes = [node for node in graph.nodes if node.op == "conv"]
    return [n.inputs[1] for n in nodes[1:] if n.attrs["groups"] == 1]


def _recurrences(graph: Graph) -> list[str]:
    nodes = [node for node in graph.nodes if node.op in ("rnn", "gru", "lstm")]
    return [name for node in nodes for name in node.inputs[1:3]]


def _alike(ratio: float) -> NetworkPruning:
    return NetworkPruning(lambda graph: dict.fromkeys(_convolutions(graph), ratio))


def _recurrent(ratio: float, scheme: str) -> NetworkPruning:
    return NetworkPruning(lambda graph: dict.fromkeys(_recurrences(graph), ratio), scheme)


_CONV2, _CONV3A, _CONV3B, _CONV4B = "3.weight", "6.weight", "8.weight", "13.weight"
_C3D = {_CONV2: 0.85, _CONV3A: 0.80, _CONV3B: 0.85}
_C3D_MORE = {**_C3D, _CONV4B: 0.80}
# At the same share, F(2, 2, 2) errs about as pruned taps do for kernels without structure (least
# squares, white input: docs/winograd.md); larger tiles err more, and are hardly faster.
_C3D_TILES = dict.fromkeys(_C3D_MORE, (2, 2, 2))
_STAGES = {stage: (6 + 2 * stage, 7 + 2 * stage) for stage in (0, 1)}  # modules of two blocks


def _r2plus1d(*ratios: float) -> Ratios:
    """One ratio for all convolutions of a stage but its shortcut's."""
    return {
        f"{block}.{conv}.{part}.weight": ratio
        for stage, ratio in enumerate(ratios)
        for block in _STAGES[stage]
        for conv in ("conv1", "conv2")
        for part in (0, 3)
    }


_S3D_INCEPTIONS = {7: 0.5, 8: 0.7, 12: 0.5, 13: 0.5, 14: 0.7}  # 3a, 3b, 4c, 4d, 4e


def _s3d() -> Ratios:
    """Both factors of the stem, of the third convolution and of some inceptions."""
    pairs = {"layers.0": 0.2, "layers.5": 0.8}
    pairs |= {f"layers.{i}.first.3": ratio for i, ratio in _S3D_INCEPTIONS.items()}
    return {f"{pair}.{part}.weight": ratio for pair, ratio in pairs.items() for part in (0, 3)}


PRUNINGS: Mapping[str, Mapping[str, NetworkPruning]] = {
    "c3d": {
        "2.53x": _published(_C3D),
        "3.57x winograd": NetworkPruning(lambda _: _C3D_MORE, tiles=_C3D_TILES),
        "3.57x": _published(_C3D_MORE),
    },
    "r2plus1d_18": {
        "2.56x": _published(_r2plus1d(0.80, 0.70)),
        "3.20x": _published(_r2plus1d(0.90, 0.80)),
    },
    "s3d": {"2.09x": _published(_s3d())},
    "vgg16": {"8x": _alike(0.875)},
    "resnet18": {"4x": _alike(0.75)},
    "resnet50": {"4x": _alike(0.75)},
    "mobilenet_v2": {"4x": _alike(0.75)},
    "gru": {"10x": _recurrent(0.9, "bcr:64x64x30")},
}
"""By network and name; the last of a network is the one that is measured unless another is named.
A network that is not in it is measured dense."""
