"""Register-level load redundancy elimination: what a column needs is loaded once (GRIM, PatDNN).

In the jammed loops the same weights are loaded for every position and the same input for every
vector of filters; in a product, a row of one factor for every column of the other.  Each such load
moves out of the loops that it does not depend on, into registers; a run of input columns becomes
one vector load whose lanes are used one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from jit.index import Index, index
from jit.program import (
    Block,
    Call,
    For,
    Load,
    Program,
    Registers,
    Statement,
    Store,
    Value,
    map_values,
)


def reuse(program: Program, around: str, buffers: Mapping[str, str]) -> Program:
    """The program with loads hoisted inside the loop `around`; registers' names by buffer."""
    return replace(program, body=_visit(program.body, around, buffers))


def _visit(block: Block, around: str, buffers: Mapping[str, str]) -> Block:
    def visit(s: Statement) -> Statement:
        if isinstance(s, For) and s.var == around:
            return replace(s, body=_hoist_all(s.body, buffers))
        if isinstance(s, For):
            return replace(s, body=_visit(s.body, around, buffers))
        return s

    return tuple(map(visit, block))


def _hoist_all(body: Block, buffers: Mapping[str, str]) -> Block:
    if len(body) > 1:  # products side by side have registers of their own
        apart = [
            _hoist_all((s,), {b: f"{name}{i}" for b, name in buffers.items()})
            for i, s in enumerate(body)
        ]
        return tuple(s for block in apart for s in block)
    for buffer, name in buffers.items():
        body = _hoist(body, buffer, name)
    return body


def _hoist(body: Block, buffer: str, name: str) -> Block:
    """Move the load of `buffer` out of the outermost unrolled loop it does not depend on."""
    loops = _chain(body)
    value, load = next(pair for pair in _reads(_innermost(body).value) if pair[1].buffer == buffer)
    depends = frozenset().union(*(i.names for i in load.subscript))
    run = _run_loop(loops, load)
    if run is not None:
        # One vector load fetches the run: hoist above the loop over its columns.
        level, inner = loops.index(run), [x for x in loops if x.var in depends and x is not run]
        lane = replace(run, kind="vector")
        shape, order = [x.extent or 0 for x in inner] + [run.extent or 0], [*inner, lane]
    else:
        level = next((d for d, x in enumerate(loops) if x.var not in depends), None)
        if level is None:
            return body
        order = [x for x in loops[level:] if x.var in depends]
        shape = [x.extent or 0 for x in order]
        if not order or order[-1].kind != "vector":
            shape.append(1)  # a scalar: one lane
    fetch = _fetch(name, value, order, scalar=len(order) < len(shape))
    where = tuple(index(x.var) for x in order) + ((index(0),) if len(order) < len(shape) else ())
    return _insert(body, loops, level, (Registers(name, tuple(shape)), fetch), value, name, where)


def _reads(value: Value) -> Iterator[tuple[Value, Load]]:
    """Every Load of a value, with what is read by it: itself, or what it is widened to."""
    match value:
        case Load():
            yield value, value
        case Call("widen", (Load() as load,)):
            yield value, load
        case Call(_, args):
            for arg in args:
                yield from _reads(arg)


def _swapped(value: Value, old: Value, new: Value) -> Value:
    if value == old:
        return new
    if isinstance(value, Call):
        return Call(value.primitive, tuple(_swapped(arg, old, new) for arg in value.args))
    return value


def _fetch(name: str, value: Value, order: list[For], scalar: bool) -> Statement:
    subscript = tuple(index(x.var) for x in order) + ((index(0),) if scalar else ())
    statement: Statement = Store(name, subscript, value)
    for outer in reversed(order):
        statement = replace(outer, body=(statement,))
    return statement


def _chain(body: Block) -> list[For]:
    """The unrolled and vector loops from here to the multiply-add."""
    found: list[For] = []
    while isinstance(body[-1], For):
        found.append(body[-1])
        body = body[-1].body
    return found


def _innermost(body: Block) -> Store:
    while isinstance(body[-1], For):
        body = body[-1].body
    statement = body[-1]
    assert isinstance(statement, Store)
    return statement


def _run_loop(loops: list[For], load: Load) -> For | None:
    last: Index = load.subscript[-1]
    return next(
        (x for x in loops if x.var == "l" and (x.extent or 0) > 1 and last.coefficient("l") == 1),
        None,
    )


def _insert(
    body: Block,
    loops: list[For],
    level: int,
    new: Block,
    old: Value,
    name: str,
    where: tuple[Index, ...],
) -> Block:
    """The chain of loops with `new` in front of loop `level` and `old` replaced."""
    head, last = body[:-1], body[-1]
    if level == 0:
        chain = map_values((last,), lambda value: _swapped(value, old, Load(name, where)))
        return (*head, *new, *chain)
    assert isinstance(last, For)
    inner = _insert(last.body, loops[1:], level - 1, new, old, name, where)
    return (*head, replace(last, body=inner))
