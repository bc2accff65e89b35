"""Register promotion: the tile of y lives in registers while its columns pass.

Without it every multiply-add would load and store its sum.  Between blocks of channels the sums
rest in y itself.
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

_TILE = ("fv", "th", "tw", "v")


def promote(program: Program) -> Program:
    """The program with y's tile in registers `acc`, loaded and stored once per block."""
    loops, body = perfect_nest(program.body[0])
    place = _place(body)
    inner = [s for s in _tile_loops(body)]
    variables = tuple(index(loop.var) for loop in inner)
    acc = Registers("acc", tuple(loop.extent or 0 for loop in inner))
    copy_in = rebuild(inner, (Store("acc", variables, Load("y", place)),))
    copy_out = rebuild(inner, (Store("y", place, Load("acc", variables)),))
    init, *rest = _rename(body, variables)
    if not isinstance(init, If):
        raise ProgramError("promotion wants the fused nest")
    first: Statement = replace(init, orelse=(copy_in,))
    return replace(program, body=(rebuild(loops, (acc, first, *rest, copy_out)),))


def _place(body: Block) -> tuple[Index, ...]:
    """The one subscript at which the tile touches y."""
    places = {s.subscript for s in walk(body) if isinstance(s, Store) and s.buffer == "y"}
    if len(places) != 1:
        raise ProgramError(f"y is written at {len(places)} different places of a tile")
    return places.pop()


def _tile_loops(body: Block) -> list[For]:
    found = {s.var: s for s in walk(body) if isinstance(s, For) and s.var in _TILE}
    return [found[var] for var in ("th", "tw", "fv", "v") if var in found]


def _rename(body: Block, variables: tuple[Index, ...]) -> Block:
    def load(old: Load) -> Load:
        return Load("acc", variables) if old.buffer == "y" else old

    def store(old: Store) -> Store:
        value = map_loads(old.value, load)
        return Store("acc", variables, value) if old.buffer == "y" else replace(old, value=value)

    return map_stores(body, store)
