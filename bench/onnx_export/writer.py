"""The ONNX model as it grows, node by node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bench.errors import BenchError
from refimpl.graph import Graph, Node, Shape

OPSET = 18
"""The version of ONNX's operators that is written: every peer reads it."""
_IR_VERSION = 10


@dataclass
class Writer:
    """What has been written of a Graph.

    Attributes:
        graph: it.
        shapes: of every value of it, by name.
        indices: its inputs that are int64.
        nodes: in the order of the model.
        extra: constants that ONNX wants and the Graph has not, by name.
    """

    graph: Graph
    shapes: dict[str, Shape]
    indices: frozenset[str]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    extra: dict[str, np.ndarray] = field(default_factory=dict)

    def add(
        self, op: str, inputs: Sequence[str], output: str | Sequence[str], **given: Any
    ) -> None:
        """Write one node."""
        outputs = [output] if isinstance(output, str) else list(output)
        self.nodes.append(helper.make_node(op, list(inputs), outputs, **given))

    def constant(self, node: Node, name: str) -> np.ndarray:
        """The array of an input that must be a constant.

        Raises:
            BenchError: it is none.
        """
        if name not in self.graph.constants:
            raise BenchError(f"{node.name}: {name} must be a constant to be written to ONNX")
        return self.graph.constants[name].array

    def number(self, node: Node, role: str, value: Any, dtype: Any = np.float32) -> str:
        """A constant that ONNX wants as an input; its name cannot be one of the Graph's."""
        name = f"{node.name}/{role}"
        self.extra[name] = np.asarray(value, dtype)
        return name

    def model(self) -> onnx.ModelProto:
        """All that was written; constants that nothing reads are left out."""
        read = {name for node in self.nodes for name in node.input} | set(self.graph.outputs)
        held = {name: c.array for name, c in self.graph.constants.items()} | self.extra
        body = helper.make_graph(
            self.nodes,
            "network",
            [self._described(name) for name, _ in self.graph.inputs],
            [self._described(name) for name in self.graph.outputs],
            [numpy_helper.from_array(np.asarray(a), n) for n, a in held.items() if n in read],
        )
        opset = [helper.make_opsetid("", OPSET)]
        return helper.make_model(body, opset_imports=opset, ir_version=_IR_VERSION)

    def _described(self, name: str) -> onnx.ValueInfoProto:
        kind = TensorProto.INT64 if name in self.indices else TensorProto.FLOAT
        return helper.make_tensor_value_info(name, kind, self.shapes[name])
