"""Spreading: a loop becomes groups of so many iterations, done side by side at every statement.

`for i: a; b` turns into `for ib: (for v: a); (for v: b)`.  As lanes of a vector this vectorises; as
an unrolled loop it jams, so that what a statement loads serves all iterations of the group.
"""

from __future__ import annotations

from dataclasses import replace

from jit.index import index
from jit.program import Block, For, If, Kind, Program, ProgramError, Statement, Store
from jit.rewrite import bind, map_indices, simplify


def spread(program: Program, var: str, factor: int, inner: str, kind: Kind) -> Program:
    """The program with loop `var` as groups `<var>b` and `inner` around each innermost statement.

    Loops that were spread before stay inside.  Legal where no iteration of `var` depends on
    another and the extent is a multiple of the factor (the kernel's Param says so).

    Raises:
        ProgramError: the loop does not begin at 0.
    """
    lane = index(f"{var}b") * factor + index(inner)

    def outside(s: Statement) -> Statement:
        if isinstance(s, For) and s.var == var:
            if s.lo.constant != 0:
                raise ProgramError(f"{program.name}: loop {var} cannot be spread, it begins late")
            body = bind(_wrap(s.body, For(inner, index(0), index(factor), (), kind)), {var: lane})
            return For(f"{var}b", index(0), s.hi // factor, body)
        if isinstance(s, For):
            return replace(s, body=tuple(map(outside, s.body)))
        return s

    body = map_indices(tuple(map(outside, program.body)), lambda i: simplify(i, {inner: factor}))
    return replace(program, body=body)


def _wrap(block: Block, around: For) -> Block:
    """The block with the loop `around` every statement that computes."""

    def visit(s: Statement) -> Statement:
        match s:
            case Store() | For(kind="unroll" | "vector"):
                return replace(around, body=(s,))
            case For(body=body):
                return replace(s, body=_wrap(body, around))
            case If(then=then, orelse=orelse):
                return replace(s, then=_wrap(then, around), orelse=_wrap(orelse, around))
        return s

    return tuple(map(visit, block))
