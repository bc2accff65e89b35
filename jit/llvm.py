"""The LLVM emitter: Programs to IR text, a one-to-one walk, and IR to object code.

All cleverness is in the Program.  `range` loops become loops, `unroll` loops are written out,
`vector` loops become vector instructions, registers become SSA values (with phis where a loop or
a branch changes them).  No IR pass is run, only code generation, and no inline assembly is
emitted, for LLVM's aarch64 object emission aborts the process on it.

A kernel is `void NAME(ptr buffers, ptr params)`: `buffers` points to the buffers' addresses,
`params` to the parameters as i64, both in the Program's order; after the parameters come begin
and end of every `parallel` loop, the outermost first, which stand for the loop's own bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import llvmlite.binding as binding

from jit.emitter import Emitter, Place, places
from jit.index import At, Atom, Binary, Index, Monomial, Var, index, specialise
from jit.llvm_primitives import SPELLINGS, constant, vector_type
from jit.llvm_transpose import transposed
from jit.program import (
    BYTES,
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
    reads_across,
    walk,
)
from jit.shares import parallel_loops
from jit.target import LlvmTarget, target_machine

_ELEMENTS = {"f32": "float", "i32": "i32", "f16": "half"}
_ATTRIBUTES = 'nounwind "no-builtins"'


def emit_ir(programs: Iterable[Program], target: LlvmTarget) -> str:
    """One module with a function for every program. Raises ProgramError for what it cannot do."""
    functions, declared = [], set()
    for program in programs:
        emitter = _Function(program, target)
        functions.append(emitter.define())
        declared |= emitter.declared
    head = f'target triple = "{target.triple}"\n'
    return "\n".join([head, *functions, *sorted(declared), ""])


def emit_object(ir: str, target: LlvmTarget, optimisation: int = 2) -> bytes:
    """The object file of an IR module. LLVM verifies the module first."""
    module = binding.parse_assembly(ir)
    module.verify()
    return target_machine(target, optimisation).emit_object(module)


def emit_assembly(ir: str, target: LlvmTarget) -> str:
    """The assembly of an IR module, for people."""
    return target_machine(target).emit_assembly(binding.parse_assembly(ir))


Slots = dict[Place, str]
Key = tuple[str, Index, tuple[str, ...]]
"""A computed value: the buffer it points into or "", the expression, what its names stand for."""


class _Function(Emitter):
    """One kernel as a function in LLVM IR."""

    def __init__(self, program: Program, target: LlvmTarget):
        super().__init__(program, target)
        self.arch, self.fused = target.arch, target.has("fma")
        self.declared: set[str] = set()
        self.lines: list[str] = []
        self.names = 0
        self.label = "entry"
        self.known: list[dict[Key, str]] = [{}]
        self.integers: dict[str, str] = {}
        self.parallel = [loop.var for loop in parallel_loops(program)]
        self.registers: dict[str, Slots] = {}
        self.dtypes: Mapping[str, str] = {b.name: b.dtype for b in program.buffers}

    # -- the frame ---------------------------------------------------------------------------

    def define(self) -> str:
        """The text of the function."""
        for slot, p in enumerate(self.program.params):
            address = self.op(f"getelementptr i64, ptr %params, i64 {slot}")
            self.integers[p.name] = self.op(f"load i64, ptr {address}")
        for slot, b in enumerate(self.program.buffers):
            address = self.op(f"getelementptr ptr, ptr %buffers, i64 {slot}")
            self.lines.append(f"  %buffer.{b.name} = load ptr, ptr {address}")
        self.block(self.program.body)
        name = self.program.name
        head = f"define hidden void @{name}(ptr %buffers, ptr %params)"
        body = "\n".join(["entry:", *self.lines, "  ret void"])
        return f"{head} {_ATTRIBUTES} {{\n{body}\n}}\n"

    def op(self, text: str) -> str:
        """Append `%t = text`; return the name."""
        name = f"%t{self.names}"
        self.names += 1
        self.lines.append(f"  {name} = {text}")
        return name

    def new_label(self, kind: str) -> str:
        self.names += 1
        return f"{kind}{self.names}"

    def start(self, label: str) -> None:
        self.lines.append(f"{label}:")
        self.label = label

    # -- statements --------------------------------------------------------------------------

    def scoped(self, body: Block) -> None:
        """A block whose computed values are not visible afterwards (they do not dominate)."""
        self.known.append({})
        self.block(body)
        self.known.pop()

    def statement(self, s: Statement) -> None:
        match s:
            case Let(name, value):
                self.integers[name] = self.integer(value)
            case Registers(name, shape):
                self.shapes[name] = shape
                self.registers[name] = dict.fromkeys(places(shape), "poison")
            case Store():
                self.store(s)
            case If():
                self.branch(s)
            case For(kind="vector"):
                self.vector_loop(s)
            case For(kind="unroll"):
                self.unroll_loop(s)
            case For():
                self.real_loop(s)

    def unroll_loop(self, s: For) -> None:
        lo, hi = self.bound(s.lo), self.bound(s.hi)
        for i in range(lo, hi):
            self.unrolled[s.var] = i
            self.block(s.body)
        self.unrolled.pop(s.var, None)

    def real_loop(self, s: For) -> None:
        if s.kind == "parallel":
            lo, hi = self.share(s.var)
        else:
            lo, hi = self.integer(s.lo), self.integer(s.hi)
        carried = self.carried(s.body)
        body, done, before = self.new_label("loop"), self.new_label("done"), self.label
        enter = self.op(f"icmp slt i64 {lo}, {hi}")
        self.lines.append(f"  br i1 {enter}, label %{body}, label %{done}")
        self.start(body)
        at_entry = {key: self.registers[key[0]][key[1]] for key in carried}
        header = len(self.lines)
        counter = self.name_of("i")
        phis = {key: self.name_of("p") for key in carried}
        for (name, slot), phi in phis.items():
            self.registers[name][slot] = phi
        self.integers[s.var] = counter
        self.scoped(s.body)
        following = self.op(f"add nsw i64 {counter}, 1")
        again = self.op(f"icmp slt i64 {following}, {hi}")
        latch = self.label
        self.lines.append(f"  br i1 {again}, label %{body}, label %{done}")
        at_end = {key: self.registers[key[0]][key[1]] for key in carried}
        head = [f"  {counter} = phi i64 [ {lo}, %{before} ], [ {following}, %{latch} ]"]
        head += [
            f"  {phis[k]} = phi {self.type_of(k[0])} [ {at_entry[k]}, %{before} ], "
            f"[ {at_end[k]}, %{latch} ]"
            for k in carried
        ]
        self.lines[header:header] = head
        self.start(done)
        for key in carried:
            self.merge(key, (at_entry[key], before), (at_end[key], latch))

    def share(self, loop: str) -> tuple[str, str]:
        """The bounds of a parallel loop, which follow the parameters."""
        first = len(self.program.params) + 2 * self.parallel.index(loop)
        places = [self.op(f"getelementptr i64, ptr %params, i64 {first + end}") for end in (0, 1)]
        lo, hi = (self.op(f"load i64, ptr {place}") for place in places)
        return lo, hi

    def branch(self, s: If) -> None:
        left, right = self.integer(s.left), self.integer(s.right)
        yes, no, done = (self.new_label(k) for k in ("then", "else", "join"))
        condition = self.op(f"icmp eq i64 {left}, {right}")
        self.lines.append(f"  br i1 {condition}, label %{yes}, label %{no}")
        before = {name: dict(slots) for name, slots in self.registers.items()}
        ends: list[tuple[dict[str, Slots], str]] = []
        for label, body in ((yes, s.then), (no, s.orelse)):
            self.registers = {name: dict(slots) for name, slots in before.items()}
            self.start(label)
            self.scoped(body)
            self.lines.append(f"  br label %{done}")
            ends.append((self.registers, self.label))
        self.registers = {name: dict(slots) for name, slots in before.items()}
        self.start(done)
        (then, then_label), (orelse, else_label) = ends
        for key in self.carried((*s.then, *s.orelse)):
            name, slot = key
            self.merge(key, (then[name][slot], then_label), (orelse[name][slot], else_label))

    def merge(
        self, key: tuple[str, tuple[int, ...]], a: tuple[str, str], b: tuple[str, str]
    ) -> None:
        """A register after two paths meet."""
        name, slot = key
        t = self.type_of(name)
        self.registers[name][slot] = (
            a[0] if a[0] == b[0] else self.op(f"phi {t} [ {a[0]}, %{a[1]} ], [ {b[0]}, %{b[1]} ]")
        )

    def carried(self, body: Block) -> list[tuple[str, tuple[int, ...]]]:
        """The registers declared outside that a block stores to."""
        stored = {s.buffer for s in walk(body) if isinstance(s, Store)}
        inside = {s.name for s in walk(body) if isinstance(s, Registers)}
        names = [n for n in self.registers if n in stored - inside]
        return [(name, slot) for name in names for slot in self.registers[name]]

    def name_of(self, kind: str) -> str:
        self.names += 1
        return f"%{kind}{self.names}"

    def type_of(self, registers: str) -> str:
        return vector_type(self.shapes[registers][-1])

    # -- values ------------------------------------------------------------------------------

    def store(self, s: Store) -> None:
        lanes = self.lanes
        value = self.value(s.value, lanes)
        if s.buffer in self.registers:
            slot, lane, whole = self.register(s.buffer, s.subscript)
            if not whole:
                old, t = self.registers[s.buffer][slot], self.type_of(s.buffer)
                value = self.op(f"insertelement {t} {old}, float {value}, i32 {lane}")
            self.registers[s.buffer][slot] = value
            return
        self.check_store(s.buffer, s.subscript[-1])
        address = self.address(s.buffer, s.subscript)
        self.lines.append(f"  store {vector_type(lanes)} {value}, ptr {address}, align 4")

    def value(self, value: Value, lanes: int) -> str:
        match value:
            case Const(number):
                return constant(number, lanes)
            case Number(expression):
                number = self.op(f"sitofp i64 {self.integer(expression)} to float")
                return self.splat(number, lanes)
            case Call("widen", (Load(buffer, subscript),)):
                self.check_primitive("widen")
                return self.load(buffer, subscript, lanes)
            case Call(name, args):
                self.check_primitive(name)
                operands = [self.value(a, lanes) for a in args]
                return SPELLINGS[name](self, lanes, *operands)
            case Load(buffer, subscript):
                if buffer in self.registers:
                    return self.load_register(buffer, subscript, lanes)
                return self.load(buffer, subscript, lanes)
        raise ProgramError(f"{value!r} is not a value")

    def load(self, buffer: str, subscript: tuple[Index, ...], lanes: int) -> str:
        wide = lanes > 1 and self.vector_stride(subscript[-1]) == 1
        dtype, width = self.dtypes[buffer], lanes if wide else 1
        t, address = vector_type(width, _ELEMENTS[dtype]), self.address(buffer, subscript)
        loaded = self.op(f"load {t}, ptr {address}, align {BYTES[dtype]}")
        if dtype == "f16":
            loaded = SPELLINGS["widen"](self, width, loaded)
        return loaded if wide else self.splat(loaded, lanes)

    def load_register(self, name: str, subscript: tuple[Index, ...], lanes: int) -> str:
        if self.vector is not None and reads_across(self.vector[0], subscript):
            return self.across(name, subscript)
        slot, lane, whole = self.register(name, subscript)
        held = self.registers[name][slot]
        if whole:
            return self.splat(held, lanes if self.shapes[name][-1] == 1 else 1)
        return self.splat(self.op(f"extractelement {self.type_of(name)} {held}, i32 {lane}"), lanes)

    def across(self, name: str, subscript: tuple[Index, ...]) -> str:
        """A lane of every register of an axis; the first such read turns them all over."""
        *outer, _, last = subscript
        place, lane = tuple(self.bound(i) for i in outer), self.bound(last)
        rows = tuple(self.registers[name][*place, row] for row in range(self.lanes))

        def compute() -> str:
            columns = transposed(self, rows, self.shapes[name][-1])
            self.known[-1] |= {(name, index(i), rows): c for i, c in enumerate(columns)}
            return columns[lane]

        return self.remember((name, index(lane), rows), compute)

    def splat(self, scalar: str, lanes: int) -> str:
        if lanes == 1:
            return scalar
        t = vector_type(lanes)
        first = self.op(f"insertelement {t} poison, float {scalar}, i32 0")
        mask = vector_type(lanes, "i32")
        return self.op(f"shufflevector {t} {first}, {t} poison, {mask} zeroinitializer")

    # -- integers ----------------------------------------------------------------------------

    def address(self, buffer: str, subscript: tuple[Index, ...]) -> str:
        """A pointer: the varying part is shared by all accesses that differ by a constant."""
        strides = self.program.buffer(buffer).strides
        flat = len(strides) == 1 and strides[0].constant == 1
        terms = zip(subscript, strides, strict=True)
        total = subscript[0] if flat else sum((i * s for i, s in terms), index(0))
        total = specialise(total, self.unrolled)
        offset = next((c for monomial, c in total.terms if not monomial), 0)
        element = _ELEMENTS[self.dtypes[buffer]]
        base = f"%buffer.{buffer}"
        varying = total - offset if offset else total
        if varying.terms:
            start = base
            base = self.remember(
                (buffer, varying, self.versions(varying)),
                lambda: self.op(
                    f"getelementptr {element}, ptr {start}, i64 {self.integer(varying)}"
                ),
            )
        if not offset:
            return base
        return self.op(f"getelementptr {element}, ptr {base}, i64 {offset}")

    def remember(self, key: Key, compute: Callable[[], str]) -> str:
        """A value computed before in a block that dominates this one, or computed now."""
        for scope in self.known:
            if key in scope:
                return scope[key]
        made = compute()
        self.known[-1][key] = made
        return made

    def integer(self, value: Index) -> str:
        """An operand that holds the integer."""
        value = specialise(value, self.unrolled)
        number = value.constant
        if number is not None:
            return str(number)
        return self.remember(("", value, self.versions(value)), lambda: self.sum(value))

    def versions(self, value: Index) -> tuple[str, ...]:
        """What the names stand for now: a loop variable's name may be used by two loops."""
        return tuple(self.integers[name] for name in sorted(value.names))

    def sum(self, value: Index) -> str:
        total = ""
        for monomial, coefficient in value.terms:
            term = self.product(monomial, coefficient)
            total = self.op(f"add nsw i64 {total}, {term}") if total else term
        return total

    def product(self, monomial: Monomial, coefficient: int) -> str:
        factors = [self.atom(a) for a in monomial]
        if coefficient != 1 or not factors:
            factors.append(str(coefficient))
        result = factors[0]
        for factor in factors[1:]:
            result = self.op(f"mul nsw i64 {result}, {factor}")
        return result

    def atom(self, atom: Atom) -> str:
        match atom:
            case Var(name):
                return self.integers[name]
            case At(table, inner):
                address = self.address(table, (inner,))
                return self.op(f"sext i32 {self.op(f'load i32, ptr {address}, align 4')} to i64")
            case Binary(op, left, right):
                return self.binary(op, self.integer(left), self.integer(right))
        raise ProgramError(f"{atom!r} is not an atom")

    def binary(self, op: str, a: str, b: str) -> str:
        if op in ("min", "max"):
            relation = "slt" if op == "min" else "sgt"
            c = self.op(f"icmp {relation} i64 {a}, {b}")
            return self.op(f"select i1 {c}, i64 {a}, i64 {b}")
        return self.divide(op, a, b)

    def divide(self, op: str, a: str, b: str) -> str:
        """Floor division or its remainder, by a positive number; machines truncate instead."""
        if b.isdigit() and not int(b) & (int(b) - 1):
            if op == "//":
                return self.op(f"ashr i64 {a}, {int(b).bit_length() - 1}")
            return self.op(f"and i64 {a}, {int(b) - 1}")
        rest = self.op(f"srem i64 {a}, {b}")
        below = self.op(f"icmp slt i64 {rest}, 0")
        if op == "%":
            upward = self.op(f"add i64 {rest}, {b}")
            return self.op(f"select i1 {below}, i64 {upward}, i64 {rest}")
        whole, less = self.op(f"sdiv i64 {a}, {b}"), self.op(f"sext i1 {below} to i64")
        return self.op(f"add i64 {whole}, {less}")
