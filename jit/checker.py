"""The checker of Programs: refuses an ill-formed one with the statement and the rule broken.

The emitters rely on these rules; the interpreter checks at run time what cannot be known before
(bounds, reads of what was never written).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from jit.index import Index
from jit.primitives import PRIMITIVES
from jit.program import (
    Block,
    Call,
    For,
    If,
    Let,
    Load,
    Number,
    Program,
    ProgramError,
    Registers,
    Statement,
    Store,
    Value,
    loads,
    reads_across,
)
from jit.program_text import show_block


@dataclass(frozen=True)
class _Scope:
    """What a statement may mention: integers, registers with their shapes, loops around it."""

    integers: frozenset[str]
    registers: dict[str, tuple[int, ...]] = field(default_factory=dict)
    unrolled: frozenset[str] = frozenset()
    vector: tuple[str, int] | None = None


def check(program: Program) -> None:
    """Raise ProgramError, naming the statement and the rule, unless the program is well-formed."""
    names = [p.name for p in program.params] + [b.name for b in program.buffers]
    if len(set(names)) != len(names):
        raise ProgramError(f"{program.name}: a parameter or buffer is declared twice")
    for p in program.params:
        if not p.name.isupper() or not 0 <= p.lo <= p.hi or p.multiple < 1:
            raise ProgramError(f"{program.name}: {p} must be in capitals, with 0 <= lo <= hi")
    for b in program.buffers:
        if len(b.shape) != len(b.strides):
            raise ProgramError(f"{program.name}: {b.name} has other strides than extents")
    _Checker(program).block(program.body, _Scope(frozenset(p.name for p in program.params)))


class _Checker:
    def __init__(self, program: Program):
        self.program = program
        self.buffers = {b.name: b for b in program.buffers}

    def fail(self, s: Statement, rule: str) -> ProgramError:
        return ProgramError(f"{self.program.name}: `{show_block((s,))[0]}`: {rule}")

    def block(self, body: Block, scope: _Scope) -> None:
        for s in body:
            scope = self.statement(s, scope)

    def statement(self, s: Statement, scope: _Scope) -> _Scope:
        """Check one statement; the scope that the next one sees."""
        if scope.vector and not isinstance(s, Store):
            raise self.fail(s, "only stores may stand in a vector loop")
        match s:
            case Let(name, value):
                self.integer(s, value, scope)
                self.fresh(s, name, scope)
                return replace(scope, integers=scope.integers | {name})
            case Registers(name, shape):
                self.fresh(s, name, scope)
                if not shape or min(shape) < 1:
                    raise self.fail(s, "every axis of registers is 1 or more")
                return replace(scope, registers={**scope.registers, name: shape})
            case If(left, right, then, orelse):
                self.integer(s, left, scope)
                self.integer(s, right, scope)
                self.block(then, scope)
                self.block(orelse, scope)
            case Store():
                self.store(s, scope)
            case For():
                self.loop(s, scope)
        return scope

    def fresh(self, s: Statement, name: str, scope: _Scope) -> None:
        taken = name in scope.integers or name in scope.registers or name in self.buffers
        if name.isupper() or taken:
            raise self.fail(s, f"{name} is in capitals or already has a meaning here")

    def loop(self, s: For, scope: _Scope) -> None:
        self.integer(s, s.lo, scope)
        self.integer(s, s.hi, scope)
        self.fresh(s, s.var, scope)
        inner = replace(scope, integers=scope.integers | {s.var})
        if s.kind == "unroll":
            if not (_constant(s.lo, scope.unrolled) and _constant(s.hi, scope.unrolled)):
                raise self.fail(s, "the bounds of an unrolled loop are constants")
            inner = replace(inner, unrolled=inner.unrolled | {s.var})
        elif s.kind == "vector":
            if s.lo.constant != 0 or not (s.extent or 0) >= 1:
                raise self.fail(s, "a vector loop runs from 0 to a constant")
            self.apart(s)
            inner = replace(inner, vector=(s.var, s.extent or 0))
        elif scope.unrolled and s.kind == "parallel":
            raise self.fail(s, "a parallel loop inside an unrolled one")
        self.block(s.body, inner)

    def apart(self, s: For) -> None:
        """All lanes of a statement pass before the next one: none may see another's result."""
        stores = [x for x in s.body if isinstance(x, Store)]
        touched = [(x.buffer, x.subscript) for x in stores]
        touched += [(load.buffer, load.subscript) for x in stores for load in loads(x.value)]
        for x in stores:
            for buffer, (*outer, last) in touched:
                same = buffer == x.buffer and tuple(outer) == x.subscript[:-1]
                across = buffer == x.buffer and any(s.var in i.names for i in outer)
                if across or (same and last != x.subscript[-1]):
                    raise self.fail(x, f"a lane touches what another one stores to {buffer}")

    def store(self, s: Store, scope: _Scope) -> None:
        if s.buffer in self.buffers:
            buffer = self.buffers[s.buffer]
            if buffer.role == "read" or buffer.dtype != "f32":
                raise self.fail(s, f"{s.buffer} is not a float buffer that may be written")
        elif s.buffer not in scope.registers:
            raise self.fail(s, f"no buffer or registers {s.buffer}")
        self.subscript(s, s.buffer, s.subscript, scope, store=True)
        self.value(s, s.value, scope)

    def value(self, s: Store, value: Value, scope: _Scope) -> None:
        match value:
            case Number(expression):
                self.integer(s, expression, scope)
                if scope.vector and scope.vector[0] in expression.names:
                    raise self.fail(s, "a number that differs from lane to lane")
            case Load(buffer, subscript):
                known = self.buffers.get(buffer)
                if known is None and buffer not in scope.registers:
                    raise self.fail(s, f"no buffer or registers {buffer}")
                if known is not None and known.dtype != "f32":
                    what = "a table, not a value" if known.dtype == "i32" else "not widened"
                    raise self.fail(s, f"{buffer} is {what}")
                self.subscript(s, buffer, subscript, scope, store=False)
            case Call("widen", (Load(buffer, subscript),)):
                if buffer not in self.buffers or self.buffers[buffer].dtype != "f16":
                    raise self.fail(s, f"{buffer} is no buffer of float16")
                self.subscript(s, buffer, subscript, scope, store=False)
            case Call("widen"):
                raise self.fail(s, "only what is loaded is widened")
            case Call(name, args):
                if name not in PRIMITIVES or PRIMITIVES[name].arity != len(args):
                    raise self.fail(s, f"no primitive {name} of {len(args)} arguments")
                for arg in args:
                    self.value(s, arg, scope)

    def subscript(
        self, s: Store, name: str, subscript: tuple[Index, ...], scope: _Scope, *, store: bool
    ) -> None:
        shape = self.buffers[name].shape if name in self.buffers else scope.registers[name]
        if len(subscript) != len(shape):
            raise self.fail(s, f"{name} has {len(shape)} axes")
        for i in subscript:
            self.integer(s, i, scope)
        if name in scope.registers:
            known = scope.unrolled | ({scope.vector[0]} if scope.vector else set())
            if not all(_constant(i, known) for i in subscript):
                raise self.fail(s, f"registers {name} are subscripted by what only running tells")
        if scope.vector:
            self.lanes(s, name, subscript, scope, store)

    def lanes(
        self, s: Store, name: str, subscript: tuple[Index, ...], scope: _Scope, store: bool
    ) -> None:
        assert scope.vector is not None
        (lane, extent), (*outer, last) = scope.vector, subscript
        shape = scope.registers.get(name, ())
        if not store and reads_across(lane, subscript) and shape[-2:-1] == (extent,):
            return
        if any(lane in i.names for i in outer) or last.coefficient(lane) not in (0, 1):
            raise self.fail(s, f"the lanes of {name} are not contiguous")
        if store and extent > 1 and last.coefficient(lane) == 0:
            raise self.fail(s, f"all lanes are stored to one place of {name}")

    def integer(self, s: Statement, value: Index, scope: _Scope) -> None:
        unknown = value.names - scope.integers
        if unknown:
            raise self.fail(s, f"{', '.join(sorted(unknown))} has no meaning here")
        for table in value.tables:
            if table not in self.buffers or self.buffers[table].dtype != "i32":
                raise self.fail(s, f"{table} is not a table")


def _constant(value: Index, known: frozenset[str]) -> bool:
    """True if the value is known once the variables in `known` are: no table is read."""
    return value.names <= known and not value.tables
