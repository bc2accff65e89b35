"""The inputs of a model: their types, and the sizes that it leaves open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnx import GraphProto, TensorProto, ValueInfoProto

from refimpl.importers import CaptureError
from refimpl.importers.onnx.call import MOST_AXES
from refimpl.importers.onnx.tensors import type_name
from refimpl.ops import Shape

Shapes = Mapping[str, Sequence[int]]

_INTEGERS = (TensorProto.INT32, TensorProto.INT64)
_LARGEST = 2**31 - 1


def bind(graph: GraphProto, constants: set[str], shapes: Shapes) -> dict[str, tuple[Shape, bool]]:
    """For each input its shape, and whether it holds integers.

    Args:
        graph: the model's.
        constants: names that are no inputs, though old models list them as such.
        shapes: by the input's name, the sizes to use; a named size ("batch") that they settle
            holds for the other inputs, too.

    Raises:
        CaptureError: a size stays open or is contradicted, a type is neither float32 nor int32
            nor int64, or a shape is given for what is no input.
    """
    inputs = [value for value in graph.input if value.name not in constants]
    for name in shapes:
        if name not in {value.name for value in inputs}:
            names = ", ".join(repr(value.name) for value in inputs)
            raise CaptureError(f"a shape is given for {name!r}; the model's inputs are {names}")
    whole = {value.name: _is_whole(value) for value in inputs}
    settled: dict[str, int] = {}
    for value in inputs:
        if value.name in shapes:
            _settle(settled, value, tuple(shapes[value.name]))
    return {
        value.name: (_shape(value, shapes.get(value.name), settled), whole[value.name])
        for value in inputs
    }


def fixed_sizes(value: ValueInfoProto) -> tuple[int | str, ...] | None:
    """The sizes that the model declares, the open ones by name ("" without one); None if none."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    # Below 1 is how some exporters say "any".
    return tuple(
        d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else d.dim_param
        for d in tensor.shape.dim
    )


def _settle(settled: dict[str, int], value: ValueInfoProto, given: Shape) -> None:
    declared = fixed_sizes(value)
    what = f"the shape {given} given for input {value.name!r}"
    if not all(type(size) is int and 1 <= size <= _LARGEST for size in given):
        raise CaptureError(f"{what} has a size that is not an int of 1 or more")
    if declared is None:
        return
    if len(declared) != len(given):
        raise CaptureError(f"{what} has not the {len(declared)} axes that the model declares")
    for size, wanted in zip(declared, given, strict=True):
        if size != wanted and isinstance(size, int):
            raise CaptureError(f"{what} contradicts the model, which has {size} for {wanted}")
        if size and settled.setdefault(str(size), wanted) != wanted:
            raise CaptureError(f"{what} makes {size!r} both {settled[str(size)]} and {wanted}")


def _shape(value: ValueInfoProto, given: Sequence[int] | None, settled: Mapping[str, int]) -> Shape:
    if given is not None:
        return tuple(given)
    declared = fixed_sizes(value)
    if declared is None:
        raise CaptureError(f"input {value.name!r} declares no shape; give it one: --shape NAME=...")
    if len(declared) > MOST_AXES:
        raise CaptureError(f"input {value.name!r} has {len(declared)} axes, more than {MOST_AXES}")
    sizes = [settled.get(size, size) if isinstance(size, str) else size for size in declared]
    if all(isinstance(size, int) for size in sizes):
        return tuple(int(size) for size in sizes)
    shown = ", ".join(str(size) or "?" for size in sizes)
    example = [size if isinstance(size, int) else 1 for size in sizes]
    text = "x".join(map(str, example))
    raise CaptureError(
        f"input {value.name!r} leaves sizes open, ({shown}): give them, such as --shape "
        f"{value.name}={text}, or shapes={{{value.name!r}: {tuple(example)}}}"
    )


def _is_whole(value: ValueInfoProto) -> bool:
    if not value.type.HasField("tensor_type"):
        raise CaptureError(f"input {value.name!r} is no tensor")
    kind = value.type.tensor_type.elem_type
    if kind != TensorProto.FLOAT and kind not in _INTEGERS:
        raise CaptureError(
            f"input {value.name!r} is {type_name(kind)}; networks take float32, and int32 or int64 "
            "for embeddings"
        )
    return kind in _INTEGERS
