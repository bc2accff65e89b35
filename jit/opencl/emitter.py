"""The OpenCL C emitter: Programs to source text for OpenCL 1.2 devices, a one-to-one walk.

All cleverness is in the Program.  `range` loops become loops, `unroll` loops are written out,
`vector` loops become float2 .. float16, registers become private variables, one for each vector.

A kernel is `NAME(__global float *BUFFER, int BUFFER_at, ..., int PARAM, ...)`, buffers and
parameters in the Program's order: `BUFFER_at` is the element of the memory object at which the
buffer begins.  Which work item does what is said in `jit.opencl.grid`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from jit.emitter import Emitter, places
from jit.index import At, Atom, Binary, Index, Monomial, Var, index, specialise
from jit.opencl.grid import WORK_GROUP, grid, product
from jit.opencl.primitives import SPELLINGS, definitions, literal, vector_type
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
from jit.target import OpenCLTarget

_HEAD = """\
// Contraction is the Program's decision: fma where it says so, two roundings where it does not.
#pragma OPENCL FP_CONTRACT OFF
"""
_FLOOR = """\
// Division by a positive number, rounded down.
int floor_div(int a, int b) { return a / b - (a % b < 0); }
int floor_mod(int a, int b) { return a % b + (a % b < 0 ? b : 0); }
"""
_LANES = (2, 3, 4, 8, 16)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)


def emit_source(programs: Iterable[Program], target: OpenCLTarget) -> str:
    """The source text of a kernel for every program. Raises ProgramError for what it cannot do."""
    kernels, used = [], set()
    for program in programs:
        emitter = _Kernel(program, target)
        kernels.append(emitter.define())
        used |= emitter.used
    head = [_HEAD, _FLOOR] if any("floor_" in text for text in kernels) else [_HEAD]
    return "\n".join([*head, *(f"{text}\n" for text in definitions(used)), *kernels])


class _Kernel(Emitter):
    def __init__(self, program: Program, target: OpenCLTarget):
        super().__init__(program, target)
        self.grid = grid(program)
        self.used: set[tuple[str, int]] = set()
        self.lines: list[str] = []
        self.depth = 1
        self.buffers = {b.name: b for b in program.buffers}

    # -- the frame ---------------------------------------------------------------------------

    def define(self) -> str:
        """The text of the kernel."""
        names = [self.program.name, *self.buffers, *(p.name for p in self.program.params)]
        wrong = [name for name in names if not _NAME.fullmatch(name)]
        if wrong:
            raise ProgramError(f"{wrong[0]!r} cannot be a name in OpenCL C")
        self.line("const int item = get_global_id(0);")
        for b in self.buffers:
            self.line(f"{b} += {b}_at;")
        # Not an early return: CPU drivers turn work items into a loop, which wants one exit.
        self.braced(f"if (item < {self.integer(product(self.grid))}) ", self.program.body)
        params = (f"const int {p.name}" for p in self.program.params)
        arguments = ",\n    ".join([*map(self.buffer, self.buffers), *params])
        head = f"__kernel __attribute__((reqd_work_group_size({WORK_GROUP}, 1, 1)))"
        body = "\n".join(self.lines)
        return f"{head}\nvoid {self.program.name}(\n    {arguments})\n{{\n{body}\n}}\n"

    def buffer(self, name: str) -> str:
        b = self.buffers[name]
        if b.dtype == "f16":
            raise ProgramError(f"{self.program.name}: {b.name} is of float16, which needs a CPU")
        kind = "float" if b.dtype == "f32" else "int"
        const = "const " if b.role == "read" else ""
        return f"__global {const}{kind} *restrict {name}, const int {name}_at"

    def line(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    # -- statements --------------------------------------------------------------------------

    def braced(self, head: str, body: Block) -> None:
        self.line(f"{head}{{")
        self.depth += 1
        self.block(body)
        self.depth -= 1
        self.line("}")

    def statement(self, s: Statement) -> None:
        match s:
            case Let(name, value):
                self.line(f"const int {name} = {self.integer(value)};")
            case Registers(name, shape):
                self.declare(name, shape)
            case Store():
                self.store(s)
            case If(left, right, then, orelse):
                self.braced(f"if ({self.integer(left)} == {self.integer(right)}) ", then)
                if orelse:
                    self.braced("else ", orelse)
            case For(kind="vector"):
                self.vector_loop(s)
            case For(kind="unroll"):
                self.unroll_loop(s)
            case For(kind="parallel"):
                self.work_item(s)
            case For(var, lo, hi, body):
                low, high = self.integer(lo), self.integer(hi)
                self.braced(f"for (int {var} = {low}; {var} < {high}; ++{var}) ", body)

    def work_item(self, s: For) -> None:
        """The iteration that this work item does: its digit of the item's number."""
        place = next(i for i, loop in enumerate(self.grid) if loop is s)
        inner = product(self.grid[place + 1 :])
        number = "item" if inner.constant == 1 else f"item / {self.operand(inner)}"
        if place:  # the outermost digit is what is left
            number = f"{number} % {self.operand(s.hi)}"
        self.line(f"const int {s.var} = {number};")
        self.block(s.body)

    def unroll_loop(self, s: For) -> None:
        scoped = any(isinstance(inner, (Registers, Let)) for inner in s.body)
        for i in range(self.bound(s.lo), self.bound(s.hi)):
            self.unrolled[s.var] = i
            if scoped:
                self.braced("", s.body)
            else:
                self.block(s.body)
        self.unrolled.pop(s.var, None)

    def vector_loop(self, s: For) -> None:
        if s.extent not in (1, *_LANES):
            raise ProgramError(f"{self.program.name}: loop {s.var} cannot be a vector")
        super().vector_loop(s)

    def declare(self, name: str, shape: tuple[int, ...]) -> None:
        self.shapes[name] = shape
        if shape[-1] not in (1, *_LANES):
            raise ProgramError(f"{self.program.name}: {name} cannot have {shape[-1]} lanes")
        slots = ", ".join(_slot(name, place) for place in places(shape))
        self.line(f"{vector_type(shape[-1])} {slots};")

    # -- values ------------------------------------------------------------------------------

    def store(self, s: Store) -> None:
        lanes = self.lanes
        value = self.value(s.value, lanes)
        if s.buffer in self.shapes:
            self.line(f"{self.variable(s.buffer, s.subscript)} = {value};")
            return
        self.check_store(s.buffer, s.subscript[-1])
        address = self.address(s.buffer, s.subscript)
        if lanes == 1:
            self.line(f"{s.buffer}[{address}] = {value};")
        else:
            self.line(f"vstore{lanes}({value}, 0, {s.buffer} + {address});")

    def value(self, value: Value, lanes: int) -> str:
        match value:
            case Const(number):
                return _splat(literal(number), lanes)
            case Number(expression):
                return _splat(f"(float)({self.integer(expression)})", lanes)
            case Call(name, args):
                self.check_primitive(name)
                self.used.add((name, lanes))
                return SPELLINGS[name](lanes, *(self.value(a, lanes) for a in args))
            case Load(buffer, subscript):
                if buffer in self.shapes:
                    wide = self.shapes[buffer][-1] > 1 and self.vector_stride(subscript[-1]) == 1
                    held = self.variable(buffer, subscript)
                    return held if wide else _splat(held, lanes)
                return self.load(buffer, subscript, lanes)
        raise ProgramError(f"{value!r} is not a value")

    def load(self, buffer: str, subscript: tuple[Index, ...], lanes: int) -> str:
        address = self.address(buffer, subscript)
        if lanes > 1 and self.vector_stride(subscript[-1]) == 1:
            return f"vload{lanes}(0, {buffer} + {address})"
        return _splat(f"{buffer}[{address}]", lanes)

    def variable(self, name: str, subscript: tuple[Index, ...]) -> str:
        """The variable, or the lane of it, that is meant."""
        place, lane, whole = self.register(name, subscript)
        slot = _slot(name, place)
        return slot if whole else f"{slot}.s{lane:x}"

    # -- integers ----------------------------------------------------------------------------

    def address(self, buffer: str, subscript: tuple[Index, ...]) -> str:
        """The element's number in the buffer."""
        strides = self.buffers[buffer].strides
        return self.integer(sum((i * s for i, s in zip(subscript, strides, strict=True)), index(0)))

    def integer(self, value: Index) -> str:
        """The expression in C."""
        value = specialise(value, self.unrolled)
        terms = [self.product(*term) for term in value.terms] or ["0"]
        return " + ".join(terms).replace(" + -", " - ")

    def product(self, monomial: Monomial, coefficient: int) -> str:
        factors = [self.atom(a) for a in monomial]
        if not factors or abs(coefficient) != 1:
            return "*".join([str(coefficient), *factors])
        return ("-" if coefficient < 0 else "") + "*".join(factors)

    def operand(self, value: Index) -> str:
        """The expression as an operand of / or %: in parentheses unless it is one name."""
        text = self.integer(value)
        return text if text.isalnum() else f"({text})"

    def atom(self, atom: Atom) -> str:
        match atom:
            case Var(name):
                return name
            case At(table, inner):
                return f"{table}[{self.address(table, (inner,))}]"
            case Binary(op, left, right):
                if op in ("min", "max"):
                    return f"{op}({self.integer(left)}, {self.integer(right)})"
                return self.divided(op, left, right)
        raise ProgramError(f"{atom!r} is not an atom")

    def divided(self, op: str, left: Index, right: Index) -> str:
        """Floor division or its remainder; C truncates instead."""
        divisor = right.constant
        if divisor is None or divisor & (divisor - 1):
            name = "floor_div" if op == "//" else "floor_mod"
            return f"{name}({self.integer(left)}, {self.integer(right)})"
        if op == "//":
            return f"({self.operand(left)} >> {divisor.bit_length() - 1})"
        return f"({self.operand(left)} & {divisor - 1})"


def _slot(name: str, place: tuple[int, ...]) -> str:
    return "_".join([name, *map(str, place)])


def _splat(scalar: str, lanes: int) -> str:
    return scalar if lanes == 1 else f"({vector_type(lanes)})({scalar})"
