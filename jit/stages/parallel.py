"""Parallel split: the outermost loop whose iterations write apart is divided among tasks.

Each task takes a contiguous, nearly equal share, so results do not depend on how many there are.
On a grid all loops around the tiles are parallel, and every combination is a work item.
"""

from __future__ import annotations

from dataclasses import replace

from jit.program import Block, For, Program


def parallel(program: Program, *names: str) -> Program:
    """The program with the loops of those names marked parallel."""

    def visit(body: Block) -> Block:
        result = []
        for s in body:
            if isinstance(s, For):
                kind = "parallel" if s.var in names else s.kind
                result.append(replace(s, kind=kind, body=visit(s.body)))
            else:
                result.append(s)
        return tuple(result)

    return replace(program, body=visit(program.body))
