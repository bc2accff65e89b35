"""The printer: a Graph as text, in the grammar of `refimpl.graph.form`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refimpl.graph.form import Graph, Node
    from refimpl.ops import Shape

BARE_NAME = re.compile(r"[A-Za-z0-9_.]+", re.ASCII)


def show(graph: Graph) -> str:
    """One line per entry; constants in the order of their first use, then by name.

    Raises:
        TypeError: an attribute holds something that the grammar has no text for.
    """
    lines = [
        *(f"input {show_name(name)}: {show_shape(shape)}" for name, shape in graph.inputs),
        *(_show_constant(graph, name) for name in _constants_in_order(graph)),
        *(_show_node(node) for node in graph.nodes),
        *(f"output {show_name(name)}" for name in graph.outputs),
    ]
    return "\n".join([f"graph {show_name(graph.name)} {{", *(f"  {line}" for line in lines), "}"])


def show_name(name: str) -> str:
    """The name itself where that cannot be misread, a JSON string (on one line) elsewhere."""
    return name if BARE_NAME.fullmatch(name) else json.dumps(name)


def show_shape(shape: Shape) -> str:
    """`1x3x32x32`; a scalar is `()`."""
    return "x".join(map(str, shape)) or "()"


def show_value(value: Any) -> str:
    """An attribute: Python's literals, strings as in JSON."""
    if type(value) is str:
        return json.dumps(value)
    if type(value) in (int, float, bool):
        return repr(value)
    if type(value) is tuple:
        comma = "," if len(value) == 1 else ""
        return f"({', '.join(map(show_value, value))}{comma})"
    raise TypeError(f"an attribute of type {type(value).__name__} has no text: {value!r}")


def _constants_in_order(graph: Graph) -> Iterator[str]:
    used = dict.fromkeys(name for node in graph.nodes for name in node.inputs)
    yield from (name for name in used if name in graph.constants)
    yield from sorted(name for name in graph.constants if name not in used)


def _show_constant(graph: Graph, name: str) -> str:
    constant, sparsity = graph.constants[name], graph.sparsity.get(name)
    text = f"const {show_name(name)}: {show_shape(constant.array.shape)} {constant.digest}"
    if sparsity is None:
        return text
    return f"{text} [{show_name(str(sparsity.scheme))} {sparsity.mask.digest}]"


def _show_node(node: Node) -> str:
    outputs, inputs = (", ".join(map(show_name, names)) for names in (node.outputs, node.inputs))
    attrs = ", ".join(f"{show_name(key)}={show_value(value)}" for key, value in node.attributes)
    return f"{outputs} = {show_name(node.op)}({inputs}) {{{attrs}}}"
