"""Spreading: a loop becomes groups of so many iterations, done side by side at every statement.

`for i: a; b` turns into `for ib: (for v: a); (for v: b)`.  As lanes of a vector this vectorises; as
an unrolled loop it jams, so that what a statement loads serves all iterations of the group.  A
register of one iteration becomes a vector that has a lane for each.
"""

from __future__ import annotations

from dataclasses import replace

from jit.index import Index, index
from jit.program import (
    Block,
    For,
    If,
    Kind,
    Load,
    Program,
    ProgramError,
    Registers,
    Statement,
    Store,
    map_loads,
    map_stores,
    walk,
)
from jit.rewrite import bind, map_indices, simplify


def spread(program: Program, var: str, factor: int, inner: str, kind: Kind) -> Program:
    """The program with loop `var` as groups `<var>b` and `inner` around each innermost statement.

    Loops that were spread before stay inside.  Legal where no iteration of `var` depends on
    another and the extent is a multiple of the factor (the kernel's Param says so).

    Raises:
        ProgramError: the loop does not begin at 0, or would have to unroll registers.
    """
    around = For(inner, index(0), index(factor), (), kind)

    def outside(s: Statement) -> Statement:
        if isinstance(s, For) and s.var == var:
            return _spread(program, s, around)
        if isinstance(s, For):
            return replace(s, body=tuple(map(outside, s.body)))
        if isinstance(s, If):
            then, orelse = (tuple(map(outside, block)) for block in (s.then, s.orelse))
            return replace(s, then=then, orelse=orelse)
        return s

    body = map_indices(tuple(map(outside, program.body)), lambda i: simplify(i, {inner: factor}))
    return replace(program, body=body)


def _spread(program: Program, s: For, around: For) -> For:
    registers = frozenset(x.name for x in walk(s.body) if isinstance(x, Registers))
    if s.lo.constant != 0 or (registers and around.kind != "vector"):
        raise ProgramError(f"{program.name}: loop {s.var} cannot be spread")
    factor = around.hi.constant or 0
    body = _wrap(_expanded(s.body, registers, index(around.var)), around)
    lane = index(f"{s.var}b") * factor + index(around.var)
    return For(f"{s.var}b", index(0), s.hi // factor, bind(body, {s.var: lane}))


def _expanded(body: Block, registers: frozenset[str], lane: Index) -> Block:
    """The body with the last subscript of the registers named by `lane`."""

    def load(x: Load) -> Load:
        return Load(x.buffer, (*x.subscript[:-1], lane)) if x.buffer in registers else x

    def store(s: Store) -> Store:
        place = (*s.subscript[:-1], lane) if s.buffer in registers else s.subscript
        return Store(s.buffer, place, map_loads(s.value, load))

    return map_stores(body, store)


def _wrap(block: Block, around: For) -> Block:
    """The block with the loop `around` every statement that computes."""

    def visit(s: Statement) -> Statement:
        match s:
            case Store() | For(kind="unroll" | "vector"):
                return replace(around, body=(s,))
            case Registers(shape=shape):
                return replace(s, shape=(*shape[:-1], around.hi.constant or 0))
            case For(body=body):
                return replace(s, body=_wrap(body, around))
            case If(then=then, orelse=orelse):
                return replace(s, then=_wrap(then, around), orelse=_wrap(orelse, around))
        return s

    return tuple(map(visit, block))
