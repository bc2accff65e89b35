"""Magnitude pruning: the units of the smallest weights go, at once or bit by bit."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from prune.masking import filter_parts, full_weight, prunable_layer, set_masks
from refimpl.schemes import Scheme, Scope


def apply(
    module: nn.Module, rates: Mapping[str, tuple[Scheme, float]], *, scope: Scope = "layer"
) -> None:
    """Prune layers by magnitude: layer name -> (scheme, share of the weights to keep).

    Ranks the weights as they are without their masks, so calling it again with a smaller share
    prunes further (gradual pruning), and a unit that left may come back.  Layers not named keep
    what they have.

    Args:
        module: any module; changed in place.
        rates: for example `{"conv2": (KGS(8, 4), 0.3)}`.
        scope: one threshold per "layer", or equally many units in every "strip" of filters.

    Raises:
        PruneError: a name is no prunable layer's.
        SchemeError: a share is outside (0, 1], or a weight is not finite.
    """
    found = {}
    for name, (scheme, keep) in rates.items():
        layer = prunable_layer(module, name)
        weight = full_weight(layer).detach().cpu().float().numpy()
        mask = scheme.project(weight, keep, scope=scope, parts=filter_parts(layer))
        found[name] = scheme, mask
    set_masks(module, found)


def gradual_keep(progress: float, keep: float) -> float:
    """The share to keep when `progress` (0 to 1) of gradual pruning down to `keep` is done.

    keep + (1 - keep) (1 - progress)^3: fast while much is redundant, slow near the end
    (Zhu and Gupta, 2017).
    """
    left = 1 - min(max(progress, 0.0), 1.0)
    return keep + (1 - keep) * left**3
