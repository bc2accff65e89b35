"""Maximum and average over windows, fixed or adaptive; 1 to 3 spatial axes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from refimpl.ops.operator import FLAG, PADDING, SPATIAL, Operator, Shape, require
from refimpl.ops.windows import Padding, output_sizes, pad, taps


def max_pool(
    x: np.ndarray,
    *,
    kernel: Shape,
    stride: Shape,
    padding: Padding,
    dilation: Shape,
    ceil_mode: bool,
) -> np.ndarray:
    """y[n,c,o] = max over k of x[n, c, o*stride + k*dilation - lo], NaN if any of these is NaN.

    k runs over the positions of the kernel, padding is a (lo, hi) per axis, ceil_mode rounds the
    count of windows up as `windows.output_size` says.  Positions outside the input are absent
    (-inf).  x is [N, C, *S], the result [N, C, *O].
    """
    out = output_sizes(x.shape[2:], kernel, stride, padding, dilation, ceil_mode)
    reach = _pad_to_reach(x.shape[2:], out, kernel, stride, padding, dilation)
    y = np.full((*x.shape[:2], *out), -np.inf)
    for _, window in taps(pad(x, reach, -np.inf), out, kernel, stride, dilation):
        y = np.maximum(y, window)
    return y


def avg_pool(
    x: np.ndarray,
    *,
    kernel: Shape,
    stride: Shape,
    padding: Padding,
    ceil_mode: bool,
    count_include_pad: bool,
) -> np.ndarray:
    """y[n,c,o] = (sum over k of x[n, c, o*stride + k - lo]) / (number of positions counted).

    kernel, padding and ceil_mode are those of `max_pool`.  Positions outside the input add
    nothing.  Counted are those inside the input and, with
    `count_include_pad`, those in the padding; never those past the high padding, where a window
    hangs over because of `ceil_mode`.
    """
    ones = (1,) * len(kernel)
    out = output_sizes(x.shape[2:], kernel, stride, padding, ones, ceil_mode)
    reach = _pad_to_reach(x.shape[2:], out, kernel, stride, padding, ones)
    inside = np.ones((1, 1, *x.shape[2:]))
    if count_include_pad:
        past = tuple((0, r - hi) for (_, r), (_, hi) in zip(reach, padding, strict=True))
        counted = pad(pad(inside, padding, 1.0), past, 0.0)
    else:
        counted = pad(inside, reach, 0.0)
    total, count = np.zeros((*x.shape[:2], *out)), np.zeros((1, 1, *out))
    for _, window in taps(pad(x, reach, 0.0), out, kernel, stride, ones):
        total += window
    for _, window in taps(counted, out, kernel, stride, ones):
        count += window
    return total / count


def adaptive_avg_pool(x: np.ndarray, *, output: Shape) -> np.ndarray:
    """y[n,c,o] = mean of x[n, c, floor(o*S/O) : ceil((o+1)*S/O)] on every spatial axis.

    O is the axis's size in output, S in x, which is [N, C, *S].
    """
    y = np.empty((*x.shape[:2], *output))
    for o, cell in _cells(x, output):
        y[(..., *o)] = cell.mean(axis=tuple(range(2, x.ndim)))
    return y


def adaptive_max_pool(x: np.ndarray, *, output: Shape) -> np.ndarray:
    """y[n,c,o] = max of the cell whose mean is `adaptive_avg_pool` to output; NaN if one is."""
    y = np.empty((*x.shape[:2], *output))
    for o, cell in _cells(x, output):
        y[(..., *o)] = cell.max(axis=tuple(range(2, x.ndim)))
    return y


def _cells(x: np.ndarray, output: Shape) -> Iterator[tuple[Shape, np.ndarray]]:
    for o in np.ndindex(*output):
        bounds = tuple(
            slice(o_i * s // n, -(-(o_i + 1) * s // n))
            for o_i, s, n in zip(o, x.shape[2:], output, strict=True)
        )
        yield o, x[(..., *bounds)]


def _pad_to_reach(
    spatial: Shape, out: Shape, kernel: Shape, stride: Shape, padding: Padding, dilation: Shape
) -> Padding:
    """The padding, its high side grown so that the last window lies inside (`ceil_mode`)."""
    axes = zip(spatial, out, kernel, stride, padding, dilation, strict=True)
    return tuple(
        (lo, max(hi, (o - 1) * s + d * (k - 1) + 1 - size - lo))
        for size, o, k, s, (lo, hi), d in axes
    )


def _pool_shape(shapes: Sequence[Shape], attributes: Mapping[str, Any]) -> Shape:
    x, kernel, padding = shapes[0], attributes["kernel"], attributes["padding"]
    dilation = attributes.get("dilation", (1,) * len(kernel))
    _require_spatial(x, "kernel", kernel)
    windows = (attributes["stride"], padding, dilation, attributes["ceil_mode"])
    sizes = output_sizes(x[2:], kernel, *windows)
    for pair, k, d in zip(padding, kernel, dilation, strict=True):
        require(
            max(pair) < d * (k - 1) + 1,
            f"padding {pair} is not smaller than the extent {d * (k - 1) + 1} of the window",
        )
    return (*x[:2], *sizes)


def _adaptive_shape(shapes: Sequence[Shape], attributes: Mapping[str, Any]) -> Shape:
    _require_spatial(shapes[0], "output", attributes["output"])
    return (*shapes[0][:2], *attributes["output"])


def _require_spatial(x: Shape, name: str, value: Shape) -> None:
    require(
        len(x) == 2 + len(value),
        f"input {x} is not [N, C, *S] with the {len(value)} spatial axes of {name} {value}",
    )


_WINDOW = {"kernel": SPATIAL, "stride": SPATIAL, "padding": PADDING, "ceil_mode": FLAG}

POOLING = (
    Operator("max_pool", (1, 1), _pool_shape, max_pool, {**_WINDOW, "dilation": SPATIAL}),
    Operator("avg_pool", (1, 1), _pool_shape, avg_pool, {**_WINDOW, "count_include_pad": FLAG}),
    Operator("adaptive_avg_pool", (1, 1), _adaptive_shape, adaptive_avg_pool, {"output": SPATIAL}),
    Operator("adaptive_max_pool", (1, 1), _adaptive_shape, adaptive_max_pool, {"output": SPATIAL}),
)
