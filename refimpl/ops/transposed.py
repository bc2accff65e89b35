"""Transposed convolution: the linear map of a convolution, turned around."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from refimpl.ops.operator import (
    COUNT,
    MARGIN,
    PADDING,
    SPATIAL,
    Operator,
    Shape,
    per_channel,
    require,
    require_bias,
)
from refimpl.ops.windows import Padding, require_axes, taps


def conv_transpose(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None = None,
    *,
    stride: Shape,
    padding: Padding,
    output_padding: Shape,
    dilation: Shape,
    groups: int,
) -> np.ndarray:
    """y[n,f,o] = b[f] + sum over c and all s, k that land on o of w[c,f',k] * x[n,c,s].

    s and k land on o = s*stride + k*dilation - lo; what would land outside of the result is lost.
    x is [N, C, *S], w [C, F/groups, *K], b [F], padding a (lo, hi) per axis, the result
    [N, F, *O] with O = (S-1)*stride - lo - hi + dilation*(K-1) + 1 + output_padding; 1 to 3
    spatial axes.  c runs over the channels of the group of filter f, in which it is the f'-th.
    """
    group_filters, group_channels = w.shape[1], x.shape[1] // groups
    canvas = _canvas(x, w, stride, output_padding, dilation, groups)
    for k, landing in taps(canvas, x.shape[2:], w.shape[2:], stride, dilation):
        for c, f in np.ndindex(*w.shape[:2]):
            group = c // group_channels
            landing[:, group * group_filters + f] += w[(c, f, *k)] * x[:, c]
    return _cropped(canvas, b, padding)


def conv_transpose_fast(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None = None,
    *,
    stride: Shape,
    padding: Padding,
    output_padding: Shape,
    dilation: Shape,
    groups: int,
) -> np.ndarray:
    """`conv_transpose` as one matrix product per kernel position and group."""
    batch, spatial = x.shape[0], x.shape[2:]
    inputs = x.reshape(batch, groups, x.shape[1] // groups, -1)
    canvas = _canvas(x, w, stride, output_padding, dilation, groups)
    for k, landing in taps(canvas, spatial, w.shape[2:], stride, dilation):
        rows = w[(..., *k)].reshape(groups, -1, w.shape[1])
        landing += (rows.swapaxes(1, 2) @ inputs).reshape(batch, -1, *spatial)
    return _cropped(canvas, b, padding)


def _canvas(
    x: np.ndarray, w: np.ndarray, stride: Shape, margin: Shape, dilation: Shape, groups: int
) -> np.ndarray:
    """Zeros [N, F, *]: all that any product can land on, and the output padding behind it."""
    axes = zip(x.shape[2:], w.shape[2:], stride, dilation, margin, strict=True)
    sizes = ((s - 1) * t + d * (k - 1) + 1 + extra for s, k, t, d, extra in axes)
    return np.zeros((x.shape[0], w.shape[1] * groups, *sizes))


def _cropped(canvas: np.ndarray, b: np.ndarray | None, padding: Padding) -> np.ndarray:
    inside = (slice(lo, s - hi) for s, (lo, hi) in zip(canvas.shape[2:], padding, strict=True))
    y = canvas[(..., *inside)]
    return y if b is None else y + per_channel(b, y.ndim)


def _conv_transpose_shape(shapes: Sequence[Shape], attributes: Mapping[str, Any]) -> Shape:
    x, w, groups = shapes[0], shapes[1], attributes["groups"]
    require(3 <= len(x) <= 5, f"input {x} is not [N, C, *S] with 1 to 3 spatial axes")
    require(len(w) == len(x), f"weight {w} does not have as many axes as the input {x}")
    require(x[1] == w[0], f"the input has {x[1]} channels, the weight wants {w[0]}")
    require(w[0] % groups == 0, f"{w[0]} channels do not divide into {groups} groups")
    require_bias(shapes, w[1] * groups)
    windows = {name: attributes[name] for name in _PER_AXIS}
    require_axes(x[2:], **windows)
    axes = zip(x[2:], w[2:], *windows.values(), strict=True)
    sizes = tuple((s - 1) * t + d * (k - 1) + 1 - lo - hi + e for s, k, t, (lo, hi), e, d in axes)
    padding = attributes["padding"]
    require(min(sizes) > 0, f"padding {padding} leaves no output; its sizes would be {sizes}")
    return (x[0], w[1] * groups, *sizes)


_PER_AXIS = {"stride": SPATIAL, "padding": PADDING, "output_padding": MARGIN, "dilation": SPATIAL}

TRANSPOSED = (
    Operator(
        "conv_transpose",
        (2, 3),
        _conv_transpose_shape,
        conv_transpose,
        {**_PER_AXIS, "groups": COUNT},
        fast=conv_transpose_fast,
        uses=lambda x, *_: {1: x[0][0] * math.prod(x[0][2:])},
    ),
)
