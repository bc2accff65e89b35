"""What the emitters share: constants, vectors and registers as a walk over a Program meets them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import product

from jit.index import Index, specialise
from jit.primitives import PRIMITIVES
from jit.program import Block, For, Program, ProgramError, Statement, reads_across
from jit.target import Target

Place = tuple[int, ...]
"""Which of the registers of one name: the subscript without its last axis, the lanes."""


class Emitter(ABC):
    """A walk over one Program for a target; what it writes is its subclass's matter.

    Attributes:
        unrolled: the variables that are constants now: of unrolled loops, and 0 for the vector's.
        shapes: of the registers declared so far.
        vector: variable and lanes of the vector loop around, if there is one.
    """

    def __init__(self, program: Program, target: Target):
        self.program, self.target = program, target
        self.unrolled: dict[str, int] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.vector: tuple[str, int] | None = None

    @abstractmethod
    def statement(self, s: Statement) -> None:
        """Emit one statement."""

    def block(self, body: Block) -> None:
        """Emit statements one after another."""
        for statement in body:
            self.statement(statement)

    def vector_loop(self, s: For) -> None:
        """Emit the body with every value a vector; subscripts name it by its first lane."""
        extent = s.extent
        if extent is None or self.vector is not None or s.lo.constant != 0:
            raise ProgramError(f"{self.program.name}: loop {s.var} cannot be a vector")
        self.vector = (s.var, extent)
        self.unrolled[s.var] = 0
        self.block(s.body)
        self.vector = None
        del self.unrolled[s.var]

    @property
    def lanes(self) -> int:
        """Lanes of the values here."""
        return self.vector[1] if self.vector else 1

    def bound(self, value: Index) -> int:
        """The integer that an index is once loops are unrolled."""
        number = specialise(value, self.unrolled).constant
        if number is None:
            raise ProgramError(f"{self.program.name}: `{value}` must be a constant to unroll")
        return number

    def vector_stride(self, last: Index) -> int:
        """The coefficient of the vector variable: 1 contiguous, 0 the same for all lanes."""
        if self.vector is None:
            return 0
        stride = last.coefficient(self.vector[0])
        if stride not in (0, 1):
            raise ProgramError(f"{self.program.name}: `{last}` is not contiguous in a vector loop")
        return stride

    def register(self, name: str, subscript: tuple[Index, ...]) -> tuple[Place, int, bool]:
        """(which register, which lane, whether the whole of it is meant)."""
        *outer, last = subscript
        if self.vector is not None and reads_across(self.vector[0], subscript):
            raise ProgramError(f"{self.program.name}: {self.target.name} reads no {name} across")
        width = self.shapes[name][-1]
        wide = self.vector is not None and self.vector_stride(last) == 1
        if wide and self.lanes != width:
            raise ProgramError(f"{self.program.name}: {name} has {width} lanes")
        place, lane = tuple(self.bound(i) for i in outer), self.bound(last)
        axes = zip((*place, lane), self.shapes[name], strict=True)
        if not all(0 <= i < extent for i, extent in axes):
            raise ProgramError(f"{self.program.name}: {name}{[*place, lane]} is out of range")
        return place, lane, wide or width == 1

    def check_store(self, buffer: str, last: Index) -> None:
        """Raise ProgramError where a vector would be stored to one place of a buffer."""
        if self.lanes > 1 and self.vector_stride(last) == 0:
            raise ProgramError(f"{self.program.name}: a vector stored to one place of {buffer}")

    def check_primitive(self, name: str) -> None:
        """Raise ProgramError unless the target has what the primitive needs."""
        if any(not self.target.has(feature) for feature in PRIMITIVES[name].features):
            raise ProgramError(f"{self.target.name} has no {name}")


def places(shape: tuple[int, ...]) -> list[Place]:
    """Every register of a shape, whose last axis is its lanes."""
    return list(product(*map(range, shape[:-1])))
