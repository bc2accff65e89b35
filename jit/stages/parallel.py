"""Parallel split: the outermost loop whose iterations write apart is divided among tasks.

Each task takes a contiguous, nearly equal share, so results do not depend on how many there are.
"""

from __future__ import annotations

from dataclasses import replace

from jit.program import Block, For, Program


def parallel(program: Program, var: str) -> Program:
    """The program with loop `var` marked parallel."""

    def visit(body: Block) -> Block:
        result = []
        for s in body:
            if isinstance(s, For):
                kind = "parallel" if s.var == var else s.kind
                result.append(replace(s, kind=kind, body=visit(s.body)))
            else:
                result.append(s)
        return tuple(result)

    return replace(program, body=visit(program.body))
