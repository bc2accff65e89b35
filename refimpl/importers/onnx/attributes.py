"""The attributes of a node, by what ONNX's own schema of the operator says they are."""

from __future__ import annotations

from typing import Any

from onnx import AttributeProto, NodeProto, defs

from refimpl.importers import CaptureError
from refimpl.importers.onnx.tensors import Tensors

_KINDS = {
    defs.OpSchema.AttrType.INT: AttributeProto.INT,
    defs.OpSchema.AttrType.INTS: AttributeProto.INTS,
    defs.OpSchema.AttrType.FLOAT: AttributeProto.FLOAT,
    defs.OpSchema.AttrType.FLOATS: AttributeProto.FLOATS,
    defs.OpSchema.AttrType.STRING: AttributeProto.STRING,
    defs.OpSchema.AttrType.STRINGS: AttributeProto.STRINGS,
    defs.OpSchema.AttrType.TENSOR: AttributeProto.TENSOR,
    defs.OpSchema.AttrType.SPARSE_TENSOR: AttributeProto.SPARSE_TENSOR,
    defs.OpSchema.AttrType.GRAPH: AttributeProto.GRAPH,
}
_NUMBERS = {AttributeProto.INT: "i", AttributeProto.FLOAT: "f"}
_LISTS = {AttributeProto.INTS: "ints", AttributeProto.FLOATS: "floats"}


def check_arity(node: NodeProto, schema: defs.OpSchema, place: str) -> None:
    """Refuse a node with more or fewer inputs or outputs than its operator has."""
    limits = (
        ("inputs", len(node.input), schema.min_input, schema.max_input),
        ("outputs", len(node.output), schema.min_output, schema.max_output),
    )
    for what, count, least, most in limits:
        if not least <= count <= most:
            raise CaptureError(f"{place}: it has {count} {what} instead of {least} to {most}")


def values(node: NodeProto, schema: defs.OpSchema, tensors: Tensors, place: str) -> dict[str, Any]:
    """The attributes by name: int, float, str, tuples of these, arrays, and graphs as they are.

    Raises:
        CaptureError: one is unknown to the operator, of another type than it has, given twice or
            missing.
    """
    found: dict[str, Any] = {}
    for attribute in node.attribute:
        name = attribute.name
        if name not in schema.attributes:
            raise CaptureError(f"{place}: it has no attribute {name[:100]!r}")
        if name in found:
            raise CaptureError(f"{place}: attribute {name} is given twice")
        if _KINDS.get(schema.attributes[name].type) != attribute.type:
            raise CaptureError(f"{place}: attribute {name} is not of its type")
        found[name] = _value(attribute, tensors, f"{place}: attribute {name}")
    for name, described in schema.attributes.items():
        if described.required and name not in found:
            raise CaptureError(f"{place}: attribute {name} is missing")
    return found


def _value(attribute: AttributeProto, tensors: Tensors, what: str) -> Any:
    kind = attribute.type
    if attribute.ref_attr_name:
        raise CaptureError(f"{what} refers to a function's, outside of one")
    if kind in _NUMBERS:
        if not attribute.HasField(_NUMBERS[kind]):
            raise CaptureError(f"{what} has no value")
        return getattr(attribute, _NUMBERS[kind])
    if kind in _LISTS:
        return tuple(getattr(attribute, _LISTS[kind]))
    if kind == AttributeProto.STRING:
        return attribute.s.decode()
    if kind == AttributeProto.STRINGS:
        return tuple(text.decode() for text in attribute.strings)
    if kind == AttributeProto.TENSOR:
        return tensors.array(attribute.t, what)
    if kind == AttributeProto.GRAPH:
        return attribute.g
    return tensors.dense(attribute.sparse_tensor, what)
