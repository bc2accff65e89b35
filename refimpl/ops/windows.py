"""Sliding windows: the arithmetic that convolution and pooling share.

Along one axis, with input size S, window of K taps `dilation` apart, and `lo`, `hi` positions of
padding, output o reads the positions o*stride + k*dilation - lo for k in 0..K-1.  The window's
extent is dilation*(K-1) + 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from refimpl.ops.operator import Shape, require

Padding = tuple[tuple[int, int], ...]


def output_size(
    size: int,
    kernel: int,
    stride: int,
    padding: tuple[int, int],
    dilation: int = 1,
    ceil_mode: bool = False,
) -> int:
    """Number of window positions along one axis; 0 or less when the window does not fit.

    floor((S + lo + hi - extent) / stride) + 1.  With `ceil_mode` the division rounds up, so the
    last window may hang over the end; but a window must start inside the input or the low
    padding, so one that would start at or past S (in the high padding or beyond) is dropped.
    """
    room = size + sum(padding) - (dilation * (kernel - 1) + 1)
    if not ceil_mode:
        return room // stride + 1
    count = -(-room // stride) + 1
    starts_past_the_input = (count - 1) * stride >= size + padding[0]
    return count - 1 if starts_past_the_input else count


def require_axes(spatial: Shape, **attributes: tuple[Any, ...]) -> None:
    """Raise ShapeError unless each of these attributes has an entry per spatial axis."""
    for name, value in attributes.items():
        require(
            len(value) == len(spatial),
            f"{name} {value} has {len(value)} axes, the input has {len(spatial)} spatial axes",
        )


def output_sizes(
    spatial: Shape,
    kernel: Shape,
    stride: Shape,
    padding: Padding,
    dilation: Shape,
    ceil_mode: bool = False,
) -> Shape:
    """`output_size` of every spatial axis.

    Raises:
        ShapeError: an attribute has the wrong number of axes, or a window does not fit.
    """
    require_axes(spatial, stride=stride, padding=padding, dilation=dilation)
    sizes = tuple(
        output_size(*axis, ceil_mode)
        for axis in zip(spatial, kernel, stride, padding, dilation, strict=True)
    )
    require(
        all(size > 0 for size in sizes),
        f"a window of {kernel} with dilation {dilation} does not fit into an input of {spatial} "
        f"with padding {padding}",
    )
    return sizes


def pad(x: np.ndarray, padding: Padding, value: float) -> np.ndarray:
    """[N, C, *S] with `value` around the spatial axes."""
    return np.pad(x, ((0, 0), (0, 0), *padding), constant_values=value)


def taps(
    padded: np.ndarray, out: Shape, kernel: Shape, stride: Shape, dilation: Shape
) -> Iterator[tuple[Shape, np.ndarray]]:
    """Every kernel position k, with what it reads for all outputs: a view [N, C, *out]."""
    for k in np.ndindex(*kernel):
        reads = tuple(
            slice(k_i * d, k_i * d + (o - 1) * s + 1, s)
            for k_i, o, s, d in zip(k, out, stride, dilation, strict=True)
        )
        yield k, padded[(slice(None), slice(None), *reads)]
