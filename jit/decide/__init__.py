"""Deciding: from a Graph to a Plan.  What is fused, how each layer is cut, where values lie."""

from jit.decide.ablation import OPTIMISATIONS
from jit.decide.planner import plan

__all__ = ["OPTIMISATIONS", "plan"]
