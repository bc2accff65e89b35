"""One threshold over many layers: the global budget, from which each layer's rate emerges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from refimpl.schemes.scheme import Scheme, check_keep


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer to prune among others.

    Attributes:
        scheme: what may be removed.
        weight: float (F, C, *kernel).
        parts: equal parts of the filters that no block straddles.
        positions: how often each weight is used, its output positions; the budget then counts
            multiply-accumulates.  1 everywhere counts weights.
    """

    scheme: Scheme
    weight: np.ndarray
    parts: int = 1
    positions: int = 1


def project_across(layers: Mapping[str, Layer], keep: float) -> dict[str, np.ndarray]:
    """Masks of all layers under one threshold on the scores of their units.

    The threshold is the one whose kept share of weights (of multiply-accumulates, where layers
    have positions) comes nearest to `keep`.  In every layer the units of the highest score stay
    whatever the threshold.  Units of equal score stay or leave together.

    Returns:
        By layer name the mask, bool of its weight's shape.

    Raises:
        SchemeError: `keep` is outside (0, 1], or a weight has a value that is not finite.
    """
    levels = {name: _saliency(layer) for name, layer in layers.items()}
    for layer in layers.values():
        check_keep(layer.scheme, keep)
    if not levels:
        return {}
    level = np.concatenate([values.ravel() for values in levels.values()])
    cost = np.repeat(
        [float(layer.positions) for layer in layers.values()],
        [layer.weight.size for layer in layers.values()],
    )
    threshold = _threshold(level, cost, keep * cost.sum())
    return {name: values >= threshold for name, values in levels.items()}


def _saliency(layer: Layer) -> np.ndarray:
    """The layer's saliency, its highest value raised to inf so that the layer is never emptied."""
    values = layer.scheme.saliency(layer.weight, parts=layer.parts)
    return np.where(values == values.max(), np.inf, values)


def _threshold(level: np.ndarray, cost: np.ndarray, budget: float) -> float:
    """The level at or above which the cost of all comes nearest to the budget."""
    levels, which = np.unique(level, return_inverse=True)
    kept = np.bincount(which.reshape(-1), weights=cost)[::-1].cumsum()[::-1]
    possible = levels > -np.inf
    return float(levels[possible][np.abs(kept[possible] - budget).argmin()])
