"""Where the Plans to explain come from."""

from __future__ import annotations

from collections.abc import Sequence

from bench.shape import layer_graph, layer_shape
from jit.decide import plan
from refimpl.plan import Plan
from refimpl.schemes import scheme_from_text


def plans_for(layer: str, scheme: str, keep: float, targets: Sequence[str]) -> list[Plan]:
    """One Plan per target of a made-up layer with a random mask, "host" if no target is given.

    Args:
        layer: in the grammar of `bench.shape`; scheme: as `scheme_from_text` reads it;
        keep: the share of weights that stays; targets: names, each used once.

    Raises:
        BenchError, SchemeError, TargetError, PlanError: what is wrong with which of them.
    """
    graph = layer_graph(layer_shape(layer), scheme_from_text(scheme), keep)
    plans = {}
    for name in targets or ["host"]:
        made = plan(graph, name)
        plans.setdefault(made.target, made)
    return list(plans.values())
