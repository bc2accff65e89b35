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


def promote(program: Program, buffer: str = "y", *, within: str = "") -> Program:
    """The program with the buffer's tile in registers `acc` inside the loops that its uses share.

    The first statement must set the whole tile; where it does so under a condition (the first
    block of channels), the other branch loads the sums back.

    Args:
        program: one nest.
        buffer: what is summed.
        within: the loop in which the uses lie; "" where they are all there is.
    """
    if not within:
        return replace(program, body=(_promoted(program.body[0], buffer),))

    def visit(s: Statement) -> Statement:
        if isinstance(s, For):
            return _promoted(s, buffer) if s.var == within else replace(s, body=_each(s.body))
        return s

    def _each(body: Block) -> Block:
        return tuple(map(visit, body))

    return replace(program, body=_each(program.body))


def _promoted(nest: Statement, buffer: str) -> Statement:
    loops, body = perfect_nest(nest)
    place = _place(body, buffer)
    inner = _tile_loops(body, place)
    lanes = inner and inner[-1].kind == "vector"
    variables = tuple(index(x.var) for x in inner) + (() if lanes else (index(0),))
    shape = tuple(x.extent or 0 for x in inner) + (() if lanes else (1,))
    copy_in = _around(inner, Store("acc", variables, Load(buffer, place)))
    copy_out = _around(inner, Store(buffer, place, Load("acc", variables)))
    first, *rest = _rename(body, buffer, variables)
    if isinstance(first, If):
        first = replace(first, orelse=(copy_in,))
    promoted = (Registers("acc", shape), first, *rest, copy_out)
    return rebuild(loops, promoted)


def _around(loops: list[For], store: Store) -> Statement:
    return rebuild(loops, (store,))


def _place(body: Block, buffer: str) -> tuple[Index, ...]:
    """The one subscript at which the tile touches the buffer."""
    places = {s.subscript for s in walk(body) if isinstance(s, Store) and s.buffer == buffer}
    if len(places) != 1:
        raise ProgramError(f"{buffer} is written at {len(places)} different places of a tile")
    return places.pop()


def _tile_loops(body: Block, place: tuple[Index, ...]) -> list[For]:
    """The unrolled and vector loops that the place depends on, the vector last."""
    names = frozenset().union(*(i.names for i in place))
    found = {s.var: s for s in walk(body) if isinstance(s, For) and s.kind != "range"}
    order = [var for var in ("th", "tw", "r", "fv", "pb", "v") if var in found and var in names]
    return [found[var] for var in order]


def _rename(body: Block, buffer: str, variables: tuple[Index, ...]) -> Block:
    def load(old: Load) -> Load:
        return Load("acc", variables) if old.buffer == buffer else old

    def store(old: Store) -> Store:
        value = map_loads(old.value, load)
        return Store("acc", variables, value) if old.buffer == buffer else replace(old, value=value)

    return map_stores(body, store)
