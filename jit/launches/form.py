"""A launch: one call of a kernel, with the memory and the numbers it is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from jit.pipeline import Kernel
from jit.target import Target
from refimpl.plan import ALIGNMENT, Place, Plan, Step

MAX_BYTES = 1 << 46
"""More than any segment has."""


@dataclass(frozen=True)
class Ref:
    """A byte offset in a segment: `arena`, `constants`, `input:NAME` or `output:NAME`."""

    segment: str
    offset: int


def segment_of(value: str, place: Place) -> str:
    """The segment that a value lies in: one for the arena, one for each input and output."""
    return place.segment if place.segment == "arena" else f"{place.segment}:{value}"


@dataclass(frozen=True)
class Launch:
    """One call of a kernel: where its buffers lie, in its order, and its parameters by name.

    `first_row` is the filter that row 0 of a convolution's region stands for.  `costs` compare the
    iterations of the outermost parallel loop where they differ.  Launches of one step with the
    same `piece` write elements apart from each other; "" promises nothing.
    """

    step: str
    kernel: Kernel
    buffers: tuple[tuple[str, Ref], ...]
    params: Mapping[str, int]
    first_row: int = 0
    costs: tuple[int, ...] = ()
    piece: str = ""

    def extent(self, buffer: str) -> tuple[str, int, int]:
        """(segment, begin, end) of the bytes that a buffer may lie in."""
        ref = dict(self.buffers)[buffer]
        # No parameter says how long a table of integers is; it may reach anywhere.
        room = self.params.get(f"{buffer.upper()}L", MAX_BYTES)
        return ref.segment, ref.offset, ref.offset + 4 * room


class Constants:
    """The segment of packed weights, tables and biases, every array aligned."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.size = 0

    def add(self, array: np.ndarray) -> Ref:
        """Append the array's bytes; the reference to them."""
        ref = Ref("constants", self.size)
        data = np.ascontiguousarray(array).tobytes()
        data += bytes(-len(data) % ALIGNMENT)
        self.chunks.append(data)
        self.size += len(data)
        return ref

    def image(self) -> bytes:
        """The whole segment."""
        return b"".join(self.chunks)


@dataclass(frozen=True)
class Operand:
    """A value in memory: its place, its first element inside the halo, elements from there on."""

    place: Place
    ref: Ref
    room: int

    def skip(self, elements: int) -> Operand:
        """The same from some elements on."""
        ref = Ref(self.ref.segment, self.ref.offset + 4 * elements)
        return Operand(self.place, ref, self.room - elements)

    def rows(self, first: int, count: int) -> Operand:
        """Some rows of a value of two axes."""
        pitch = self.place.layout.strides(self.place.shape)[0]
        place = Place((count, self.place.shape[1]), self.place.layout, self.place.segment)
        return Operand(place, self.skip(first * pitch).ref, count * pitch)


class Lowering:
    """What the launches of a Plan share: where its values lie, and the constants put together."""

    def __init__(self, plan: Plan, target: Target):
        self.plan, self.target = plan, target
        self.constants = Constants()
        self._packed: dict[str, Ref] = {}

    def place(self, value: str) -> Place:
        """Where a value lies."""
        return self.plan.places[value]

    def operand(self, value: str) -> Operand:
        """A value in memory."""
        place = self.place(value)
        inside, size = place.layout.origin(place.shape), place.layout.size(place.shape)
        constant = place.segment == "constant"
        start = self._constant(value) if constant else Ref(segment_of(value, place), place.offset)
        return Operand(place, start, size).skip(inside)

    def _constant(self, value: str) -> Ref:
        """A constant that steps read as a value, packed once in the layout of its place."""
        if value not in self._packed:
            image = self.place(value).layout.pack(self.plan.constants[value].array)
            self._packed[value] = self.constants.add(image)
        return self._packed[value]


def launch(
    step: Step,
    kernel: Kernel,
    operands: Mapping[str, Operand],
    sizes: Mapping[str, int],
    tables: Mapping[str, Ref] | None = None,
) -> Launch:
    """A launch of the step's: every operand `x` comes with its room, the parameter XL."""
    refs = {name: operand.ref for name, operand in operands.items()} | dict(tables or {})
    rooms = {f"{name.upper()}L": operand.room for name, operand in operands.items()}
    return Launch(step.name, kernel, tuple(refs.items()), {**sizes, **rooms})
