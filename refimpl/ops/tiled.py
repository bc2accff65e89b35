"""Convolution whose weight lives in the Winograd domain: points of transformed kernels.

Letters as in `refimpl.ops.contractions`; M the outputs and T = M + K - 1 the inputs of a tile along
every axis.  A weight u that is the transform of a kernel makes it that kernel's convolution, stride
and dilation 1.  A weight with points pruned makes it no convolution: what an output means depends
on where in its tile it lies, so how the outputs are cut into tiles is part of the meaning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from refimpl.ops.contractions import product
from refimpl.ops.operator import (
    PADDING,
    SPATIAL,
    Operator,
    Shape,
    per_channel,
    require,
    require_bias,
)
from refimpl.ops.windows import Padding, output_sizes, pad, require_axes
from refimpl.winograd import LONGEST, Transform, taps, tile_counts, tile_starts, transforms

Products = Callable[[np.ndarray], np.ndarray]
"""Transformed tiles [N, C, *tiles, *T] to the products' sums over channels [N, F, *tiles, *T]."""


def winograd_conv(
    x: np.ndarray,
    u: np.ndarray,
    b: np.ndarray | None = None,
    *,
    outputs: Shape,
    padding: Padding,
    kept: np.ndarray | None = None,
) -> np.ndarray:
    """y[n,f] = b[f] + A (sum over c of u[f,c] * (B x[n,c])), on every tile.

    x is [N, C, *S], u [F, C, *T], b [F], the result [N, F, *O]; 1 to 3 spatial axes.  A and B are
    those of `refimpl.winograd.transforms` for the `outputs` M of a tile, applied along each axis;
    * is element by element.  Tile i begins at output min(i * M, O - M) and reads the T inputs
    from there on, `padding` included; where two tiles reach an output, the later one's stays.
    A tile that reads an infinity or a NaN may be NaN throughout.
    """

    def products(tiles: np.ndarray) -> np.ndarray:
        made = np.zeros((len(tiles), len(u), *tiles.shape[2:]))
        for f, c, *point in np.ndindex(u.shape):
            if kept is None or kept[(f, c, *point)]:
                made[(slice(None), f, ..., *point)] += (
                    u[(f, c, *point)] * tiles[(slice(None), c, ..., *point)]
                )
        return made

    return _tile_by_tile(x, u.shape, b, outputs, padding, products)


def winograd_conv_fast(
    x: np.ndarray,
    u: np.ndarray,
    b: np.ndarray | None = None,
    *,
    outputs: Shape,
    padding: Padding,
    kept: np.ndarray | None = None,
) -> np.ndarray:
    """`winograd_conv` as one matrix product per point of a tile."""
    stays = np.ones(u.shape, bool) if kept is None else kept

    def products(tiles: np.ndarray) -> np.ndarray:
        batch, channels, *rest = tiles.shape
        made = np.zeros((batch, len(u), *rest))
        for point in np.ndindex(*u.shape[2:]):
            at = (slice(None), slice(None), ..., *point)
            columns = tiles[at].reshape(batch, channels, -1)
            made[at] = product(u[at], stays[at], columns).reshape(made[at].shape)
        return made

    return _tile_by_tile(x, u.shape, b, outputs, padding, products)


def _tile_by_tile(
    x: np.ndarray,
    weight: Shape,
    b: np.ndarray | None,
    outputs: Shape,
    padding: Padding,
    products: Products,
) -> np.ndarray:
    steps, rank = transforms(outputs, taps(outputs, weight[2:])), len(outputs)
    x = pad(x, padding, 0.0)
    out = tuple(s - t.r + 1 for s, t in zip(x.shape[2:], steps, strict=True))
    read, made = (list(_places(outputs, out, sizes)) for sizes in (weight[2:], outputs))
    counts = tile_counts(outputs, out)
    tiles = np.stack([x[place] for place in read], axis=2)
    tiles = _transformed(tiles.reshape(*x.shape[:2], *counts, *weight[2:]), steps, "b")
    values = _transformed(products(tiles), steps, "a")
    values = values.reshape(*values.shape[:2], len(made), *outputs)
    y = np.zeros((len(x), weight[0], *out))
    for number, place in enumerate(made):
        y[place] = values[:, :, number]
    return y if b is None else y + per_channel(b, rank + 2)


def _places(outputs: Shape, out: Shape, sizes: Shape) -> Iterator[tuple[slice, ...]]:
    """Where every tile lies in [N, C, *S], later tiles last; it is of `sizes` along the axes."""
    starts = tile_starts(outputs, out)
    for tile in np.ndindex(*(axis.size for axis in starts)):
        begin = (axis[i] for axis, i in zip(starts, tile, strict=True))
        spans = (slice(b, b + size) for b, size in zip(begin, sizes, strict=True))
        yield (slice(None), slice(None), *spans)


def _transformed(values: np.ndarray, steps: Sequence[Transform], name: str) -> np.ndarray:
    """The matrix of that name applied to the last axes."""
    for axis, t in enumerate(steps, start=-len(steps)):
        matrix = np.array(getattr(t, name), np.float64)
        values = np.moveaxis(np.tensordot(matrix, values, (1, axis)), 0, axis)
    return values


def _shape(shapes: Sequence[Shape], attributes: Mapping[str, Any]) -> Shape:
    x, u, m = shapes[0], shapes[1], attributes["outputs"]
    require(3 <= len(x) <= 5, f"input {x} is not [N, C, *S] with 1 to 3 spatial axes")
    require(len(u) == len(x), f"weight {u} does not have as many axes as the input {x}")
    require(x[1] == u[1], f"the input has {x[1]} channels, the weight wants {u[1]}")
    require_bias(shapes, u[0])
    require_axes(x[2:], outputs=m, padding=attributes["padding"])
    kernel, ones = taps(m, u[2:]), (1,) * len(m)
    sound = all((r > 1 or (r, o) == (1, 1)) and t <= LONGEST
                for r, o, t in zip(kernel, m, u[2:], strict=True))  # fmt: skip
    require(sound, f"no transforms have tiles of {m} outputs and {u[2:]} inputs")
    out = output_sizes(x[2:], kernel, ones, attributes["padding"], ones)
    require(all(map(int.__le__, m, out)), f"tiles of {m} outputs do not fit into {out}")
    return (x[0], u[0], *out)


def _tiles(out: Shape, attributes: Mapping[str, Any]) -> int:
    return out[0] * prod(tile_counts(attributes["outputs"], out[2:]))


def _direct(given: Sequence[Shape], results: Sequence[Shape], attributes: Mapping[str, Any]) -> int:
    """Those of the direct convolution: a kernel's taps at every output."""
    kernel = taps(attributes["outputs"], given[1][2:])
    return prod(given[1][:2]) * prod(kernel) * results[0][0] * prod(results[0][2:])


TILED = (
    Operator(
        "winograd_conv",
        (2, 3),
        _shape,
        winograd_conv,
        {"outputs": SPATIAL, "padding": PADDING},
        fast=winograd_conv_fast,
        weights={1: "kept"},
        uses=lambda _, out, attributes: {1: _tiles(out[0], attributes)},
        direct=_direct,
    ),
)
