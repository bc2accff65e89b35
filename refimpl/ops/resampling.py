"""Resampling: a value at other sizes, each output read from the inputs that are nearest to it.

Along one axis, with input size S, output o lies at the position p of the input:

    half_pixel                  p = (o + 1/2) * ratio - 1/2     pixels are areas
    asymmetric, align_corners   p = o * ratio                   pixels are points

The two of the second row differ in their ratio only, which for align_corners is (S-1)/(O-1) and
for asymmetric mostly S/O.  All positions past an end read that end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from refimpl.ops.operator import COORDINATES, RATIOS, SAMPLING, SPATIAL, Operator, Shape, require
from refimpl.ops.windows import require_axes


def upsample(
    x: np.ndarray, *, output: Shape, ratio: tuple[float, ...], mode: str, coordinates: str
) -> np.ndarray:
    """y[n,c,o] = sum over t of weight[o,t] * x[n,c,source[o,t]], on one spatial axis after another.

    source and weight are those that `sources` gives for the axis's size in output and its ratio
    (input steps per output step), the mode ("nearest" or "linear") and coordinates.  A source of
    weight 0 is read, too: 0 * inf is NaN; but an axis on which nothing moves (its size stays, its
    ratio is 1) is left alone.  x is [N, C, *S], the result [N, C, *output].
    """
    for i in moving_axes(x.shape[2:], output, ratio):
        source, weight = sources(x.shape[2 + i], output[i], ratio[i], mode, coordinates)
        x = np.einsum("ot,...ot->...o", weight, np.moveaxis(x, 2 + i, -1)[..., source])
        x = np.moveaxis(x, -1, 2 + i)
    return x


def moving_axes(sizes: Shape, output: Shape, ratio: tuple[float, ...]) -> list[int]:
    """The spatial axes that are resampled: those of another size, or of other steps than 1."""
    axes = enumerate(zip(sizes, output, ratio, strict=True))
    return [i for i, (before, after, step) in axes if before != after or step != 1.0]


def sources(
    size: int, output: int, ratio: float, mode: str, coordinates: str
) -> tuple[np.ndarray, np.ndarray]:
    """What every output of one axis reads, and with which weight.

    "nearest" reads floor(p) of asymmetric, floor(p + 1/2) of half_pixel coordinates; "linear"
    blends floor(p) and floor(p) + 1.  Where p is cut off to a whole number its own rounding
    counts, so that is fixed: "nearest" computes p as torch does, in float32 and rounded once.

    Args:
        size: of the input along the axis.
        output: size of the result along the axis.
        ratio: input steps per output step.
        mode: "nearest" or "linear".
        coordinates: "half_pixel", "asymmetric" or (linear only) "align_corners".

    Returns:
        (source, weight): int64 and float64 [output, 1], or [output, 2] for linear; the weights of
        an output add up to 1.
    """
    shift = 0.5 if coordinates == "half_pixel" else 0.0
    o = np.arange(output)
    if mode == "nearest":
        # Exact in float64, then rounded; a torch built without fused instructions rounds twice.
        p = ((o + shift) * float(np.float32(ratio)) - shift).astype(np.float32)
        source = np.floor(p + np.float32(shift)).astype(np.int64)[:, None]
        weight = np.ones((output, 1))
    else:
        p = (o + shift) * ratio - shift
        below = np.floor(p)
        source = below.astype(np.int64)[:, None] + np.arange(2)
        weight = np.stack([1.0 - (p - below), p - below], axis=1)
    return np.clip(source, 0, size - 1), weight


def _upsample_shape(shapes: Sequence[Shape], attributes: Mapping[str, Any]) -> Shape:
    x, output, ratio = shapes[0], attributes["output"], attributes["ratio"]
    require(3 <= len(x) <= 5, f"input {x} is not [N, C, *S] with 1 to 3 spatial axes")
    require_axes(x[2:], output=output, ratio=ratio)
    require(
        (attributes["mode"], attributes["coordinates"]) != ("nearest", "align_corners"),
        "mode nearest has coordinates half_pixel or asymmetric, not align_corners",
    )
    return (*x[:2], *output)


_UPSAMPLE = {"output": SPATIAL, "ratio": RATIOS, "mode": SAMPLING, "coordinates": COORDINATES}

RESAMPLING = (Operator("upsample", (1, 1), _upsample_shape, upsample, _UPSAMPLE),)
