"""Vectorisation over the channels of a block, for kernels that treat every channel alike."""

from __future__ import annotations

from jit.program import Program
from jit.stages.spread import spread


def channels(program: Program, block: int) -> Program:
    """The program with loop c as blocks cb of lanes v, and v around each Store alone."""
    return spread(program, "c", block, "v", "vector")
