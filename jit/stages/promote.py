"""Register promotion: what a tile sums lives in registers while its terms pass.

Without it every multiply-add would load and store its sum.  Between blocks of channels a
convolution's sums rest in y itself.
"""

from __future__ import annotations

from dataclasses import replace

from jit.index import Index, index
from jit.program import (
    Block,
    For,
    If,
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
from jit.rewrite import perfect_nest, rebuild


def promote(program: Program) -> Program:
    """The program with y's tile in registers `acc` inside the loops that all its uses share.

    The first statement must set the whole tile; where it does so under a condition (the first
    block of channels), the other branch loads the sums back.
    """
    loops, body = perfect_nest(program.body[0])
    place = _place(body)
    inner = _tile_loops(body, place)
    lanes = inner and inner[-1].kind == "vector"
    variables = tuple(index(x.var) for x in inner) + (() if lanes else (index(0),))
    shape = tuple(x.extent or 0 for x in inner) + (() if lanes else (1,))
    copy_in = _around(inner, Store("acc", variables, Load("y", place)))
    copy_out = _around(inner, Store("y", place, Load("acc", variables)))
    first, *rest = _rename(body, variables)
    if isinstance(first, If):
        first = replace(first, orelse=(copy_in,))
    promoted = (Registers("acc", shape), first, *rest, copy_out)
    return replace(program, body=(rebuild(loops, promoted),))


def _around(loops: list[For], store: Store) -> Statement:
    return rebuild(loops, (store,))


def _place(body: Block) -> tuple[Index, ...]:
    """The one subscript at which the tile touches y."""
    places = {s.subscript for s in walk(body) if isinstance(s, Store) and s.buffer == "y"}
    if len(places) != 1:
        raise ProgramError(f"y is written at {len(places)} different places of a tile")
    return places.pop()


def _tile_loops(body: Block, place: tuple[Index, ...]) -> list[For]:
    """The unrolled and vector loops that y's place depends on, the vector last."""
    names = frozenset().union(*(i.names for i in place))
    found = {s.var: s for s in walk(body) if isinstance(s, For) and s.kind != "range"}
    order = [var for var in ("th", "tw", "r", "fv", "v") if var in found and var in names]
    return [found[var] for var in order]


def _rename(body: Block, variables: tuple[Index, ...]) -> Block:
    def load(old: Load) -> Load:
        return Load("acc", variables) if old.buffer == "y" else old

    def store(old: Store) -> Store:
        value = map_loads(old.value, load)
        return Store("acc", variables, value) if old.buffer == "y" else replace(old, value=value)

    return map_stores(body, store)
