"""Partial sums: a reduction over neighbours in memory becomes a vector of reductions, then one.

One accumulator waits for itself at every element.  A lane of its own for every residue of the
position lets whole vectors pass; the lanes are folded at the end, in order.  What is left over by
whole vectors is done one by one, so no extent need be a multiple of anything.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from jit.index import index
from jit.program import (
    Block,
    Call,
    Const,
    For,
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
from jit.rewrite import bind

_NEUTRAL = {"add": 0.0, "fma": 0.0, "maximum": float("-inf"), "minimum": float("inf")}


def partial(program: Program, var: str, lanes: int) -> Program:
    """The program with every nest of loops around `var` in vectors of `lanes`.

    Legal where each statement in `var` either adds to a register that is declared outside the
    nest or stores to an element of its own, and all it loads is contiguous along `var` or fixed.
    """
    return replace(program, body=_block(program.body, _Vectors(var, lanes)))


@dataclass(frozen=True)
class _Vectors:
    var: str
    lanes: int


def _block(body: Block, by: _Vectors) -> Block:
    result: list[Statement] = []
    for s in body:
        inside = list(walk((s,)))
        loops = {x.var for x in inside if isinstance(x, For)}
        if by.var not in loops or not isinstance(s, For):
            result.append(s)
        elif any(isinstance(x, Registers) for x in inside):
            result.append(replace(s, body=_block(s.body, by)))
        else:
            result += _nest(s, by)
    return tuple(result)


def _nest(s: For, by: _Vectors) -> Block:
    """The nest in vectors, between what sets its lanes and what folds them."""
    reductions = {
        x.buffer: x
        for x in walk((s,))
        if isinstance(x, Store) and x.buffer in _loaded(x) and x.subscript == (index(0),)
    }
    before: list[Statement] = []
    after: list[Statement] = []
    for name, store in reductions.items():
        assert isinstance(store.value, Call)
        operator, whole, partial = store.value.primitive, Load(name, (index(0),)), f"{name}v"
        if operator not in _NEUTRAL:
            raise ProgramError(f"{name} is reduced with {operator}, which has no neutral element")
        start = Store(partial, (index("v"),), Const(_NEUTRAL[operator]))
        before += [Registers(partial, (by.lanes,)), _lanes(by, start)]
        lane = Load(partial, (index("l"),))
        value = Call("add" if operator == "fma" else operator, (whole, lane))
        fold = Store(name, whole.subscript, value)
        after.append(For("l", index(0), index(by.lanes), (fold,), "unroll"))
    return (*before, *_halves(s, by, frozenset(reductions)), *after)


def _loaded(s: Store) -> frozenset[str]:
    found: set[str] = set()
    map_loads(s.value, lambda x: found.add(x.buffer) or x)
    return frozenset(found)


def _lanes(by: _Vectors, s: Statement) -> For:
    return For("v", index(0), index(by.lanes), (s,), "vector")


def _halves(s: For, by: _Vectors, reduced: frozenset[str]) -> Block:
    """The loops around `var` with it as whole vectors and the rest."""
    if s.var != by.var:
        body = tuple(y for x in s.body if isinstance(x, For) for y in _halves(x, by, reduced))
        return (replace(s, body=body),)
    groups = s.hi // by.lanes
    position = index(f"{s.var}b") * by.lanes + index("v")
    wide = bind(_renamed(s.body, reduced), {s.var: position})
    vectors = For(f"{s.var}b", index(0), groups, tuple(_lanes(by, x) for x in wide))
    return (vectors, replace(s, lo=groups * by.lanes))


def _renamed(body: Block, reduced: frozenset[str]) -> Block:
    """The body with each reduced register's lanes in its place."""

    def load(x: Load) -> Load:
        return Load(f"{x.buffer}v", (index("v"),)) if x.buffer in reduced else x

    def store(s: Store) -> Store:
        value = map_loads(s.value, load)
        if s.buffer in reduced:
            return Store(f"{s.buffer}v", (index("v"),), value)
        return replace(s, value=value)

    return map_stores(body, store)
