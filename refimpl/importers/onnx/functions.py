"""Functions of a model's own: every call is replaced by the nodes of its body."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx
from onnx import inliner

from refimpl.importers import CaptureError

_MOST_NODES = 100_000

_Name = tuple[str, str, str]


def inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without functions; itself if it has none.

    Raises:
        CaptureError: functions call one another in a circle, or the model would grow past bounds.
    """
    if not model.functions:
        return model
    sizes = _sizes(model)
    total = sum(sizes.get(_called(node), 1) for node in _nested(model.graph.node))
    if total > _MOST_NODES:
        raise CaptureError(f"the model has {total} nodes with its functions, over {_MOST_NODES}")
    try:
        return inliner.inline_local_functions(model)
    except (RuntimeError, ValueError) as error:
        line = str(error).strip().partition("\n")[0][:300]
        raise CaptureError(f"the model's functions cannot be inlined: {line}") from error


def _called(node: onnx.NodeProto) -> _Name:
    return node.domain, node.op_type, node.overload


def _sizes(model: onnx.ModelProto) -> dict[_Name, int]:
    """How many nodes each function comes to."""
    bodies = {(f.domain, f.name, f.overload): f for f in model.functions}
    if len(bodies) < len(model.functions):
        raise CaptureError("two of the model's functions have the same name")
    sizes: dict[_Name, int] = {}
    waiting = dict(bodies)
    while waiting:
        # Those whose callees are counted; in a circle there is none.
        ready = [
            name
            for name, body in waiting.items()
            if not any(_called(node) in waiting for node in _nested(body.node))
        ]
        if not ready:
            names = ", ".join(repr(name) for _, name, _ in list(waiting)[:5])
            raise CaptureError(f"functions of the model call one another in a circle: {names}")
        for name in ready:
            nodes = _nested(waiting.pop(name).node)
            sizes[name] = sum(sizes.get(_called(node), 1) for node in nodes)
    return sizes


def _nested(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes, and those of the graphs inside them."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _nested(graph.node)
