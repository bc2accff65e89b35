"""One call in the model that is being captured, as the rules of `refimpl.importers.aten` see it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

from refimpl.importers import CaptureError
from refimpl.importers.build import Builder
from refimpl.ops import OPERATORS, Shape, ShapeError

# Whole numbers up to here, and no further, are all float32 values.
_LARGEST_EXACT = 2**24

LARGEST_CONSTANT = 2**26
"""Elements of a constant that the model does not hold itself; more is a mistake or an attack."""


@dataclass(frozen=True)
class Value:
    """A tensor of the model.

    Attributes:
        name: of the value in the Graph, or what it will be called there if it becomes a constant.
        shape: as torch has it.
        dtype: torch's name of it, without the "torch.".
        array: what it holds, where that is known at capture.
        origin: the constant of which it is the transpose, where it is one.
    """

    name: str
    shape: Shape
    dtype: str
    array: np.ndarray | None = field(default=None, compare=False, repr=False)
    origin: Value | None = None


Operand = Value | str | float
"""What becomes an input of a node: a tensor of the model, a value of the Graph, or a number."""


@dataclass(frozen=True)
class Call:
    """One call of an aten operator.

    Attributes:
        builder: the Graph under construction.
        results: the shapes of the results, as torch computed them.
        path: the dotted path of whatever is called, for the names of values and constants.
        place: operator, node and position in the module, for messages.
    """

    builder: Builder
    results: tuple[Shape, ...]
    path: str
    place: str

    @property
    def result(self) -> Shape:
        """The shape of the first result."""
        return self.results[0]

    def refuse(self, reason: str) -> NoReturn:
        """Raise CaptureError with the place and the reason."""
        raise CaptureError(f"{self.place}: {reason}")

    def require(self, condition: bool, reason: str) -> None:
        """Refuse the call unless the condition holds."""
        if not condition:
            self.refuse(reason)

    def name(self, operand: Operand) -> str:
        """The value of the Graph; what is known at capture becomes a constant.

        A number becomes a float32 scalar: torch, too, rounds it to the tensor's type.

        Raises:
            CaptureError: a known tensor has no exact float32 counterpart.
        """
        if isinstance(operand, str):
            return operand
        if not isinstance(operand, Value):
            return self.constant("number", np.float32(operand))
        if operand.array is None:
            return operand.name
        return self.builder.constant(operand.name, self._as_float32(operand.name, operand.array))

    def constant(self, role: str, array: np.ndarray | np.float32 | float) -> str:
        """A constant that the model does not name, called after its role in this call."""
        size = np.size(array)
        self.require(size <= LARGEST_CONSTANT, f"it needs a constant of {size} elements")
        name = self.builder.unique(f"{self.path}.{role}")
        return self.builder.constant(name, np.asarray(array, np.float32))

    def filled(self, role: str, value: float, shape: Shape) -> str:
        """A constant of one value."""
        return self.constant(role, np.broadcast_to(np.float32(value), shape))

    def add(self, op: str, *inputs: Operand, **attributes: Any) -> str:
        """Add the node; the value it defines.

        Raises:
            CaptureError: the inputs do not fit the operator.
        """
        for key, kind in OPERATORS[op].attributes.items():
            given = attributes[key]
            self.require(kind.accepts(given), f"{key} is {given!r}, not {kind.text}")
        names = tuple(self.name(operand) for operand in inputs)
        try:
            return self.builder.add(self.path.replace(".", "_"), op, names, **attributes)
        except ShapeError as error:
            self.refuse(str(error))

    def shape(self, operand: str | Value) -> Shape:
        """The shape of a value."""
        return operand.shape if isinstance(operand, Value) else self.builder.shapes[operand]

    def _as_float32(self, name: str, array: np.ndarray) -> np.ndarray:
        whole = array.dtype.kind in "iub" and bool(np.all(abs(array) <= _LARGEST_EXACT))
        if array.dtype != np.float32 and not whole:
            self.refuse(f"{name!r} is torch.{array.dtype}; only float32 can be captured")
        return array.astype(np.float32, copy=False)
