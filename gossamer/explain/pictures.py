"""A layer's register tile and kept columns, drawn with characters."""

from __future__ import annotations

from math import prod

import numpy as np

from gossamer.explain.explanation import Explanation

_WIDTH, _HEIGHT = 64, 27


def tile_picture(e: Explanation) -> list[str]:
    """The register tile: a row per vector of filters, a box per output position."""
    k = e.kernel
    vectors, positions = k.rows // k.lanes, prod(k.tile)
    head = f"registers: {vectors * positions} sums of {e.target.registers} registers"
    rows = [
        f"  filters {v * k.lanes:>3}..{(v + 1) * k.lanes - 1:<3} " + "▪ " * positions
        for v in range(vectors)
    ]
    foot = f"  {'':16}{positions} positions ({k.tile[0]} x {k.tile[1]})"
    return [head, *(row.rstrip() for row in rows), foot]


def column_picture(e: Explanation, strip: int = 0) -> list[str]:
    """The kept columns of a strip: a row per kernel position, a character per input channel.

    Where there are more than fit, a row or character stands for several neighbours, shaded by the
    share kept.
    """
    tiles = e.plan.weights[e.step.weight]
    _, channels, *kernel = tiles.shape
    kept = np.zeros(channels * prod(kernel), bool)
    kept[tiles.strips[strip][0].columns] = True
    by_position = kept.reshape(channels, prod(kernel)).T.astype(float)
    share, rows = _shrink(by_position, 0, _HEIGHT)
    share, across = _shrink(share, 1, _WIDTH)
    head = f"strip {strip + 1} of {len(tiles.strips)} keeps {kept.sum()} of {kept.size} columns"
    legend = f"  (a row: {_several(rows, 'kernel position')};"
    legend += f" a character: {_several(across, 'channel')})"
    return [head + legend, *("  " + "".join(" ░▒▓█"[_shade(s)] for s in row) for row in share)]


def _shrink(share: np.ndarray, axis: int, most: int) -> tuple[np.ndarray, int]:
    """(means of equal groups along an axis, at most so many; the size of a group)."""
    extent = share.shape[axis]
    each = -(-extent // most)
    starts = np.arange(0, extent, each)
    sizes = np.diff([*starts, extent])
    sums = np.add.reduceat(share, starts, axis=axis)
    return sums / np.expand_dims(sizes, 1 - axis), each


def _several(number: int, thing: str) -> str:
    return f"{number} {thing}s" if number > 1 else f"1 {thing}"


def _shade(share: float) -> int:
    """0 nothing, 4 everything; a little is never shown as nothing, nor most as everything."""
    if share in (0, 1):
        return int(4 * share)
    return min(3, max(1, round(4 * share)))
