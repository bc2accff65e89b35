"""Scaled dot product attention, composed."""

from __future__ import annotations

import math

import numpy as np

from refimpl.importers.aten.arguments import Rule
from refimpl.importers.call import LARGEST_CONSTANT, Call, Operand, Value


def _attention(
    call: Call,
    query: Value,
    key: Value,
    value: Value,
    attn_mask: Value | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> str:
    """softmax(query @ key^T * scale + mask) @ value, over the last two axes."""
    call.require(dropout_p == 0, "it drops values at random, as in training")
    call.require(not enable_gqa, "enable_gqa=True has no counterpart here; repeat the keys instead")
    call.require(min(map(len, (query.shape, key.shape))) >= 2, "its operands are not matrices")
    order = (*range(len(key.shape) - 2), len(key.shape) - 1, len(key.shape) - 2)
    scores = call.add("matmul", query, call.add("transpose", key, order=order))
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else float(scale)
    scores = call.add("mul", scores, factor)
    mask = _mask(call, attn_mask, is_causal, query.shape[-2], key.shape[-2])
    if mask is not None:
        scores = call.add("add", scores, mask)
    return call.add("matmul", call.add("softmax", scores, axis=len(query.shape) - 1), value)


def _mask(
    call: Call, given: Value | None, is_causal: bool, queries: int, keys: int
) -> Operand | None:
    """What is added to the scores: 0 where a query may look, -inf where not."""
    if is_causal:
        call.require(given is None, "it has a mask and is causal, too")
        call.require(queries * keys <= LARGEST_CONSTANT, f"{queries} x {keys} is too large a mask")
        return call.constant("causal", _minus_infinity(~np.tri(queries, keys, dtype=bool)))
    if given is None:
        return None
    if given.array is None:
        call.refuse("its mask depends on the inputs; only a constant one has a counterpart here")
    if given.array.dtype == np.bool_:
        return call.constant("mask", _minus_infinity(~given.array))
    return given


def _minus_infinity(where: np.ndarray) -> np.ndarray:
    return np.where(where, -np.inf, 0.0)


ATTENTION: dict[str, Rule] = {"aten.scaled_dot_product_attention.default": _attention}
