"""What torch calls the operators of a Graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from refimpl.graph import Node


def operation(node: Node) -> Callable[..., Any]:
    """The function of a node's operator: its inputs in order, its attributes by name.

    Raises:
        ValueError: the operator has none here.
    """
    if node.op not in _OPERATIONS:
        raise ValueError(f"{node.name}: operator {node.op} is not written for torch here")
    return _OPERATIONS[node.op]


def _padded(x: Tensor, padding: Any, value: float) -> tuple[Tensor, list[int]]:
    """x, and the padding that torch can take itself; where lo is not hi, x is padded first."""
    if all(lo == hi for lo, hi in padding):
        return x, [lo for lo, _ in padding]
    widths = [side for pair in reversed(padding) for side in pair]
    return F.pad(x, widths, value=value), [0] * len(padding)


def _conv(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> Tensor:
    x, sides = _padded(x, padding, 0.0)
    function = (F.conv1d, F.conv2d, F.conv3d)[x.ndim - 3]
    return function(x, w, b, stride, sides, dilation, groups)


def _max_pool(
    x: Tensor, *, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> Tensor:
    x, sides = _padded(x, padding, -torch.inf)
    function = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[x.ndim - 3]
    return function(x, kernel, stride, sides, dilation, ceil_mode)


def _avg_pool(
    x: Tensor, *, kernel: Any, stride: Any, padding: Any, ceil_mode: bool, count_include_pad: bool
) -> Tensor:
    if any(lo != hi for lo, hi in padding):
        raise ValueError("avg_pool with uneven padding is not written for torch here")
    function = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[x.ndim - 3]
    return function(x, kernel, stride, [lo for lo, _ in padding], ceil_mode, count_include_pad)


def _adaptive(functions: tuple[Callable[..., Any], ...]) -> Callable[..., Tensor]:
    return lambda x, *, output: functions[x.ndim - 3](x, output)


def _conv_transpose(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    stride: Any,
    padding: Any,
    output_padding: Any,
    dilation: Any,
    groups: int,
) -> Tensor:
    if any(lo != hi for lo, hi in padding):
        raise ValueError("conv_transpose with uneven padding is not written for torch here")
    function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[x.ndim - 3]
    sides = [lo for lo, _ in padding]
    return function(x, w, b, stride, sides, output_padding, groups, dilation)


def _slice(x: Tensor, *, axis: int, start: int, step: int, size: int) -> Tensor:
    if step < 0:
        raise ValueError("a slice that goes backwards is not written for torch here")
    return x[(slice(None),) * axis + (slice(start, start + step * size, step),)]


def _recurrence(function: Callable[..., Any]) -> Callable[..., tuple[Tensor, ...]]:
    """One layer in one direction, by the function behind torch's modules."""

    def run(
        x: Tensor, w: Tensor, r: Tensor, b: Tensor, d: Tensor, *states: Tensor,
        reverse: bool = False, **given: Any,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        if not given.get("linear_before_reset", True):
            raise ValueError("torch's gru has its reset gate behind the product")
        if given.get("activation", "tanh") != "tanh":
            raise ValueError("an rnn other than tanh is not written for torch here")
        first = tuple(state[None] for state in states)
        start = first[0] if len(states) == 1 else first
        steps = x.flip(0) if reverse else x
        y, *last = function(steps, start, [w, r, b, d], True, 1, 0.0, False, False, False)
        return (y.flip(0) if reverse else y, *(state[0] for state in last))

    return run


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "conv": _conv,
    "linear": F.linear,
    "batch_norm": lambda x, g, b, m, v, *, eps: F.batch_norm(x, m, v, g, b, eps=eps),
    "relu": F.relu,
    "clamp": lambda x, *, lo, hi: torch.clamp(x, lo, hi),
    "leaky_relu": lambda x, *, slope: F.leaky_relu(x, slope),
    "elu": F.elu,
    "gelu": F.gelu,
    "sigmoid": torch.sigmoid,
    "hardsigmoid": F.hardsigmoid,
    "tanh": torch.tanh,
    "silu": F.silu,
    "hardswish": F.hardswish,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "adaptive_avg_pool": _adaptive(
        (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)
    ),
    "adaptive_max_pool": _adaptive(
        (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)
    ),
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "concat": lambda *xs, axis: torch.cat(xs, axis),
    "flatten": lambda x, *, start, end: torch.flatten(x, start, end),
    "reshape": lambda x, *, shape: torch.reshape(x, shape),
    "softmax": lambda x, *, axis: torch.softmax(x, axis),
    "log_softmax": lambda x, *, axis: torch.log_softmax(x, axis),
    "mean": lambda x, *, axes, keepdims: torch.mean(x, axes, keepdims),
    "sum": lambda x, *, axes, keepdims: torch.sum(x, axes, keepdims),
    "max": lambda x, *, axes, keepdims: torch.amax(x, axes, keepdims),
    "min": lambda x, *, axes, keepdims: torch.amin(x, axes, keepdims),
    "identity": lambda x: x,
    "conv_transpose": _conv_transpose,
    "matmul": torch.matmul,
    "embedding": F.embedding,
    "layer_norm": lambda x, g, b, *, eps: F.layer_norm(x, g.shape, g, b, eps),
    "transpose": lambda x, *, order: torch.permute(x, order),
    "expand": lambda x, *, shape: x.expand(shape),
    "slice": _slice,
    "rnn": _recurrence(torch.rnn_tanh),
    "gru": _recurrence(torch.gru),
    "lstm": _recurrence(torch.lstm),
}
