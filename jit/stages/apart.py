"""Apart: the filters of a strip one after another, so that no load serves two of them.

It undoes what load redundancy elimination (GRIM, PatDNN) gains across filters, to measure it: the
loop over a strip's filters, or vectors of them, comes outside the loop over columns, where jamming
would unroll it inside.  Strips, their lists and the tile of positions stay as they are.
"""

from __future__ import annotations

from dataclasses import replace

from jit.program import Block, For, If, Program, ProgramError, Statement, walk


def apart(program: Program, var: str) -> Program:
    """The program with loop `var` around the sums of a tile: their start, their terms, their end.

    Legal where no iteration of `var` depends on another.

    Raises:
        ProgramError: there is no block of several statements that all have the loop.
    """
    found: list[For] = []

    def block(body: Block) -> Block:
        loops = [_loop(s, var) for s in body]
        if len(body) > 1 and all(loops):
            found.extend(x for x in loops if x)
            around = replace(found[-1], kind="range")
            return (replace(around, body=tuple(x for s in body for x in _without(s, var))),)
        return tuple(visit(s) for s in body)

    def visit(s: Statement) -> Statement:
        return replace(s, body=block(s.body)) if isinstance(s, For) else s

    result = replace(program, body=block(program.body))
    if not found:
        raise ProgramError(f"{program.name}: no sums have a loop {var} each")
    return result


def _loop(s: Statement, var: str) -> For | None:
    return next((x for x in walk((s,)) if isinstance(x, For) and x.var == var), None)


def _without(s: Statement, var: str) -> Block:
    """The statement without the loop, whose body stays."""

    def each(body: Block) -> Block:
        return tuple(x for s in body for x in _without(s, var))

    match s:
        case For(var=name, body=body):
            return each(body) if name == var else (replace(s, body=each(body)),)
        case If(then=then, orelse=orelse):
            return (replace(s, then=each(then), orelse=each(orelse)),)
    return (s,)
