"""From an exported program to a Graph: one walk over its calls, by the rules of `aten`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

from refimpl.graph import Graph, GraphError, Sparsity
from refimpl.importers import CaptureError
from refimpl.importers.aten import MOVING, RULES, Outcome, apply
from refimpl.importers.build import Builder
from refimpl.importers.call import Call, Value
from refimpl.importers.exported import Program, Ref, Result, Step, refs

T = TypeVar("T")

_MOST_LINES = 10
_ASSERTIONS = ("aten._assert_tensor_metadata.default", "aten._assert_scalar.default")
_INDICES = ("int32", "int64")
_UNROLLED = ("torch.nn.modules.rnn.RNN", "torch.nn.modules.rnn.GRU", "torch.nn.modules.rnn.LSTM")
_PRODUCTS = ("aten.mm.", "aten.addmm.", "aten.linear.", "aten.matmul.", "aten.bmm.")

_OF_A_SHAPE = (
    "aten.zeros_like.", "aten.ones_like.", "aten.full_like.", "aten.empty_like.",
    "aten.new_zeros.", "aten.new_ones.", "aten.new_full.", "aten.new_empty.", "aten.fill.",
)  # fmt: skip
"""Operators that read nothing but the shape of their first input."""


class Folder(Protocol):
    """How calls are computed at capture that depend on no input of the model."""

    def knows(self, target: str) -> bool:
        """Whether this operator can be computed at capture."""
        ...

    def fold(self, step: Step, arguments: Mapping[str, Any]) -> Sequence[np.ndarray]:
        """The results of a call, its tensors given as arrays.

        Raises:
            CaptureError: it cannot be computed.
        """
        ...


def graph_of(program: Program, folder: Folder, sparsity: Mapping[str, Sparsity]) -> Graph:
    """The Graph of a functional program: no call of it changes a tensor.

    Args:
        program: of float32 tensors, and of whole numbers where they become indices.
        folder: computes what depends on no input.
        sparsity: of pruned weights, by the name in the module.

    Raises:
        CaptureError: something has no counterpart; the message names the operator and its place.
    """
    _refuse_unrolled(program)
    _refuse_unknown(program, folder)
    return _Walk(program, folder).graph(sparsity)


class _Walk:
    """The values that the program's names stand for, as far as it has been walked."""

    def __init__(self, program: Program, folder: Folder) -> None:
        self.program = program
        self.folder = folder
        names = [known.name for known in program.known.values()]
        inputs = [(x.name, x.shape) for x in program.inputs]
        self.builder = Builder(inputs, reserved={*names, *program.same})
        self.values = {x.name: Value(x.name, x.shape, x.dtype) for x in program.inputs}
        self.absent: dict[str, str] = {}

    def graph(self, sparsity: Mapping[str, Sparsity]) -> Graph:
        """The Graph; see `graph_of`."""
        for step in self.program.steps:
            if step.target not in _ASSERTIONS:
                self.visit(step)
        outputs = [self.output(position) for position in range(len(self.program.outputs))]
        unused = sorted(set(sparsity) - set(self.builder.constants))
        if unused:
            raise CaptureError(f"a mask is given for {unused[0]!r}, which no operator uses")
        try:
            return self.builder.graph(self.program.name, outputs, sparsity)
        except GraphError as error:
            raise CaptureError(f"{self.program.name} was captured, but {error}") from error

    def visit(self, step: Step) -> None:
        """Take up what one call computes, at capture or in the Graph."""
        arguments = {name: self.argument(step, value) for name, value in step.arguments.items()}
        tensors = [self.value(step, ref) for ref in refs(list(step.arguments.values()))]
        known = all(tensor.array is not None for tensor in tensors[_first_read(step) :])
        if known and self.folder.knows(step.target):
            self.fold(step, arguments, tensors)
        else:
            for tensor in tensors:
                if 0 in tensor.shape:
                    raise CaptureError(f"{step.origin.place}: it reads a tensor without elements")
            self.apply(step, arguments)

    def fold(self, step: Step, arguments: Mapping[str, Any], tensors: Sequence[Value]) -> None:
        """Compute the call now; its results are constants from here on."""
        found = self.folder.fold(step, {name: _as_array(v) for name, v in arguments.items()})
        origin = tensors[0] if _transposes(step, tensors) else None
        for result, array in _paired(step, found):
            name = self.builder.unique(step.origin.constant)
            self.values[result.name] = Value(name, array.shape, str(array.dtype), array, origin)

    def apply(self, step: Step, arguments: Mapping[str, Any]) -> None:
        """Add the nodes that compute the call."""
        shapes = tuple(result.shape for result in step.results)
        call = Call(self.builder, shapes, step.origin.path, step.origin.place)
        found = apply(RULES[step.target], call, arguments)
        for result, value in _paired(step, _each(found)):
            if value is None:
                self.absent[result.name] = step.origin.place
            else:
                self.values[result.name] = self.checked(call, step, result, value)

    def checked(self, call: Call, step: Step, result: Result, value: str | Value) -> Value:
        """The value of a result, if it is what torch makes."""
        carries = _INDICES if step.target in MOVING else ()
        if result.dtype != "float32" and result.dtype not in carries:
            call.refuse(f"its result is torch.{result.dtype}, not float32")
        found = call.shape(value)
        if found != result.shape:
            call.refuse(f"torch makes {result.shape} of it, the operator here {found}")
        if isinstance(value, Value):
            return value
        return Value(value, result.shape, result.dtype)

    def argument(self, step: Step, value: Any) -> Any:
        """An argument with its tensors as Value, in lists too."""
        if isinstance(value, (list, tuple)):
            return [self.argument(step, item) for item in value]
        return self.value(step, value) if isinstance(value, Ref) else value

    def value(self, step: Step, ref: Ref) -> Value:
        """What a call reads."""
        if ref.name in self.absent:
            raise CaptureError(f"{self.absent[ref.name]}: only its first result has a counterpart")
        if ref.name not in self.values:
            self.values[ref.name] = self.constant(step.origin.place, ref.name)
        return self.values[ref.name]

    def constant(self, place: str, name: str) -> Value:
        """The parameter or buffer of this name."""
        if name not in self.program.known:
            raise CaptureError(f"{place}: {name!r} is not defined before it is read")
        known = self.program.known[name]
        if known.array is None:
            raise CaptureError(
                f"{known.name!r} is torch.{known.dtype}; only float32 can be captured"
            )
        called = self.program.same.get(known.name, known.name)
        return Value(called, known.array.shape, known.dtype, known.array)

    def output(self, position: int) -> str:
        """The value of an output of the model."""
        name = self.program.outputs[position]
        if name in self.absent:
            raise CaptureError(f"{self.absent[name]}: only its first result has a counterpart")
        value = self.values.get(name) or self.constant(f"output {position}", name)
        if value.dtype != "float32":
            raise CaptureError(f"output {position} is torch.{value.dtype}, not float32")
        return Call(self.builder, (), value.name, f"output {position}").name(value)


def _paired(step: Step, found: Sequence[T]) -> Iterator[tuple[Result, T]]:
    """Every result of a call with what became of it."""
    if len(found) != len(step.results):
        raise CaptureError(
            f"{step.origin.place}: it has {len(found)} results, the program {len(step.results)}"
        )
    return zip(step.results, found, strict=True)


def _each(found: Outcome) -> Sequence[str | Value | None]:
    return (found,) if isinstance(found, (str, Value)) else found


def _first_read(step: Step) -> int:
    """The position of the first tensor whose elements count."""
    return 1 if step.target.startswith(_OF_A_SHAPE) else 0


def _as_array(argument: Any) -> Any:
    """An argument with arrays for its tensors; one of which only the shape counts is a view."""
    if isinstance(argument, list):
        return [_as_array(item) for item in argument]
    if not isinstance(argument, Value):
        return argument
    if argument.array is None:
        return np.broadcast_to(np.zeros((), argument.dtype), argument.shape)
    return argument.array


def _transposes(step: Step, tensors: Sequence[Value]) -> bool:
    """Whether a call only exchanges the two axes of a constant, as linear layers are written."""
    names = ("aten.t.default", "aten.transpose.int", "aten.permute.default", "aten.numpy_T.default")
    if step.target not in names or len(tensors[0].shape) != 2 or tensors[0].origin:
        return False
    return step.results[0].shape == tensors[0].shape[::-1] and not _keeps_axes(step)


def _keeps_axes(step: Step) -> bool:
    given = step.arguments
    if "dims" in given:
        return [dim % 2 for dim in given["dims"]] == [0, 1]
    return "dim0" in given and (given["dim0"] - given["dim1"]) % 2 == 0


def unknown(program: Program, folder: Folder) -> list[Step]:
    """The calls that neither a rule nor the folder knows."""
    known, found = set(program.known), []
    for step in program.steps:
        read = refs(list(step.arguments.values()))[_first_read(step) :]
        if all(ref.name in known for ref in read) and folder.knows(step.target):
            known |= {result.name for result in step.results}
        elif step.target not in (*RULES, *_ASSERTIONS):
            found.append(step)
    return found


def unsupported(program: Program, folder: Folder) -> list[str]:
    """A sentence, with its place, for every call that has no counterpart here."""
    steps = unknown(program, folder)
    return [f"{step.origin.place}: there is no operator for it here" for step in steps]


def _refuse_unknown(program: Program, folder: Folder) -> None:
    """Name everything that cannot be captured at once, not one thing per attempt."""
    lines = unsupported(program, folder)
    if lines:
        more = [f"and {len(lines) - _MOST_LINES} more"] if len(lines) > _MOST_LINES else []
        raise CaptureError("\n".join([*lines[:_MOST_LINES], *more]))


def _refuse_unrolled(program: Program) -> None:
    """A recurrence taken apart into its steps would be captured, but as a thousand small layers."""
    for step in program.steps:
        if step.origin.kind in _UNROLLED and step.target.startswith(_PRODUCTS):
            raise CaptureError(
                f"{step.origin.place}: the export has unrolled the recurrence of this "
                f"{step.origin.kind.rpartition('.')[2]} into its steps. Capture the module itself, "
                f"or save what torch.export.export returns, not decomposed any further"
            )
