"""How each operator is written: a rule by the operator's name."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.errors import BenchError
from bench.onnx_export.recurrent import recurrence
from bench.onnx_export.writer import OPSET, Writer
from refimpl.graph import Node


def _pads(padding: Any) -> list[int]:
    return [lo for lo, _ in padding] + [hi for _, hi in padding]


def _conv(to: Writer, node: Node) -> None:
    a = node.attrs
    to.add(
        "Conv",
        node.inputs,
        node.name,
        kernel_shape=to.shapes[node.inputs[1]][2:],  # MNN does not infer it in 3-D
        strides=a["stride"],
        pads=_pads(a["padding"]),
        dilations=a["dilation"],
        group=a["groups"],
    )


def _linear(to: Writer, node: Node) -> None:
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


def _batch_norm(to: Writer, node: Node) -> None:
    to.add("BatchNormalization", node.inputs, node.name, epsilon=node.attrs["eps"])


def _clamp(to: Writer, node: Node) -> None:
    bounds = [to.number(node, side, node.attrs[side]) for side in ("lo", "hi")]
    to.add("Clip", [*node.inputs, *bounds], node.name)


def _silu(to: Writer, node: Node) -> None:
    gate = f"{node.name}/sigmoid"
    to.add("Sigmoid", node.inputs, gate)
    to.add("Mul", [*node.inputs, gate], node.name)


def _pool(to: Writer, node: Node) -> None:
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


def _adaptive(to: Writer, node: Node) -> None:
    given, wanted = to.shapes[node.inputs[0]][2:], node.attrs["output"]
    kind = "Average" if node.op == "adaptive_avg_pool" else "Max"
    if set(wanted) == {1}:
        to.add(f"Global{kind}Pool", node.inputs, node.name)
        return
    if any(n % m for n, m in zip(given, wanted, strict=True)):
        raise BenchError(
            f"{node.name}: adaptive pooling of {given} to {wanted} positions has windows of "
            f"different sizes, which ONNX has not"
        )
    kernel = [n // m for n, m in zip(given, wanted, strict=True)]
    to.add(f"{kind}Pool", node.inputs, node.name, kernel_shape=kernel, strides=kernel)


def _gelu(to: Writer, node: Node) -> None:
    """x/2 * (1 + s), spelled out: the operator itself came with ONNX 20."""
    (x,) = node.inputs
    half, one = to.number(node, "half", 0.5), to.number(node, "one", 1.0)
    s = f"{node.name}/s"
    if node.attrs["approximate"] == "tanh":
        three, small = to.number(node, "three", 3.0), to.number(node, "small", 0.044715)
        root = to.number(node, "root", math.sqrt(2 / math.pi))
        cube, part, sum_, scaled = (f"{node.name}/{r}" for r in ("cube", "part", "sum", "scaled"))
        to.add("Pow", [x, three], cube)
        to.add("Mul", [cube, small], part)
        to.add("Add", [x, part], sum_)
        to.add("Mul", [sum_, root], scaled)
        to.add("Tanh", [scaled], s)
    else:
        root, scaled = to.number(node, "root", math.sqrt(2)), f"{node.name}/scaled"
        to.add("Div", [x, root], scaled)
        to.add("Erf", [scaled], s)
    to.add("Add", [s, one], f"{node.name}/gate")
    to.add("Mul", [x, f"{node.name}/gate"], f"{node.name}/twice")
    to.add("Mul", [f"{node.name}/twice", half], node.name)


def _embedding(to: Writer, node: Node) -> None:
    indices, table = node.inputs
    to.add("Gather", [table, indices], node.name, axis=0)


def _reshape(to: Writer, node: Node) -> None:
    shape = to.number(node, "shape", to.shapes[node.name], np.int64)
    to.add("Reshape", [*node.inputs, shape], node.name)


def _reduction(op: str) -> Callable[[Writer, Node], None]:
    def rule(to: Writer, node: Node) -> None:
        axes = to.number(node, "axes", node.attrs["axes"], np.int64)
        to.add(op, [*node.inputs, axes], node.name, keepdims=int(node.attrs["keepdims"]))

    return rule


def _conv_transpose(to: Writer, node: Node) -> None:
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


def _layer_norm(to: Writer, node: Node) -> None:
    trailing = len(to.shapes[node.inputs[1]])
    to.add("LayerNormalization", node.inputs, node.name, axis=-trailing, epsilon=node.attrs["eps"])


def _lrn(to: Writer, node: Node) -> None:
    a = node.attrs
    if a["size"] % 2 == 0:
        raise BenchError(f"{node.name}: ONNX's windows of even size {a['size']} lie otherwise")
    given = {"size": a["size"], "alpha": a["alpha"], "beta": a["beta"], "bias": a["k"]}
    to.add("LRN", node.inputs, node.name, **given)


def _slice(to: Writer, node: Node) -> None:
    axis, start, step, size = (node.attrs[k] for k in ("axis", "start", "step", "size"))
    end = start + step * size
    # A negative end counts from the back: past the front is as far as ONNX can say.
    bounds = {"starts": start, "ends": end if end >= 0 else -(2**31), "axes": axis, "steps": step}
    operands = [to.number(node, role, [value], np.int64) for role, value in bounds.items()]
    to.add("Slice", [*node.inputs, *operands], node.name)


def _pad(to: Writer, node: Node) -> None:
    pads = to.number(node, "pads", _pads(node.attrs["padding"]), np.int64)
    value = to.number(node, "value", node.attrs["value"])
    if node.attrs["mode"] == "wrap":
        raise BenchError(f"{node.name}: padding that wraps is not in ONNX {OPSET}")
    to.add("Pad", [*node.inputs, pads, value], node.name, mode=node.attrs["mode"])


def _expand(to: Writer, node: Node) -> None:
    shape = to.number(node, "shape", node.attrs["shape"], np.int64)
    to.add("Expand", [*node.inputs, shape], node.name)


def _take(to: Writer, node: Node) -> None:
    indices = to.number(node, "indices", node.attrs["indices"], np.int64)
    to.add("Gather", [*node.inputs, indices], node.name, axis=node.attrs["axis"])


def _softplus(to: Writer, node: Node) -> None:
    if node.attrs["beta"] != 1.0:
        raise BenchError(f"{node.name}: softplus is written to ONNX only with beta 1")
    to.add("Softplus", node.inputs, node.name)


def _plain(op: str, **renamed: str) -> Callable[[Writer, Node], None]:
    """A rule for an operator that ONNX has as it is, its attributes renamed."""
    return lambda to, node: to.add(
        op, node.inputs, node.name, **{new: node.attrs[old] for old, new in renamed.items()}
    )


RULES: dict[str, Callable[[Writer, Node], None]] = {
    "conv": _conv,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "relu": _plain("Relu"),
    "clamp": _clamp,
    "leaky_relu": _plain("LeakyRelu", slope="alpha"),
    "elu": _plain("Elu", alpha="alpha"),
    "gelu": _gelu,
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
    "embedding": _embedding,
    "rnn": recurrence,
    "gru": recurrence,
    "lstm": recurrence,
}
"""Operators of the Graph that have a spelling in ONNX."""
