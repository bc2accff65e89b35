"""A Graph as an ONNX model, so that peers run exactly our weights.

Only the operators of the networks compared here, batch and all sizes fixed.  Masks are not
written: pruned weights are zeros in the model, which no peer here exploits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bench.errors import BenchError
from refimpl.graph import Graph, Node, Shape, check, shapes

_OPSET, _IR_VERSION = 18, 10
_MOST_BYTES = 2**31 - 2**20  # protobuf holds no more


def export(graph: Graph) -> bytes:
    """The model, serialised; inputs and outputs keep their names and order.

    Raises:
        BenchError: an operator that is not written here, by the node's name, or weights too
            large for one ONNX file.
    """
    check(graph)
    size = sum(constant.array.nbytes for constant in graph.constants.values())
    if size > _MOST_BYTES:
        raise BenchError(f"{graph.name}: {size} bytes of weights do not fit one ONNX model")
    writer = _Writer(graph, shapes(graph))
    for node in graph.nodes:
        if node.op not in _RULES:
            raise BenchError(f"{node.name}: operator {node.op} is not written to ONNX here")
        _RULES[node.op](writer, node)
    return writer.model().SerializeToString()


@dataclass
class _Writer:
    graph: Graph
    shapes: dict[str, Shape]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    extra: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, op: str, inputs: tuple[str, ...] | list[str], output: str, **given: Any) -> None:
        self.nodes.append(helper.make_node(op, list(inputs), [output], **given))

    def number(self, node: Node, role: str, value: Any, dtype: Any = np.float32) -> str:
        """A constant that ONNX wants as an input; its name cannot be one of the Graph's."""
        name = f"{node.name}/{role}"
        self.extra[name] = np.asarray(value, dtype)
        return name

    def model(self) -> onnx.ModelProto:
        def described(name: str) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, self.shapes[name])

        held = {name: c.array for name, c in self.graph.constants.items()} | self.extra
        body = helper.make_graph(
            self.nodes,
            "network",
            [described(name) for name, _ in self.graph.inputs],
            [described(name) for name in self.graph.outputs],
            [numpy_helper.from_array(np.asarray(a), name) for name, a in held.items()],
        )
        opset = [helper.make_opsetid("", _OPSET)]
        return helper.make_model(body, opset_imports=opset, ir_version=_IR_VERSION)


def _pads(padding: Any) -> list[int]:
    return [lo for lo, _ in padding] + [hi for _, hi in padding]


def _conv(to: _Writer, node: Node) -> None:
    a = node.attrs
    to.add(
        "Conv",
        node.inputs,
        node.name,
        strides=a["stride"],
        pads=_pads(a["padding"]),
        dilations=a["dilation"],
        group=a["groups"],
    )


def _linear(to: _Writer, node: Node) -> None:
    if len(to.shapes[node.inputs[0]]) != 2:
        raise BenchError(f"{node.name}: only a linear layer on (N, C) is written to ONNX here")
    to.add("Gemm", node.inputs, node.name, transB=1)


def _batch_norm(to: _Writer, node: Node) -> None:
    to.add("BatchNormalization", node.inputs, node.name, epsilon=node.attrs["eps"])


def _clamp(to: _Writer, node: Node) -> None:
    bounds = [to.number(node, side, node.attrs[side]) for side in ("lo", "hi")]
    to.add("Clip", [*node.inputs, *bounds], node.name)


def _silu(to: _Writer, node: Node) -> None:
    gate = f"{node.name}/sigmoid"
    to.add("Sigmoid", node.inputs, gate)
    to.add("Mul", [*node.inputs, gate], node.name)


def _pool(to: _Writer, node: Node) -> None:
    a = node.attrs
    if a["ceil_mode"]:
        raise BenchError(f"{node.name}: pooling with ceil_mode is not written to ONNX here")
    given = {"kernel_shape": a["kernel"], "strides": a["stride"], "pads": _pads(a["padding"])}
    if node.op == "max_pool":
        to.add("MaxPool", node.inputs, node.name, dilations=a["dilation"], **given)
    else:
        to.add(
            "AveragePool",
            node.inputs,
            node.name,
            **given,
            count_include_pad=int(a["count_include_pad"]),
        )


def _adaptive(to: _Writer, node: Node) -> None:
    if set(node.attrs["output"]) != {1}:
        raise BenchError(f"{node.name}: adaptive pooling is written to ONNX only to one position")
    kind = "Average" if node.op == "adaptive_avg_pool" else "Max"
    to.add(f"Global{kind}Pool", node.inputs, node.name)


def _reshape(to: _Writer, node: Node) -> None:
    shape = to.number(node, "shape", to.shapes[node.name], np.int64)
    to.add("Reshape", [*node.inputs, shape], node.name)


def _mean(to: _Writer, node: Node) -> None:
    axes = to.number(node, "axes", node.attrs["axes"], np.int64)
    to.add("ReduceMean", [*node.inputs, axes], node.name, keepdims=int(node.attrs["keepdims"]))


def _plain(op: str, **renamed: str) -> Callable[[_Writer, Node], None]:
    """A rule for an operator that ONNX has as it is, its attributes renamed."""
    return lambda to, node: to.add(
        op, node.inputs, node.name, **{new: node.attrs[old] for old, new in renamed.items()}
    )


_RULES: dict[str, Callable[[_Writer, Node], None]] = {
    "conv": _conv,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "relu": _plain("Relu"),
    "clamp": _clamp,
    "leaky_relu": _plain("LeakyRelu", slope="alpha"),
    "elu": _plain("Elu", alpha="alpha"),
    "sigmoid": _plain("Sigmoid"),
    "hardsigmoid": lambda to, n: to.add("HardSigmoid", n.inputs, n.name, alpha=1 / 6, beta=0.5),
    "tanh": _plain("Tanh"),
    "silu": _silu,
    "hardswish": _plain("HardSwish"),
    "max_pool": _pool,
    "avg_pool": _pool,
    "adaptive_avg_pool": _adaptive,
    "adaptive_max_pool": _adaptive,
    "add": _plain("Add"),
    "sub": _plain("Sub"),
    "mul": _plain("Mul"),
    "concat": _plain("Concat", axis="axis"),
    "flatten": _reshape,
    "reshape": _reshape,
    "softmax": _plain("Softmax", axis="axis"),
    "mean": _mean,
    "identity": _plain("Identity"),
}
