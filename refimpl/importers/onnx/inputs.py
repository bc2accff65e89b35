"""The inputs of a model: their types, and the sizes that it leaves open."""

from __future__ import annotations

from collections.abc import Mapping

from onnx import GraphProto, TensorProto, ValueInfoProto

from refimpl.importers import CaptureError
from refimpl.importers.onnx.call import MOST_AXES
from refimpl.importers.onnx.tensors import type_name
from refimpl.importers.sizes import GivenShapes, by_name, open_input
from refimpl.ops import Shape

_INTEGERS = (TensorProto.INT32, TensorProto.INT64)


def bind(
    graph: GraphProto, constants: set[str], given: GivenShapes | None
) -> dict[str, tuple[Shape, bool]]:
    """For each input its shape, and whether it holds integers.

    Args:
        graph: the model's.
        constants: names that are no inputs, though old models list them as such.
        given: by the input's name, the sizes to use; a named size ("batch") that they settle
            holds for the other inputs, too.

    Raises:
        CaptureError: a size stays open or is contradicted, a type is neither float32 nor int32
            nor int64, or a shape is given for what is no input.
    """
    inputs = [value for value in graph.input if value.name not in constants]
    shapes = by_name(given, [value.name for value in inputs], "the model")
    whole = {value.name: _is_whole(value) for value in inputs}
    settled: dict[str, int] = {}
    for value in inputs:
        if value.name in shapes:
            _settle(settled, value, shapes[value.name])
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
    if declared is None:
        return
    if len(declared) != len(given):
        raise CaptureError(f"{what} has not the {len(declared)} axes that the model declares")
    for size, wanted in zip(declared, given, strict=True):
        if size != wanted and isinstance(size, int):
            raise CaptureError(f"{what} contradicts the model, which has {size} for {wanted}")
        if size and settled.setdefault(str(size), wanted) != wanted:
            raise CaptureError(f"{what} makes {size!r} both {settled[str(size)]} and {wanted}")


def _shape(value: ValueInfoProto, given: Shape | None, settled: Mapping[str, int]) -> Shape:
    if given is not None:
        return given
    declared = fixed_sizes(value)
    if declared is None:
        raise CaptureError(f"input {value.name!r} declares no shape; give it one: --shape NAME=...")
    if len(declared) > MOST_AXES:
        raise CaptureError(f"input {value.name!r} has {len(declared)} axes, more than {MOST_AXES}")
    sizes = [settled.get(size, size) if isinstance(size, str) else size for size in declared]
    if all(isinstance(size, int) for size in sizes):
        return tuple(int(size) for size in sizes)
    raise open_input(value.name, sizes, [size if isinstance(size, int) else 1 for size in sizes])


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
