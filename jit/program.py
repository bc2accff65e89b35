"""Program: loops over buffers, the level at which layers are optimised.

The grammar of the form; `str(program)` writes it as a subset of Python's own syntax and
`jit.program_text.parse` reads it back to an equal value:

    program   := def NAME(param*, buffer*): statement+
    param     := NAME: param(LO, HI, MULTIPLE)               an integer, LO <= it <= HI
    buffer    := NAME: ROLE(DTYPE, (extent, ...), (stride, ...))
    ROLE      := read | write | update                       update: read and written
    DTYPE     := f32 | i32 | f16                            f16: read through `widen` alone
    statement := for NAME in KIND(index, index): statement+
               | if index == index: statement+ [else: statement+]
               | NAME = index                                a `Let`: an integer, computed once
               | NAME = registers(INT, ...)                  local values, the last axis a vector
               | NAME[index, ...] = value
    KIND      := range | parallel | unroll | vector
    value     := FLOAT | number(index) | NAME[index, ...] | PRIMITIVE(value, ...)

FLOAT is as Python writes it, -1.5, inf and nan among them.  A block without statements is `pass`.
All kinds of loop mean the same to the interpreter; they tell the emitter how to walk.  A `vector`
loop is innermost, starts at 0, has a constant extent, and every subscript in it depends on its
variable with stride 1 in the last place or not at all; no lane sees what another one stores.  An
`unroll` loop has constant bounds, tables not among them, and no name is declared twice in a scope.
Registers are subscripted by constants once unrolled, but for a vector variable in the last place.
They may also be read across, with the variable alone in the last place but one and running over
all of that axis: so a tile is turned over, written along one axis and read along the other.
Index expressions are in `jit.index`, primitives in `jit.primitives`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from jit.index import Index, index

Kind = Literal["range", "parallel", "unroll", "vector"]
Role = Literal["read", "write", "update"]
Dtype = Literal["f32", "i32", "f16"]
Floats = Literal["f32", "f16"]
"""What floats may be stored as; in registers they are all f32."""
BYTES: Mapping[str, int] = {"f32": 4, "i32": 4, "f16": 2}
"""Of an element, by the type of its buffer."""


class ProgramError(ValueError):
    """A Program that breaks a rule; the message names the program, the place and the rule."""


@dataclass(frozen=True)
class Param:
    """An integer given at each call, a multiple of `multiple` between `lo` and `hi`."""

    name: str
    lo: int = 0
    hi: int = 2**31 - 1
    multiple: int = 1


@dataclass(frozen=True)
class Buffer:
    """Memory seen as an array: extents and strides, both in elements."""

    name: str
    role: Role
    dtype: Dtype
    shape: tuple[Index, ...]
    strides: tuple[Index, ...]


@dataclass(frozen=True)
class Const:
    """A float32 literal."""

    value: float

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Const) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __str__(self) -> str:
        return repr(float(self.value))


@dataclass(frozen=True)
class Number:
    """An integer expression as a float32 value."""

    index: Index


@dataclass(frozen=True)
class Load:
    """An element of a buffer or of registers."""

    buffer: str
    subscript: tuple[Index, ...]


@dataclass(frozen=True)
class Call:
    """A primitive applied to values."""

    primitive: str
    args: tuple[Value, ...]


Value = Const | Number | Load | Call


@dataclass(frozen=True)
class Store:
    """buffer[subscript] = value."""

    buffer: str
    subscript: tuple[Index, ...]
    value: Value


@dataclass(frozen=True)
class Let:
    """An integer computed once, visible to the statements that follow in the same block."""

    name: str
    value: Index


@dataclass(frozen=True)
class Registers:
    """Local values visible to the statements that follow in the same block; uninitialised."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class If:
    """A uniform branch on left == right."""

    left: Index
    right: Index
    then: Block
    orelse: Block = ()


@dataclass(frozen=True)
class For:
    """for var in [lo, hi)."""

    var: str
    lo: Index
    hi: Index
    body: Block
    kind: Kind = "range"

    @property
    def extent(self) -> int | None:
        """The number of iterations if it is a constant."""
        return (self.hi - self.lo).constant


Statement = Store | Let | Registers | If | For
Block = tuple[Statement, ...]


@dataclass(frozen=True)
class Program:
    """One kernel: integer parameters, buffers, statements."""

    name: str
    params: tuple[Param, ...]
    buffers: tuple[Buffer, ...]
    body: Block

    def buffer(self, name: str) -> Buffer:
        """The buffer of that name."""
        return next(b for b in self.buffers if b.name == name)

    def __str__(self) -> str:
        from jit.program_text import show

        return show(self)


def loop(var: str, extent: Index | int | str, *body: Statement, kind: Kind = "range") -> For:
    """for var in [0, extent)."""
    return For(var, index(0), index(extent), tuple(body), kind)


def nest(loops: list[tuple[str, Index]], *body: Statement) -> Statement:
    """The statements inside loops given from the outermost to the innermost as (var, extent)."""
    block = tuple(body)
    for var, extent in reversed(loops):
        block = (loop(var, extent, *block),)
    return block[0]


def call(primitive: str, *args: Value) -> Call:
    """A primitive applied to values."""
    return Call(primitive, args)


def read(dtype: Floats, buffer: str, subscript: tuple[Index, ...]) -> Value:
    """An element of a buffer of that type as a float32 value."""
    load = Load(buffer, subscript)
    return call("widen", load) if dtype == "f16" else load


def loads(value: Value) -> Iterator[Load]:
    """Every Load in a value."""
    match value:
        case Load():
            yield value
        case Call(_, args):
            for arg in args:
                yield from loads(arg)


def value_names(value: Value) -> frozenset[str]:
    """Every integer variable that a value mentions."""
    match value:
        case Number(expression):
            return expression.names
        case Load(_, subscript):
            return frozenset().union(*(i.names for i in subscript))
        case Call(_, args):
            return frozenset().union(*(value_names(a) for a in args))
    return frozenset()


def reads_across(lane: str, subscript: tuple[Index, ...]) -> bool:
    """Whether the lanes are those of different registers: the place before the last is the lane."""
    *outer, row, last = (index(0), *subscript)
    return row == index(lane) and not any(lane in i.names for i in (*outer, last))


def walk(block: Block) -> Iterator[Statement]:
    """Every statement of a block, outer before inner."""
    for statement in block:
        yield statement
        match statement:
            case For(body=body):
                yield from walk(body)
            case If(then=then, orelse=orelse):
                yield from walk(then)
                yield from walk(orelse)


def map_values(block: Block, change: Callable[[Value], Value]) -> Block:
    """The block with `change` applied to the value of every Store."""
    return map_stores(block, lambda store: replace(store, value=change(store.value)))


def map_stores(block: Block, change: Callable[[Store], Store]) -> Block:
    """The block with `change` applied to every Store."""

    def visit(statement: Statement) -> Statement:
        match statement:
            case Store():
                return change(statement)
            case For(body=body):
                return replace(statement, body=tuple(visit(s) for s in body))
            case If(then=then, orelse=orelse):
                return replace(
                    statement,
                    then=tuple(visit(s) for s in then),
                    orelse=tuple(visit(s) for s in orelse),
                )
        return statement

    return tuple(visit(statement) for statement in block)


def map_loads(value: Value, change: Callable[[Load], Value]) -> Value:
    """The value with `change` applied to every Load."""
    match value:
        case Load():
            return change(value)
        case Call(name, args):
            return Call(name, tuple(map_loads(arg, change) for arg in args))
    return value
