"""One node of the model that is being captured, as the rules of this importer see it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np

from refimpl.importers import CaptureError
from refimpl.importers.build import Builder
from refimpl.importers.onnx.operands import Known, Operand, Value
from refimpl.ops import OPERATORS, Shape, ShapeError

MOVES = frozenset(
    ("concat", "expand", "flatten", "identity", "pad", "reshape", "slice", "take", "transpose")
)
"""Operators that compute nothing: they take values of any type, and known ones at once."""

_MOVES_OF_INDICES = MOVES - {"concat", "pad", "take"}

_COMPUTED_AT_ONCE = MOVES | frozenset(
    (
        *("abs", "add", "div", "erf", "exp", "log", "max", "maximum", "mean", "min", "minimum"),
        *("mul", "neg", "reciprocal", "sqrt", "sub", "sum", "softmax", "log_softmax"),
        *("celu", "clamp", "elu", "gelu", "hardsigmoid", "hardswish", "leaky_relu", "mish"),
        *("prelu", "relu", "selu", "sigmoid", "silu", "softplus", "softsign", "tanh"),
    )
)
"""Operators whose cost is their size, so that what they make of known values is soon known."""

LARGEST_TENSOR = 2**40
MOST_AXES = 8
_FREE_BYTES = 2**28
_MOST_INTS = 2**16


class Budget:
    """How many bytes values computed during capture may have, all together."""

    def __init__(self, file_bytes: int) -> None:
        """Args: the size of the model; what is computed may be a few times as large."""
        self.left = _FREE_BYTES
        self.grow(file_bytes)

    def grow(self, file_bytes: int) -> None:
        """Count bytes that were read from a file beside the model."""
        self.left += 4 * file_bytes

    def spend(self, shape: Sequence[int], dtype: np.dtype) -> bool:
        """Whether an array of this shape and type still fits; it counts from now on."""
        self.left -= math.prod(shape) * dtype.itemsize
        return self.left >= 0


class Scope:
    """The Graph under construction, and which known values are its constants already."""

    def __init__(self, builder: Builder, budget: Budget) -> None:
        self.builder = builder
        self.budget = budget
        # The known value is held too, so that its id is not given to another.
        self.constants: dict[int, tuple[str, Known]] = {}
        self.whole: set[str] = set()
        self._transposed: dict[int, Known] = {}

    def transposed(self, matrix: Known) -> Known:
        """A known matrix with its axes swapped; the same one each time, so that it stays shared."""
        if id(matrix) not in self._transposed:
            self._transposed[id(matrix)] = Known(f"{matrix.name}.T", matrix.array.T)
        return self._transposed[id(matrix)]

    def hold(self, known: Known) -> None:
        """Let an initialiser have exactly its name, which the builder must have reserved."""
        self.constants[id(known)] = known.name, known

    def name(self, operand: Operand) -> str:
        """The operand's name in the Graph, where a known one becomes a constant."""
        if isinstance(operand, Value):
            return operand.name
        if id(operand) not in self.constants:
            self.constants[id(operand)] = self.builder.unique(operand.name), operand
        return self.builder.constant(self.constants[id(operand)][0], operand.array)

    def rename(self, first: int, old: str, wanted: str) -> str:
        """Call a value of the nodes from the `first` on `wanted`, or nearly so; its name."""
        builder, new = self.builder, self.builder.unique(wanted)
        for position in range(first, len(builder.nodes)):
            node = builder.nodes[position]
            outputs, inputs = (
                tuple(new if name == old else name for name in names)
                for names in (node.outputs, node.inputs)
            )
            builder.nodes[position] = replace(node, outputs=outputs, inputs=inputs)
        builder.shapes[new] = builder.shapes.pop(old)
        if old in self.whole:
            self.whole.add(new)
        return new

    def value(self, name: str) -> Value:
        """The value of the Graph that has this name."""
        return Value(name, self.builder.shapes[name], name in self.whole)


@dataclass(frozen=True)
class Call:
    """One node.

    Attributes:
        scope: the Graph under construction.
        inputs: None where an optional one is left out; there may be fewer than the operator takes.
        attributes: those given, as Python values; tensors as arrays.
        read: the attributes, and the positions of the inputs, that the rule has looked at; it must
            look at all that are given.
        outputs: how many results the node names.
        opset: the version of ONNX's operators that the model is written in.
        path: what the values that it defines are called.
        place: operator, node and opset, for messages.
    """

    scope: Scope
    inputs: tuple[Operand | None, ...]
    attributes: Mapping[str, Any]
    read: set[str | int]
    outputs: int
    opset: int
    path: str
    place: str

    def unread(self) -> str | None:
        """What is given to the node and the rule has not looked at, in words."""
        for name in self.attributes:
            if name not in self.read:
                return f"attribute {name}"
        for position, operand in enumerate(self.inputs):
            if operand is not None and position not in self.read:
                return f"input {position} ({operand.name!r})"
        return None

    def refuse(self, reason: str) -> NoReturn:
        """Raise CaptureError with the place and the reason."""
        raise CaptureError(f"{self.place}: {reason}")

    def require(self, condition: bool, reason: str) -> None:
        """Refuse the node unless the condition holds."""
        if not condition:
            self.refuse(reason)

    def attribute(self, name: str, default: Any = None) -> Any:
        """The value of an attribute, or the default."""
        self.read.add(name)
        return self.attributes.get(name, default)

    def only(self, name: str, *allowed: Any) -> None:
        """Refuse the node unless the attribute is left out or has one of these values."""
        value = self.attribute(name, allowed[0])
        if value not in allowed:
            wanted = " or ".join(map(repr, allowed))
            self.refuse(f"{name}={value!r} has no counterpart here; only {wanted} has")

    def without_effect(self, *names: str) -> None:
        """Attributes that change nothing of what is computed at inference."""
        self.read.update(names)

    def given(self, position: int) -> bool:
        """Whether the input is there."""
        self.read.add(position)
        return position < len(self.inputs) and self.inputs[position] is not None

    def operand(self, position: int) -> Operand:
        """An input that must be there."""
        found = self.inputs[position] if self.given(position) else None
        if found is None:
            self.refuse(f"input {position} is missing")
        return found

    def operands(self) -> tuple[Operand, ...]:
        """All inputs; none may be left out."""
        self.require(bool(self.inputs), "it has no inputs")
        return tuple(self.operand(position) for position in range(len(self.inputs)))

    def known(self, position: int, role: str) -> np.ndarray:
        """An input that must not depend on what the network is given."""
        found = self.operand(position)
        if isinstance(found, Value):
            self.refuse(f"{role} is computed as the network runs; it must be a constant")
        return found.array

    def ints(self, position: int, role: str) -> tuple[int, ...]:
        """A known input of integers, at most 1-D."""
        array = self.known(position, role)
        if array.dtype.kind not in "iu" or array.ndim > 1:
            self.refuse(f"{role} is {array.dtype} of shape {array.shape}, not a list of integers")
        self.require(array.size <= _MOST_INTS, f"{role} has {array.size} integers")
        return tuple(int(v) for v in array.reshape(-1))

    def ints_or_attribute(self, position: int, name: str, since: int) -> tuple[int, ...] | None:
        """Integers that are an input since some opset, and were an attribute before."""
        if self.opset < since:
            return self.attribute(name)
        return self.ints(position, name) if self.given(position) else None

    def scalar(self, position: int, role: str) -> float:
        """A known input of one number."""
        array = self.known(position, role)
        if array.size != 1 or array.dtype.kind not in "fiu":
            self.refuse(f"{role} is {array.dtype} of shape {array.shape}, not one number")
        return float(array.reshape(-1)[0])

    def axis(self, value: int, rank: int) -> int:
        """An axis counted from the front."""
        self.require(-rank <= value < rank, f"axis {value} is not one of {rank} axes")
        return value % rank

    def axes(self, values: Sequence[int], rank: int) -> tuple[int, ...]:
        """Axes counted from the front, in the order in which they are given."""
        axes = tuple(self.axis(value, rank) for value in values)
        self.require(len(set(axes)) == len(axes), f"an axis is given twice among {axes}")
        return axes

    def constant(self, role: str, array: Any, dtype: Any = np.float32) -> Known:
        """A known value that the model does not name, called after its role in this node."""
        return Known(f"{self.path}.{role}", np.asarray(array, dtype))

    def reserve(self, shape: Sequence[int], dtype: np.dtype) -> None:
        """Refuse, before it is made, a known value that is too large for this model."""
        if not self.scope.budget.spend(shape, dtype):
            self.refuse(
                f"a constant of shape {tuple(shape)} is more than the size of the model justifies"
            )

    def reshape(self, x: Operand, shape: Sequence[int]) -> Operand:
        """`reshape`; `flatten`, which holds for any batch, where a run of axes is merged."""
        wanted = tuple(shape)
        if x.shape == wanted:
            return x
        differs = (i for i, (a, b) in enumerate(zip(x.shape, wanted, strict=False)) if a != b)
        start = next(differs, len(wanted) - 1)
        end = start + len(x.shape) - len(wanted)
        merged = (*x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :])
        if 0 < start < end and merged == wanted:
            return self.add("flatten", x, start=start, end=end)
        return self.add("reshape", x, shape=wanted)

    def add(self, op: str, *operands: Operand, **attributes: Any) -> Operand:
        """Add a node of an operator with one result; of known values it is computed at once."""
        known = [operand for operand in operands if isinstance(operand, Known)]
        if len(known) == len(operands) and op in _COMPUTED_AT_ONCE:
            return self._computed(op, known, attributes)
        (result,) = self.add_several(op, *operands, **attributes)
        return result

    def add_several(self, op: str, *operands: Operand, **attributes: Any) -> tuple[Value, ...]:
        """Add a node; the values that it defines."""
        self._check_kinds(op, attributes)
        self._check_types(op, operands)
        names = tuple(self.scope.name(operand) for operand in operands)
        try:
            found = self.scope.builder.add(f"{self.path}.{op}", op, names, **attributes)
        except ShapeError as error:
            self.refuse(str(error))
        results = found if isinstance(found, tuple) else (found,)
        if op in MOVES and any(isinstance(o, Value) and o.whole for o in operands):
            self.scope.whole.update(results)
        for name in results:
            self._check_size(self.scope.builder.shapes[name])
        return tuple(self.scope.value(name) for name in results)

    def _check_kinds(self, op: str, attributes: Mapping[str, Any]) -> None:
        # Before the shape rule, which may count on it.
        for name, kind in OPERATORS[op].attributes.items():
            value = attributes[name]
            self.require(kind.accepts(value), f"{name} would be {value!r}, not {kind.text}")

    def _check_types(self, op: str, operands: Sequence[Operand]) -> None:
        for position, operand in enumerate(operands):
            if isinstance(operand, Known):
                what = f"the constant {operand.name!r} is {operand.array.dtype}"
                self.require(operand.array.dtype == np.float32, f"{what}; only float32 is computed")
                self._check_size(operand.shape)
            elif operand.whole and op not in _MOVES_OF_INDICES and (op, position) != _INDICES:
                self.refuse("it computes with integers as the network runs; only Gather reads them")

    def _check_size(self, shape: Shape) -> None:
        self.require(0 not in shape, f"a value of shape {shape} is empty")
        self.require(len(shape) <= MOST_AXES, f"shape {shape} has more than {MOST_AXES} axes")
        self.require(
            math.prod(shape) <= LARGEST_TENSOR, f"shape {shape} has more than 2^40 elements"
        )

    def _computed(self, op: str, known: Sequence[Known], attributes: Mapping[str, Any]) -> Known:
        """What the operator makes of known values: in float64, rounded once."""
        operator = OPERATORS[op]
        arrays = [operand.array for operand in known]
        # A shape that is computed with may be that of a scalar: it has no elements.
        if 0 not in attributes.get("shape", ()):
            self._check_kinds(op, attributes)
        if op not in MOVES:
            self._check_types(op, known)
            arrays = [array.astype(np.float64) for array in arrays]
        try:
            shape = operator.shape([operand.shape for operand in known], attributes)
        except ShapeError as error:
            self.refuse(str(error))
        dtype = known[0].array.dtype
        self.reserve(shape, dtype)
        with np.errstate(all="ignore"):
            result = operator.evaluate(*arrays, **attributes)
        return Known(self.path, np.asarray(result).astype(dtype, copy=False))


_INDICES = ("embedding", 0)
