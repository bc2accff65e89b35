"""What a model must be before it is walked: named soundly, ordered, of known operators."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass

import onnx
from onnx import AttributeProto, GraphProto, NodeProto, defs

from refimpl.importers import CaptureError

_OLDEST, _NEWEST = 7, 28
_MOST_NODES = 100_000
_LONGEST_NAME = 1000
_MOST_LINES = 10
_OURS = ("", "ai.onnx")


@dataclass(frozen=True)
class Step:
    """A node that the outputs depend on.

    Attributes:
        node: as in the model.
        schema: of its operator, as of the model's opset.
        place: operator, node and opset, for messages.
    """

    node: NodeProto
    schema: defs.OpSchema
    place: str


def opset_of(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators that the model uses.

    Raises:
        CaptureError: it names none, several, or one that is older or newer than what is known here.
    """
    versions = {entry.version for entry in model.opset_import if entry.domain in _OURS}
    if len(versions) != 1:
        raise CaptureError(f"the model imports {len(versions)} versions of ONNX's operators, not 1")
    (version,) = versions
    if not _OLDEST <= version <= _NEWEST:
        raise CaptureError(
            f"the model is of opset {version}; those from {_OLDEST} to {_NEWEST} can be captured. "
            "onnx.version_converter.convert_version may bring it there"
        )
    return version


def steps(
    graph: GraphProto, opset: int, known: Container[str], outer: Container[str] = ()
) -> list[Step]:
    """The nodes that the outputs depend on, in the model's order, all of known operators.

    Args:
        graph: the model's, or one inside a node of it.
        opset: of the model.
        known: the operators that there are rules for.
        outer: the values that the graph can read, but does not define.

    Raises:
        CaptureError: a name is hostile, defined twice or not before its use; or an operator is
            unknown: then all unknown ones are named.
    """
    nodes = live_nodes(graph, outer)
    unknown = unsupported(nodes, opset, known)
    if unknown:
        hidden = len(unknown) - _MOST_LINES
        more = [f"and {hidden} more"] if hidden > 0 else []
        raise CaptureError("\n".join([*unknown[:_MOST_LINES], *more]))
    return [step for node in nodes if (step := _step(node, opset)) is not None]


def live_nodes(graph: GraphProto, outer: Container[str] = ()) -> list[NodeProto]:
    """The nodes that the outputs depend on, in the model's order, of whatever operators.

    Args:
        graph: the model's, or one inside of it.
        outer: what is defined around it.

    Raises:
        CaptureError: a name is hostile, defined twice or not before its use.
    """
    if len(graph.node) > _MOST_NODES:
        raise CaptureError(f"the model has {len(graph.node)} nodes, more than {_MOST_NODES}")
    _check_names(graph)
    _check_order(graph, outer)
    return list(_live(graph))


def unsupported(nodes: Iterable[NodeProto], opset: int, known: Container[str]) -> list[str]:
    """A sentence, with its place, for every node whose operator has no counterpart here."""
    return [
        f"{_place(node, opset)}: there is no operator for it here"
        for node in nodes
        if node.op_type not in known or _step(node, opset) is None
    ]


def _step(node: NodeProto, opset: int) -> Step | None:
    """None if ONNX has no such operator, or none any more, in this opset."""
    if node.domain not in _OURS or node.overload:
        return None
    if not defs.has(node.op_type):
        return None
    try:
        schema = defs.get_schema(node.op_type, opset)
    except defs.SchemaError:
        return None
    return None if schema.deprecated else Step(node, schema, _place(node, opset))


def _place(node: NodeProto, opset: int) -> str:
    domain = "" if node.domain in _OURS else f"{node.domain}."
    name = node.name or (node.output[0] if node.output else "")
    return f"cannot capture {domain}{node.op_type} (node {name!r}, opset {opset})"


def initialisers(graph: GraphProto) -> Iterator[str]:
    """The names of the constants, dense and sparse."""
    yield from (tensor.name for tensor in graph.initializer)
    yield from (tensor.values.name for tensor in graph.sparse_initializer)


def _check_names(graph: GraphProto) -> None:
    names = [
        graph.name,
        *(value.name for value in (*graph.input, *graph.output)),
        *(text for value in (*graph.input, *graph.output) for text in _open_sizes(value)),
        *initialisers(graph),
        *(text for n in graph.node for text in (n.name, n.op_type, n.domain, *n.input, *n.output)),
    ]
    for name in names:
        # What is not UTF-8 comes as bytes.
        if not isinstance(name, str) or len(name) > _LONGEST_NAME or not name.isprintable():
            raise CaptureError(
                f"the model has the name {name[:60]!r}, of {len(name)} characters; names are text "
                f"of at most {_LONGEST_NAME}, none of them for control"
            )


def _open_sizes(value: onnx.ValueInfoProto) -> Iterator[str]:
    yield from (dim.dim_param for dim in value.type.tensor_type.shape.dim)


def _check_order(graph: GraphProto, outer: Container[str]) -> None:
    """Every value is defined once, and before it is read."""
    constants = list(initialisers(graph))
    # A model may list its constants among its inputs, as those of old files do.
    listed = set(constants)
    defined: set[str] = set()
    for name in (*constants, *(v.name for v in graph.input if v.name not in listed)):
        _define(defined, name, outer)
    for node in graph.node:
        for name in node.input:
            if name and name not in defined and name not in outer:
                raise CaptureError(
                    f"node {node.name or node.op_type!r} reads {name!r}, which nothing before it "
                    "defines: the nodes are in a circle or out of order"
                )
        for name in filter(None, node.output):
            _define(defined, name, outer)
    for value in graph.output:
        if value.name not in defined and value.name not in outer:
            raise CaptureError(f"output {value.name!r} is defined by nothing in the model")


def _define(defined: set[str], name: str, outer: Container[str]) -> None:
    if not name or name in defined or name in outer:
        raise CaptureError(f"the model defines {name!r} twice, or a value without a name")
    defined.add(name)


def _live(graph: GraphProto) -> Iterable[NodeProto]:
    """The nodes that an output depends on."""
    wanted = {value.name for value in graph.output}
    live = []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            wanted.update(reads(node))
            live.append(node)
    return reversed(live)


def reads(node: NodeProto) -> Iterator[str]:
    """The values that a node may read, those that graphs inside it may included."""
    yield from node.input
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield from (value.name for value in attribute.g.output)
            for inner in attribute.g.node:
                yield from reads(inner)
