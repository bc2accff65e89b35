"""One call in the model that is being captured, as the rules of `refimpl.importers.aten` see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from refimpl.importers import CaptureError
from refimpl.importers.build import Builder
from refimpl.ops import Shape, ShapeError


@dataclass(frozen=True)
class Value:
    """A tensor argument: the name of the value in the Graph."""

    name: str


@dataclass(frozen=True)
class Call:
    """One call of an aten operator.

    Attributes:
        builder: the Graph under construction.
        arguments: all of them by name, the defaults too; tensors as Value.
        result: the shape of the (first) result, as torch computed it.
        path: the dotted path of whatever is called, for the names of values and constants.
        place: operator, node and position in the module, for messages.
    """

    builder: Builder
    arguments: Mapping[str, Any]
    result: Shape
    path: str
    place: str

    def refuse(self, reason: str) -> NoReturn:
        """Raise CaptureError with the place and the reason."""
        raise CaptureError(f"{self.place}: {reason}")

    def shape(self, argument: str) -> Shape:
        """The shape of a tensor argument."""
        return self.builder.shapes[self.arguments[argument].name]

    def tensor(self, argument: str) -> str:
        """The value of a tensor argument; a number becomes a scalar constant, float32 as torch's.

        torch, too, computes with the number rounded to the tensor's type.
        """
        value = self.arguments[argument]
        if isinstance(value, Value):
            return value.name
        return self.constant(argument, np.float32(value))

    def constant(self, role: str, array: np.ndarray | np.float32) -> str:
        """A constant that the model does not name, called after its role in this call."""
        name = self.builder.unique(f"{self.path}.{role}")
        return self.builder.constant(name, np.asarray(array, np.float32))

    def only(self, argument: str, *allowed: Any) -> None:
        """Refuse the call unless the argument has one of these values."""
        value = self.arguments[argument]
        if value not in allowed:
            self.refuse(f"{argument}={value} has no counterpart here; only {allowed[0]} has")

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Add the node; the value it defines."""
        try:
            return self.builder.add(self.path.replace(".", "_"), op, inputs, **attributes)
        except ShapeError as error:
            self.refuse(str(error))
