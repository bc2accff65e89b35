"""Convolution by nested one-dimensional transforms (Lavin and Gray, arXiv 1509.09308, section 4).

Along each spatial axis a Transform of its own, so that m may differ from axis to axis and be 1
where an axis stays direct: R(2+1)D's separable kernels are the case of 1 x 3 x 3 and 3 x 1 x 1.
Stride and dilation are 1; other convolutions have no such transforms.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from refimpl.winograd.transforms import Transform, WinogradError

if TYPE_CHECKING:  # operators are defined by what is here
    from refimpl.ops.windows import Padding


def convolve(
    x: np.ndarray,
    w: np.ndarray,
    transforms: Sequence[Transform],
    padding: Padding,
    *,
    groups: int = 1,
) -> np.ndarray:
    """What `refimpl.ops.contractions.conv` computes with stride and dilation 1, tile by tile.

    A tile is m outputs along each axis; tiles at the ragged end compute outputs past it, which are
    cut off.  Everything is computed in the inputs' dtype: exactly where it is object (arrays of
    fractions), and within `error_bound` where it is a float.  A tile that reads an infinity or a
    NaN may be NaN throughout.

    Args:
        x: [N, C, *S], 1 to 3 spatial axes.
        w: [F, C/groups, *K], of the same dtype; of points in place of taps along an axis whose
            transform says so.
        transforms: one a spatial axis, of as many taps as the kernel has along it.
        padding: (low, high) zeros of each spatial axis.
        groups: convolution groups.

    Returns:
        [N, F, *O].

    Raises:
        WinogradError: the transforms or shapes do not fit each other.
    """
    out = _output_sizes(x, w, transforms, padding, groups)
    tiles = tuple(-(-o // t.m) for o, t in zip(out, transforms, strict=True))
    axes = range(len(transforms))
    a, g, b = zip(*(t.arrays(x.dtype) for t in transforms), strict=True)
    inputs, weights = _windows(x, transforms, padding, tiles), w
    for axis in axes:
        inputs = _along(b[axis], inputs, inputs.ndim - len(axes) + axis)
        weights = _along(g[axis], weights, 2 + axis)
    y = _products(inputs, weights, len(axes), groups)
    for axis in axes:
        y = _along(a[axis], y, axis)
    return _assemble(y, x.shape[0], w.shape[0], tiles)[(..., *map(slice, out))]


def saving(transforms: Sequence[Transform]) -> Fraction:
    """Multiplications of the direct convolution for each one of the nested transforms."""
    return prod((Fraction(t.m * t.r, t.n) for t in transforms), start=Fraction(1))


def _output_sizes(
    x: np.ndarray, w: np.ndarray, transforms: Sequence[Transform], padding: Padding, groups: int
) -> tuple[int, ...]:
    taps, sizes = tuple(t.r for t in transforms), tuple(len(t.g[0]) for t in transforms)
    if x.ndim < 3 or not x.ndim == w.ndim == len(taps) + 2 == len(padding) + 2:
        raise WinogradError(
            f"The input {x.shape}, the weight {w.shape}, {len(taps)} transforms and {len(padding)} "
            "paddings are not of one number of spatial axes."
        )
    if w.shape[2:] != sizes:
        raise WinogradError(f"Transforms of {sizes} taps do not fit a kernel of {w.shape[2:]}.")
    if x.shape[1] != w.shape[1] * groups or w.shape[0] % groups:
        raise WinogradError(
            f"An input of {x.shape[1]} channels and a weight {w.shape} are not of {groups} groups."
        )
    if x.dtype != w.dtype or x.dtype.kind not in "fO":
        raise WinogradError(
            f"The input is {x.dtype}, the weight {w.dtype}; both must be one float dtype, or "
            "object for exact fractions."
        )
    out = tuple(s + sum(p) - r + 1 for s, p, r in zip(x.shape[2:], padding, taps, strict=True))
    if min(out) < 1:
        raise WinogradError(f"A kernel of {taps} does not fit {x.shape[2:]} padded by {padding}.")
    return out


def _windows(
    x: np.ndarray, transforms: Sequence[Transform], padding: Padding, tiles: tuple[int, ...]
) -> np.ndarray:
    """The inputs of every tile, [N, C, *tiles, *n]; neighbours overlap by r - 1."""
    # At the high end also what the last tile reads past the padding, if it is ragged.
    margins = [
        (low, count * t.m + t.r - 1 - size - low)
        for size, (low, _), t, count in zip(x.shape[2:], padding, transforms, tiles, strict=True)
    ]
    padded = np.pad(x, [(0, 0), (0, 0), *margins])
    view = np.lib.stride_tricks.sliding_window_view(
        padded, [t.n for t in transforms], tuple(range(2, x.ndim))
    )
    steps = [slice(0, count * t.m, t.m) for count, t in zip(tiles, transforms, strict=True)]
    return view[(slice(None), slice(None), *steps)]


def _along(matrix: np.ndarray, values: np.ndarray, axis: int) -> np.ndarray:
    """The matrix applied to one axis."""
    return np.moveaxis(np.tensordot(matrix, values, (1, axis)), 0, axis)


def _products(inputs: np.ndarray, weights: np.ndarray, axes: int, groups: int) -> np.ndarray:
    """Per point of the transformed tile, the sum over channels: [*n, N, groups, F/groups, tiles].

    inputs are [N, C, *tiles, *n], weights [F, C/groups, *n].
    """
    points = weights.shape[2:]
    filters, depth = weights.shape[0] // groups, weights.shape[1]
    left = np.moveaxis(weights, (0, 1), (-2, -1)).reshape(*points, 1, groups, filters, depth)
    right = np.moveaxis(inputs, range(-axes, 0), range(axes))
    right = right.reshape(*points, inputs.shape[0], groups, depth, -1)
    return left @ right


def _assemble(y: np.ndarray, batch: int, filters: int, tiles: tuple[int, ...]) -> np.ndarray:
    """[*m, N, groups, F/groups, tiles] put side by side: [N, F, *(tiles * m)]."""
    axes = len(tiles)
    m = y.shape[:axes]
    y = y.reshape(*m, batch, filters, *tiles)
    order = [axes, axes + 1]
    for axis in range(axes):
        order += [axes + 2 + axis, axis]
    sizes = [count * size for count, size in zip(tiles, m, strict=True)]
    return y.transpose(order).reshape(batch, filters, *sizes)
