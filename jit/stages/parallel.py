"""Parallel split: the loops around the tiles, whose iterations write apart, are divided.

On a grid every combination of their iterations is a work item.  On a CPU a task takes a range of
each, which the launch gives (`jit.shares`).  No sum is divided, so the result does not depend on
how many tasks there are.
"""

from __future__ import annotations

from dataclasses import replace

from jit.program import Program
from jit.rewrite import mark


def parallel(program: Program, *names: str) -> Program:
    """The program with the loops of those names marked parallel."""
    return replace(program, body=mark(program.body, dict.fromkeys(names, "parallel")))
