"""Fusion of bias and epilogue: they join the tile, before its first block and after its last.

Bias, residual and activation no longer pass over memory on their own.
"""

from __future__ import annotations

from dataclasses import replace

from jit.index import index
from jit.program import If, Program, ProgramError, Statement
from jit.rewrite import perfect_nest, rebuild


def fuse(program: Program) -> Program:
    """The program as one nest: init under b == 0, the sum, the epilogue under b == NB - 1."""
    init, main, *rest = program.body
    loops, _ = perfect_nest(main)
    depth = [loop.var for loop in loops].index("j")
    shared = [loop.var for loop in loops[:depth] if loop.var != "b"]
    body: list[Statement] = [If(index("b"), index(0), (_inside(init, shared),))]
    body.append(rebuild(loops[depth:], perfect_nest(main)[1]))
    for epilogue in rest:
        body.append(If(index("b"), index("NB") - 1, (_inside(epilogue, shared),)))
    return replace(program, body=(rebuild(loops[:depth], tuple(body)),))


def _inside(nest: Statement, shared: list[str]) -> Statement:
    """The part of a nest that is left when its outer loops are shared."""
    loops, body = perfect_nest(nest)
    if [loop.var for loop in loops[: len(shared)]] != shared:
        raise ProgramError(f"cannot fuse: loops are not {shared}")
    return rebuild(loops[len(shared) :], body)
