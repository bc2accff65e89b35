"""The meaning of a Program, in NumPy scalars: slow, obvious, and strict.

Every element of every buffer and register carries an initialised bit.  Reading what was never
written, an index outside its axis, writing to a `read` buffer: each raises a ProgramError that
names the statement.  To interpret a real layer, shrink it: same decisions, at most 10^5 MACs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from jit.index import Index, evaluator
from jit.primitives import PRIMITIVES
from jit.program import (
    Block,
    Call,
    Const,
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
)
from jit.program_text import show_block

Env = dict[str, int]


@dataclass
class Memory:
    """A flat array with an initialised bit per element; `origin` is where the buffer begins."""

    data: np.ndarray
    initialised: np.ndarray
    origin: int = 0

    @classmethod
    def holding(cls, array: np.ndarray, origin: int = 0) -> Memory:
        """Memory whose elements are all written."""
        flat = np.array(array).reshape(-1)
        return cls(flat, np.ones(flat.shape, bool), origin)

    @classmethod
    def blank(cls, size: int, dtype: type = np.float64, origin: int = 0) -> Memory:
        """Memory of which nothing was written; floats are NaN so that a leak shows."""
        fill = np.nan if np.issubdtype(dtype, np.floating) else -(2**30)
        return cls(np.full(size, fill, dtype), np.zeros(size, bool), origin)


def interpret(program: Program, params: Mapping[str, int], memory: Mapping[str, Memory]) -> None:
    """Run the program on the memory, in place."""
    _Interpreter(program, memory).run(dict(params))


class _Array:
    """A buffer or registers at run time: strides and extents are integers by now."""

    def __init__(self, name: str, memory: Memory, shape: list[int], strides: list[int]):
        self.name, self.memory, self.shape, self.strides = name, memory, shape, strides

    def locate(self, subscript: list[int]) -> int:
        offset = self.memory.origin
        for axis, (i, extent, stride) in enumerate(
            zip(subscript, self.shape, self.strides, strict=True)
        ):
            if not 0 <= i < extent:
                raise ProgramError(f"{self.name}{subscript}: axis {axis} has extent {extent}")
            offset += i * stride
        if not 0 <= offset < len(self.memory.data):
            raise ProgramError(f"{self.name}{subscript}: offset {offset} is outside the memory")
        return offset

    def load(self, subscript: list[int]) -> float:
        offset = self.locate(subscript)
        if not self.memory.initialised[offset]:
            raise ProgramError(f"{self.name}{subscript} is read but was never written")
        return self.memory.data[offset]

    def store(self, subscript: list[int], value: float) -> None:
        offset = self.locate(subscript)
        self.memory.data[offset] = value
        self.memory.initialised[offset] = True


class _Interpreter:
    def __init__(self, program: Program, memory: Mapping[str, Memory]):
        self.program, self.memory = program, memory
        self.arrays: dict[str, _Array] = {}
        self.roles = {b.name: b.role for b in program.buffers}

    def run(self, env: Env) -> None:
        for p in self.program.params:
            if p.name not in env:
                raise ProgramError(f"{self.program.name}: parameter {p.name} is missing")
            if not p.lo <= env[p.name] <= p.hi or env[p.name] % p.multiple:
                raise ProgramError(f"{self.program.name}: {p.name}={env[p.name]} breaks {p}")
        for b in self.program.buffers:
            shape, strides = ([self.integer(e)(env) for e in es] for es in (b.shape, b.strides))
            self.arrays[b.name] = _Array(b.name, self.memory[b.name], shape, strides)
        self.block(self.program.body)(env)

    def table(self, name: str, i: int) -> int:
        return int(self.arrays[name].load([i]))

    def integer(self, value: Index) -> Callable[[Env], int]:
        return evaluator(value, self.table)

    def block(self, body: Block) -> Callable[[Env], None]:
        steps = [self.statement(s) for s in body]

        def execute(env: Env) -> None:
            for step in steps:
                step(env)

        return execute

    def statement(self, statement: Statement) -> Callable[[Env], None]:
        match statement:
            case For(var, lo, hi, body):
                return self.loop(var, self.integer(lo), self.integer(hi), self.block(body))
            case If(left, right, then, orelse):
                a, b = self.integer(left), self.integer(right)
                yes, no = self.block(then), self.block(orelse)
                return lambda env: yes(env) if a(env) == b(env) else no(env)
            case Let(name, value):
                compute = self.integer(value)
                return lambda env: env.__setitem__(name, compute(env))
            case Registers(name, shape):
                return lambda _: self.declare(name, shape)
            case Store():
                return self.store(statement)
        raise ProgramError(f"{statement!r} is not a statement")

    def loop(
        self,
        var: str,
        lo: Callable[[Env], int],
        hi: Callable[[Env], int],
        body: Callable[[Env], None],
    ) -> Callable[[Env], None]:
        def execute(env: Env) -> None:
            for i in range(lo(env), hi(env)):
                env[var] = i
                body(env)

        return execute

    def declare(self, name: str, shape: tuple[int, ...]) -> None:
        size = int(np.prod(shape, dtype=int))
        strides = [int(np.prod(shape[i + 1 :], dtype=int)) for i in range(len(shape))]
        self.arrays[name] = _Array(name, Memory.blank(size), list(shape), strides)

    def store(self, statement: Store) -> Callable[[Env], None]:
        if self.roles.get(statement.buffer) == "read":
            raise ProgramError(f"{self.program.name}: {statement.buffer} is `read`, not written")
        subscript = [self.integer(i) for i in statement.subscript]
        value = self.value(statement.value)

        def execute(env: Env) -> None:
            try:
                self.arrays[statement.buffer].store([i(env) for i in subscript], value(env))
            except ProgramError as error:
                where = show_block((statement,))[0]
                raise ProgramError(f"{self.program.name}: {error}, at `{where}`") from None

        return execute

    def value(self, value: Value) -> Callable[[Env], float]:
        match value:
            case Const(number):
                return lambda _: number
            case Number(expression):
                compute = self.integer(expression)
                return lambda env: float(compute(env))
            case Load(buffer, subscript):
                indices = [self.integer(i) for i in subscript]
                return lambda env: self.arrays[buffer].load([i(env) for i in indices])
            case Call(name, args):
                meaning = PRIMITIVES[name].meaning
                operands = [self.value(a) for a in args]
                return lambda env: meaning(*(operand(env) for operand in operands))
        raise ProgramError(f"{value!r} is not a value")
