"""Fusion of bias and epilogue: they join the tile, before its first block and after its last.

Bias, residual and activation no longer pass over memory on their own.  Where blocks of channels
pass around the tiles, the first and the last block are told apart by a condition; where they pass
inside the tile, bias comes before them and the epilogue after.
"""

from __future__ import annotations

from dataclasses import replace

from jit.index import index
from jit.program import If, Program, ProgramError, Statement
from jit.rewrite import perfect_nest, rebuild


def fuse(program: Program) -> Program:
    """The program as one nest: the tile's init, its sum, its epilogue."""
    init, main, *rest = program.body
    loops, innermost = perfect_nest(main)
    names = [loop.var for loop in loops]
    columns = "kd" if "kd" in names else "j"
    inside = names.index("b") + 1 == names.index(columns)
    depth = names.index("b" if inside else columns)
    shared = [var for var in names[:depth] if var != "b"]
    start, *ends = (_inside(nest, shared) for nest in (init, *rest))
    total = rebuild(loops[depth:], innermost)
    body: list[Statement] = [start, total, *ends]
    if not inside:
        last = index("NB") - 1
        body = [
            If(index("b"), index(0), (start,)),
            total,
            *(If(index("b"), last, (end,)) for end in ends),
        ]
    return replace(program, body=(rebuild(loops[:depth], tuple(body)),))


def _inside(nest: Statement, shared: list[str]) -> Statement:
    """The part of a nest that is left when its outer loops are shared."""
    loops, body = perfect_nest(nest)
    if [loop.var for loop in loops[: len(shared)]] != shared:
        raise ProgramError(f"cannot fuse: loops are not {shared}")
    return rebuild(loops[len(shared) :], body)
