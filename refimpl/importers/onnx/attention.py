"""Attention, composed of products and a softmax."""

from __future__ import annotations

import math

import numpy as np

from refimpl.importers.onnx.call import Call
from refimpl.importers.onnx.operands import Known, Operand

_PAST_AND_PADDING = ((4, "past_key"), (5, "past_value"), (6, "nonpad_kv_seqlen"))


def attention(call: Call) -> Operand:
    """softmax(Q K' * scale + mask) V for every head; the mask is known, and leaves no row empty.

    ONNX makes zeros of a row that its mask leaves empty, which a softmax cannot say.
    """
    _refuse_the_rest(call)
    q, k, v = (call.operand(position) for position in range(3))
    flat = len(q.shape) == 3
    heads, kv_heads = call.attribute("q_num_heads", 0), call.attribute("kv_num_heads", 0)
    if flat:
        q, k, v = (_split_heads(call, x, n) for x, n in ((q, heads), (k, kv_heads), (v, kv_heads)))
    _check_shapes(call, q, k, v)
    k, v = (_shared(call, x, q.shape[1]) for x in (k, v))
    scale = float(call.attribute("scale", 1.0 / math.sqrt(q.shape[3])))
    scores = call.add("matmul", q, call.add("transpose", k, order=(0, 1, 3, 2)))
    scores = call.add("mul", scores, call.constant("scale", scale))
    mask = _mask(call, scores.shape)
    scores = scores if mask is None else call.add("add", scores, mask)
    y = call.add("matmul", call.add("softmax", scores, axis=3), v)
    return _join_heads(call, y) if flat else y


def _refuse_the_rest(call: Call) -> None:
    call.without_effect("qk_matmul_output_mode")  # of another output
    call.only("softcap", 0.0)
    call.only("softmax_precision", None, 1)
    call.only("left_window_size", -1)
    call.only("right_window_size", -1)
    for position, role in _PAST_AND_PADDING:
        call.require(not call.given(position), f"{role} has no counterpart here")


def _check_shapes(call: Call, q: Operand, k: Operand, v: Operand) -> None:
    call.require(
        len(q.shape) == len(k.shape) == len(v.shape) == 4
        and q.shape[0] == k.shape[0] == v.shape[0]
        and k.shape[1:3] == v.shape[1:3]
        and q.shape[3] == k.shape[3]
        and q.shape[1] % k.shape[1] == 0,
        f"{q.shape}, {k.shape} and {v.shape} are not queries, keys and values "
        "[N, heads, length, width]",
    )


def _split_heads(call: Call, x: Operand, heads: int) -> Operand:
    """[N, T, heads*E] as [N, heads, T, E]."""
    call.require(
        len(x.shape) == 3 and heads > 0 and x.shape[2] % heads == 0,
        f"{x.shape} does not divide into {heads} heads",
    )
    n, length, width = x.shape
    apart = call.add("reshape", x, shape=(n, length, heads, width // heads))
    return call.add("transpose", apart, order=(0, 2, 1, 3))


def _join_heads(call: Call, x: Operand) -> Operand:
    """[N, heads, T, E] as [N, T, heads*E]."""
    n, heads, length, width = x.shape
    turned = call.add("transpose", x, order=(0, 2, 1, 3))
    return call.add("reshape", turned, shape=(n, length, heads * width))


def _shared(call: Call, x: Operand, heads: int) -> Operand:
    """[N, h, T, E] for `heads` heads: each of the h serves as many, one after another."""
    n, own, length, width = x.shape
    if own == heads:
        return x
    apart = call.add("reshape", x, shape=(n, own, 1, length, width))
    copies = call.add("expand", apart, shape=(n, own, heads // own, length, width))
    return call.add("reshape", copies, shape=(n, heads, length, width))


def _mask(call: Call, shape: tuple[int, ...]) -> Known | None:
    """What is added to the scores: 0 or -inf, or what the model gives."""
    causal = bool(call.attribute("is_causal", 0))
    if not causal and not call.given(3):
        return None
    mask = np.zeros((1, 1), np.float32)
    if call.given(3):
        mask = call.known(3, "the mask")
    if mask.dtype == np.bool_:
        mask = np.where(mask, np.float32(0), np.float32(-np.inf))
    call.require(mask.dtype == np.float32, f"the mask is {mask.dtype}")
    if causal:
        call.reserve((*mask.shape[:-2], *shape[2:]), mask.dtype)
        mask = np.where(np.tri(*shape[2:], dtype=np.bool_), mask, np.float32(-np.inf))
    call.require(not np.isneginf(mask).all(-1).any(), "its mask leaves nothing of a row")
    return call.constant("mask", mask)
