"""Addressing: subscripts become one offset, and what a loop does not change is computed outside.

LLVM runs no passes over the emitted code, so the strength of an address is decided here: each
term of it is summed once, in the innermost real loop that changes it; only constants and the
distances of unrolled rows remain at the access.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache

from jit.index import At, Index, Var, index
from jit.program import (
    Block,
    Buffer,
    For,
    If,
    Let,
    Load,
    Param,
    Program,
    Statement,
    Store,
    map_loads,
    value_names,
    walk,
)


def address(program: Program) -> Program:
    """The program with flat buffers and every address split over the loops it depends on."""
    flat = {b.name: b for b in program.buffers}
    body = _Hoister(flat).block(program.body, ())
    lengths = [Param(_length(b), 0) for b in program.buffers if not _is_flat(b)]
    buffers = tuple(_flatten(b) for b in program.buffers)
    shell = replace(program, params=(*program.params, *lengths), buffers=buffers, body=body)
    return drop_unused_params(shell)


def _length(buffer: Buffer) -> str:
    return f"{buffer.name.upper()}L"


def _is_flat(buffer: Buffer) -> bool:
    return buffer.strides == (index(1),)


def _flatten(buffer: Buffer) -> Buffer:
    if _is_flat(buffer):
        return buffer
    return replace(buffer, shape=(index(_length(buffer)),), strides=(index(1),))


@dataclass
class _Scope:
    """A real (not unrolled, not vector) loop or the program itself, with the Lets it gained.

    `places` are the addresses found directly in it, by buffer and subscript.
    """

    var: str | None
    lets: dict[Index, str] = field(default_factory=dict)
    places: dict[tuple[str, tuple[Index, ...]], Index] = field(default_factory=dict)


class _Hoister:
    def __init__(self, buffers: dict[str, Buffer]):
        self.buffers = buffers
        self.count = 0

    def block(self, body: Block, scopes: tuple[_Scope, ...], var: str | None = None) -> Block:
        """The block, every Let before the first statement that needs it: none is held for long."""
        scope, result = _Scope(var), []
        for s in body:
            known = len(scope.lets)
            made = self.statement(s, (*scopes, scope))
            result += [Let(name, value) for value, name in list(scope.lets.items())[known:]]
            result.append(made)
        return tuple(result)

    def statement(self, s: Statement, scopes: tuple[_Scope, ...]) -> Statement:
        match s:
            case For(var=var, body=body, kind=kind) if kind in ("range", "parallel"):
                return replace(s, body=self.block(body, scopes, var))
            case For(body=body):
                return replace(s, body=tuple(self.statement(x, scopes) for x in body))
            case If(left, right, then, orelse):
                yes = tuple(self.statement(x, scopes) for x in then)
                return If(left, right, yes, tuple(self.statement(x, scopes) for x in orelse))
            case Store(buffer, subscript, value):
                value = map_loads(value, lambda x: self.load(x, scopes))
                return Store(buffer, self.place(buffer, subscript, scopes), value)
        return s

    def load(self, x: Load, scopes: tuple[_Scope, ...]) -> Load:
        return Load(x.buffer, self.place(x.buffer, x.subscript, scopes))

    def place(
        self, buffer: str, subscript: tuple[Index, ...], scopes: tuple[_Scope, ...]
    ) -> tuple[Index, ...]:
        if buffer not in self.buffers:  # registers keep their axes
            return subscript
        known = scopes[-1].places
        if (buffer, subscript) not in known:
            total = index(0)
            for part in map(_distance, subscript, self.buffers[buffer].strides):
                total = total + part
            known[buffer, subscript] = self.hoist(total, scopes)
        return (known[buffer, subscript],)

    def hoist(self, total: Index, scopes: tuple[_Scope, ...]) -> Index:
        """Sum the terms scope by scope, outermost first; keep constants and unrolled terms."""
        loops = {scope.var: depth for depth, scope in enumerate(scopes) if scope.var}
        per_depth: list[Index] = [index(0)] * len(scopes)
        here = index(0)
        for term in total.terms:
            part = Index((term,))
            free = part.names - loops.keys()
            if not term[0] or any(not name.isupper() for name in free):
                here = here + self.scaled(part, scopes[0])
            else:
                depth = max((loops[name] for name in part.names & loops.keys()), default=0)
                per_depth[depth] = per_depth[depth] + part
        running = index(0)
        for scope, part in zip(scopes[1:], per_depth[1:], strict=True):
            if part.terms:
                running = self.let(running + part, scope)
        if per_depth[0].terms:
            # Accesses that differ by what no loop changes share what the loops change.
            here = here + self.let(per_depth[0], scopes[0])
        return running + here

    def scaled(self, part: Index, top: _Scope) -> Index:
        """A term of an unrolled variable, its product of parameters computed once."""
        total = index(0)
        for monomial, coefficient in part.terms:
            fixed = tuple(a for a in monomial if isinstance(a, Var) and a.name.isupper())
            rest = tuple(a for a in monomial if a not in fixed)
            product = Index(((fixed, 1),))
            if len(fixed) > 1:
                product = self.let(product, top)
            total = total + Index(((rest, coefficient),)) * product
        return total

    def let(self, value: Index, scope: _Scope) -> Index:
        """A name for the value in the scope; names and plain products need none."""
        simple = len(value.terms) == 1 and len(value.terms[0][0]) == 1
        if simple and value.terms[0][1] == 1 and not isinstance(value.terms[0][0][0], At):
            return value
        if value not in scope.lets:
            scope.lets[value] = f"a{self.count}"
            self.count += 1
        return index(scope.lets[value])


@lru_cache(maxsize=4096)
def _distance(subscript: Index, stride: Index) -> Index:
    return subscript * stride


def drop_unused_params(program: Program) -> Program:
    """The program without parameters that nothing mentions."""
    used: set[str] = set()
    for s in walk(program.body):
        match s:
            case For(lo=lo, hi=hi):
                used |= lo.names | hi.names
            case If(left, right):
                used |= left.names | right.names
            case Let(_, value):
                used |= value.names
            case Store(_, subscript, value):
                used |= value_names(value).union(*(i.names for i in subscript))
    for b in program.buffers:
        used = used.union(*(i.names for i in (*b.shape, *b.strides)))
    return replace(program, params=tuple(p for p in program.params if p.name in used))
