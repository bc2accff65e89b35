"""Where the Plans to explain come from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.shape import layer_graph, layer_shape
from gossamer.explain.explanation import ExplainError
from jit.decide import plan
from jit.plan_file import load_plan
from jit.target import target
from refimpl.plan import Plan
from refimpl.schemes import scheme_from_text


def saved_plan(path: str | Path, targets: Sequence[str] = ()) -> Plan:
    """The Plan in a file, which is for one target.

    Raises:
        PlanFileError: the file is damaged or no Plan. ExplainError: another target is wanted.
    """
    plan = load_plan(path)
    for name in targets:
        if target(name).name != plan.target:
            raise ExplainError(
                f"{path} is planned for {plan.target}, not for {name}; plan its model for {name} "
                "and explain that plan"
            )
    return plan


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
