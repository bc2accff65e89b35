"""A Graph as an ONNX model, so that peers run exactly our weights.

The operators that ONNX 18 has as they are, and few more; batch and all sizes fixed.  Masks are not
written: pruned weights are zeros in the model, which no peer here exploits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

    def add(
        self, op: str, inputs: Sequence[str], output: str | Sequence[str], **given: Any
    ) -> None:
        outputs = [output] if isinstance(output, str) else list(output)
        self.nodes.append(helper.make_node(op, list(inputs), outputs, **given))

    def constant(self, node: Node, name: str) -> np.ndarray:
        """The array of an input that must be a constant."""
        if name not in self.graph.constants:
            raise BenchError(f"{node.name}: {name} must be a constant to be written to ONNX")
        return self.graph.constants[name].array

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
    x, weight, *bias = node.inputs
    if len(to.shapes[x]) == 2:
        to.add("Gemm", node.inputs, node.name, transB=1)
        return
    # Gemm takes matrices only.
    transposed = to.number(node, "weight", to.constant(node, weight).T)
    product = f"{node.name}/product" if bias else node.name
    to.add("MatMul", [x, transposed], product)
    if bias:
        to.add("Add", [product, *bias], node.name)


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


def _reduction(op: str) -> Callable[[_Writer, Node], None]:
    def rule(to: _Writer, node: Node) -> None:
        axes = to.number(node, "axes", node.attrs["axes"], np.int64)
        to.add(op, [*node.inputs, axes], node.name, keepdims=int(node.attrs["keepdims"]))

    return rule


def _conv_transpose(to: _Writer, node: Node) -> None:
    a = node.attrs
    to.add(
        "ConvTranspose",
        node.inputs,
        node.name,
        strides=a["stride"],
        pads=_pads(a["padding"]),
        output_padding=a["output_padding"],
        dilations=a["dilation"],
        group=a["groups"],
    )


def _layer_norm(to: _Writer, node: Node) -> None:
    trailing = len(to.shapes[node.inputs[1]])
    to.add("LayerNormalization", node.inputs, node.name, axis=-trailing, epsilon=node.attrs["eps"])


def _lrn(to: _Writer, node: Node) -> None:
    a = node.attrs
    if a["size"] % 2 == 0:
        raise BenchError(f"{node.name}: ONNX's windows of even size {a['size']} lie otherwise")
    given = {"size": a["size"], "alpha": a["alpha"], "beta": a["beta"], "bias": a["k"]}
    to.add("LRN", node.inputs, node.name, **given)


def _slice(to: _Writer, node: Node) -> None:
    axis, start, step, size = (node.attrs[k] for k in ("axis", "start", "step", "size"))
    end = start + step * size
    # A negative end counts from the back: past the front is as far as ONNX can say.
    bounds = {"starts": start, "ends": end if end >= 0 else -(2**31), "axes": axis, "steps": step}
    operands = [to.number(node, role, [value], np.int64) for role, value in bounds.items()]
    to.add("Slice", [*node.inputs, *operands], node.name)


def _pad(to: _Writer, node: Node) -> None:
    pads = to.number(node, "pads", _pads(node.attrs["padding"]), np.int64)
    value = to.number(node, "value", node.attrs["value"])
    if node.attrs["mode"] == "wrap":
        raise BenchError(f"{node.name}: padding that wraps is not in ONNX {_OPSET}")
    to.add("Pad", [*node.inputs, pads, value], node.name, mode=node.attrs["mode"])


def _expand(to: _Writer, node: Node) -> None:
    shape = to.number(node, "shape", node.attrs["shape"], np.int64)
    to.add("Expand", [*node.inputs, shape], node.name)


def _take(to: _Writer, node: Node) -> None:
    indices = to.number(node, "indices", node.attrs["indices"], np.int64)
    to.add("Gather", [*node.inputs, indices], node.name, axis=node.attrs["axis"])


def _softplus(to: _Writer, node: Node) -> None:
    if node.attrs["beta"] != 1.0:
        raise BenchError(f"{node.name}: softplus is written to ONNX only with beta 1")
    to.add("Softplus", node.inputs, node.name)


# Where ONNX's gates stand among the Graph's: gru z, r, h among r, z, n; lstm i, o, f, c among
# i, f, g, o.
_GATES = {"rnn": (0,), "gru": (1, 0, 2), "lstm": (0, 3, 1, 2)}


def _recurrence(to: _Writer, node: Node) -> None:
    """Weights in ONNX's order, with the axis for directions that ONNX has everywhere."""
    a, (x, *weights), states = node.attrs, node.inputs[:5], node.inputs[5:]
    w, r, *biases = (_reordered(node.op, to.constant(node, name)) for name in weights)
    held = {"W": w, "R": r, "B": np.concatenate(biases)}
    operands = [to.number(node, role, array[None]) for role, array in held.items()]
    axis = to.number(node, "direction", [0], np.int64)
    for state in states:
        to.add("Unsqueeze", [state, axis], f"{node.name}/{state}")
    given: dict[str, Any] = {"hidden_size": r.shape[1]}
    given["direction"] = "reverse" if a["reverse"] else "forward"
    if node.op == "gru":
        given["linear_before_reset"] = int(a["linear_before_reset"])
    if node.op == "rnn":
        given["activations"] = [a["activation"].capitalize()]
    results = [f"{name}/stacked" for name in node.outputs]
    inputs = [x, *operands, "", *(f"{node.name}/{state}" for state in states)]
    to.add(node.op.upper(), inputs, results, **given)
    for position, (stacked, name) in enumerate(zip(results, node.outputs, strict=True)):
        # Y has the directions behind the time, the final states have them first.
        place = to.number(node, f"axis{position}", [1 if position == 0 else 0], np.int64)
        to.add("Squeeze", [stacked, place], name)


def _reordered(op: str, rows: np.ndarray) -> np.ndarray:
    gates = np.split(rows, len(_GATES[op]))
    return np.concatenate([gates[gate] for gate in _GATES[op]])


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
    "log_softmax": _plain("LogSoftmax", axis="axis"),
    "mean": _reduction("ReduceMean"),
    "sum": _reduction("ReduceSum"),
    "max": _reduction("ReduceMax"),
    "min": _reduction("ReduceMin"),
    "identity": _plain("Identity"),
    "conv_transpose": _conv_transpose,
    "matmul": _plain("MatMul"),
    "layer_norm": _layer_norm,
    "local_response_norm": _lrn,
    "selu": _plain("Selu"),
    "celu": _plain("Celu", alpha="alpha"),
    "softplus": _softplus,
    "softsign": _plain("Softsign"),
    "mish": _plain("Mish"),
    "prelu": _plain("PRelu"),
    "div": _plain("Div"),
    "maximum": _plain("Max"),
    "minimum": _plain("Min"),
    "abs": _plain("Abs"),
    "neg": _plain("Neg"),
    "exp": _plain("Exp"),
    "log": _plain("Log"),
    "sqrt": _plain("Sqrt"),
    "reciprocal": _plain("Reciprocal"),
    "erf": _plain("Erf"),
    "transpose": _plain("Transpose", order="perm"),
    "slice": _slice,
    "pad": _pad,
    "expand": _expand,
    "take": _take,
    "rnn": _recurrence,
    "gru": _recurrence,
    "lstm": _recurrence,
}
