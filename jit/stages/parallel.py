"""Parallel split: the outermost loop whose iterations write apart is divided among tasks.

Each task takes a contiguous, nearly equal share, so results do not depend on how many there are.
On a grid all loops around the tiles are parallel, and every combination is a work item.
"""

from __future__ import annotations

from dataclasses import replace

from jit.program import Program
from jit.rewrite import mark


def parallel(program: Program, *names: str) -> Program:
    """The program with the loops of those names marked parallel."""
    return replace(program, body=mark(program.body, dict.fromkeys(names, "parallel")))
