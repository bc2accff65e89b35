"""Convolution and linear: the operators whose weights can be pruned.

Letters: N batch, F filters, C input channels, G groups, K kernel positions, S and O the spatial
sizes of input and output.  A pruned weight (`kept` False) is absent, not zero: its product is not
formed, so an infinity or NaN under it does not reach the sum.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from refimpl.ops.operator import (
    COUNT,
    PADDING,
    SPATIAL,
    Operator,
    Shape,
    per_channel,
    require,
    require_bias,
)
from refimpl.ops.windows import Padding, output_sizes, pad, taps


def conv(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None = None,
    *,
    stride: Shape,
    padding: Padding,
    dilation: Shape,
    groups: int,
    kept: np.ndarray | None = None,
) -> np.ndarray:
    """y[n,f,o] = b[f] + sum over c, k of w[f,c,k] * x[n, g*C/G + c, o*stride + k*dilation - lo].

    x is [N, C, *S], w [F, C/G, *K], b [F], the result [N, F, *O]; 1 to 3 spatial axes.  g is
    the group of filter f, f // (F/G), with G groups.  Positions in the padding, a (lo, hi) per
    axis, read 0.
    """
    out = output_sizes(x.shape[2:], w.shape[2:], stride, padding, dilation)
    filters, group_channels = w.shape[:2]
    y = np.zeros((x.shape[0], filters, *out))
    for k, window in taps(pad(x, padding, 0.0), out, w.shape[2:], stride, dilation):
        for f, c in np.ndindex(filters, group_channels):
            if kept is None or kept[(f, c, *k)]:
                group = f // (filters // groups)
                y[:, f] += w[(f, c, *k)] * window[:, group * group_channels + c]
    return y if b is None else y + per_channel(b, y.ndim)


def conv_fast(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None = None,
    *,
    stride: Shape,
    padding: Padding,
    dilation: Shape,
    groups: int,
    kept: np.ndarray | None = None,
) -> np.ndarray:
    """`conv` as one matrix product per kernel position and group."""
    kept = np.ones(w.shape, bool) if kept is None else kept
    out = output_sizes(x.shape[2:], w.shape[2:], stride, padding, dilation)
    batch, filters = x.shape[0], w.shape[0]
    y = np.zeros((batch, groups, filters // groups, math.prod(out)))
    for k, window in taps(pad(x, padding, 0.0), out, w.shape[2:], stride, dilation):
        rows, stays = (a[(slice(None), slice(None), *k)].reshape(groups, filters // groups, -1)
                       for a in (w, kept))  # fmt: skip
        y += product(rows, stays, window.reshape(batch, groups, x.shape[1] // groups, -1))
    y = y.reshape(batch, filters, *out)
    return y if b is None else y + per_channel(b, y.ndim)


def linear(
    x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None, *, kept: np.ndarray | None = None
) -> np.ndarray:
    """y[..., f] = b[f] + sum over c of w[f,c] * x[..., c].

    x is [N, ..., C], w [F, C], b [F], the result [N, ..., F].
    """
    y = np.zeros((*x.shape[:-1], w.shape[0]))
    for f, c in np.ndindex(*w.shape):
        if kept is None or kept[f, c]:
            y[..., f] += w[f, c] * x[..., c]
    return y if b is None else y + b


def linear_fast(
    x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None, *, kept: np.ndarray | None = None
) -> np.ndarray:
    """`linear` as one matrix product."""
    kept = np.ones(w.shape, bool) if kept is None else kept
    y = np.moveaxis(product(w, kept, np.moveaxis(x, -1, 0).reshape(x.shape[-1], -1)), 0, -1)
    y = y.reshape(*x.shape[:-1], w.shape[0])
    return y if b is None else y + b


def product(w: np.ndarray, kept: np.ndarray, x: np.ndarray) -> np.ndarray:
    """w @ x without the products of absent weights, which are zeros in w.

    Only what is not finite could tell them from zeros; it is left out of the product, and the
    terms that it makes are counted apart: infinities of either sign, and NaN.
    """
    w_ends, x_ends = ~np.isfinite(w), ~np.isfinite(x)
    if not (w_ends.any() or x_ends.any()):
        return w @ x
    y = np.where(w_ends, 0.0, w) @ np.where(x_ends, 0.0, x)
    rises = _meets(w == np.inf, x > 0) + _meets(w > 0, x == np.inf)
    rises += _meets(w == -np.inf, x < 0) + _meets(w < 0, x == -np.inf)
    falls = _meets(w == np.inf, x < 0) + _meets(w > 0, x == -np.inf)
    falls += _meets(w == -np.inf, x > 0) + _meets(w < 0, x == np.inf)
    lost = _meets(kept, np.isnan(x)) + _meets(kept & np.isnan(w), np.ones(x.shape))
    lost += _meets(kept & (w == 0), np.isinf(x)) + _meets(np.isinf(w), x == 0)
    y = np.where(rises > 0, np.inf, np.where(falls > 0, -np.inf, y))
    return np.where((lost > 0) | (rises > 0) & (falls > 0), np.nan, y)


def _meets(w: np.ndarray, x: np.ndarray) -> np.ndarray:
    """How many terms of every element of w @ x have both flags up."""
    return w.astype(np.float64) @ x.astype(np.float64)


def _conv_shape(shapes: Sequence[Shape], attributes: Mapping[str, Any]) -> Shape:
    x, w, groups = shapes[0], shapes[1], attributes["groups"]
    require(3 <= len(x) <= 5, f"input {x} is not [N, C, *S] with 1 to 3 spatial axes")
    require(len(w) == len(x), f"weight {w} does not have as many axes as the input {x}")
    require(w[0] % groups == 0, f"{w[0]} filters do not divide into {groups} groups")
    require(
        x[1] == w[1] * groups,
        f"the input has {x[1]} channels, the weight wants {w[1]} in each of {groups} groups",
    )
    require_bias(shapes, w[0])
    windows = (attributes["stride"], attributes["padding"], attributes["dilation"])
    return (x[0], w[0], *output_sizes(x[2:], w[2:], *windows))


def _linear_shape(shapes: Sequence[Shape], _: Mapping[str, Any]) -> Shape:
    x, w = shapes[0], shapes[1]
    require(len(x) >= 1, "the input has no axes")
    require(len(w) == 2, f"weight {w} is not [F, C]")
    require(x[-1] == w[1], f"the input has {x[-1]} channels, the weight wants {w[1]}")
    require_bias(shapes, w[0])
    return (*x[:-1], w[0])


CONTRACTIONS = (
    Operator(
        "conv",
        (2, 3),
        _conv_shape,
        conv,
        {"stride": SPATIAL, "padding": PADDING, "dilation": SPATIAL, "groups": COUNT},
        fast=conv_fast,
        weights={1: "kept"},
        parts=lambda attributes: attributes["groups"],
        uses=lambda _, out, __: {1: out[0][0] * math.prod(out[0][2:])},
    ),
    Operator(
        "linear",
        (2, 3),
        _linear_shape,
        linear,
        fast=linear_fast,
        weights={1: "kept"},
        uses=lambda _, out, __: {1: math.prod(out[0][:-1])},
    ),
)
