"""What the demo's networks are made by: every number they depend on, in one place."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field

from prune.demo.network import PRUNED_LAYERS


@dataclass(frozen=True)
class Training:
    """One run of AdamW with a one-cycle learning rate.

    Attributes:
        epochs: passes over the train clips.
        peak_rate: the highest learning rate, reached after a quarter of the steps.
    """

    epochs: int
    peak_rate: float


@dataclass(frozen=True)
class DenseRecipe:
    """All that the dense network depends on.

    `clips` is the version of the clips' drawing: it counts up when `clips.py` draws differently.
    """

    clips: int = 1
    seed: int = 0
    train_clips: int = 2048
    test_clips: int = 1024
    batch: int = 32
    label_smoothing: float = 0.05
    weight_decay: float = 0.02
    training: Training = field(default_factory=lambda: Training(epochs=3, peak_rate=6e-3))


@dataclass(frozen=True)
class PruneRecipe:
    """All that the pruned network depends on beyond the dense one.

    There is one budget for the network, `compression` times fewer MACs.  It is met by keeping the
    same share of every layer in `layers`, which also pays for the layers that stay dense.
    """

    scheme: str = "kgs(gf=32,gc=4)"
    layers: tuple[str, ...] = PRUNED_LAYERS
    compression: float = 4.0
    training: Training = field(default_factory=lambda: Training(epochs=1, peak_rate=3e-3))


@dataclass(frozen=True)
class Recipe:
    """The whole job."""

    dense: DenseRecipe = field(default_factory=DenseRecipe)
    pruned: PruneRecipe = field(default_factory=PruneRecipe)


def recipe_key(*parts: DenseRecipe | PruneRecipe | str) -> str:
    """A digest (16 hex digits) of recipes and the network's description: what made a checkpoint."""
    plain = [part if isinstance(part, str) else asdict(part) for part in parts]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]
