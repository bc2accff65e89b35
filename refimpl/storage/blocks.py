"""Exact packing into tiles: every kept weight once, and no other, whatever the scheme.

In a strip of filters, columns kept by the same filters make one tile.  So a kernel group of KGS
gives one tile, rows and columns of BCR give one for every set of rows that survive somewhere in
the strip, and a strip of one filter is a row of CSR.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np

from refimpl.schemes import Scheme
from refimpl.schemes.distinct import distinct_rows
from refimpl.schemes.units import Shape, strip_of
from refimpl.storage.matrix import StorageError, int32, matrix_view
from refimpl.tiles import Tile, Tiles


def pack_scheme(scheme: Scheme, weight: np.ndarray, mask: np.ndarray, *, parts: int = 1) -> Tiles:
    """Pack a pruned weight as its scheme suggests: strips and runs of the scheme's grain.

    Raises:
        StorageError: the mask does not fit the weight, or breaks the scheme.
    """
    reason = scheme.legal(mask, parts=parts)
    if reason is not None:
        raise StorageError(reason)
    height, run = scheme.grain(weight.shape, parts=parts)
    return pack_blocks(weight, mask, height=height, run=run, parts=parts)


def pack_blocks(
    weight: np.ndarray, mask: np.ndarray, *, height: int, run: int = 1, parts: int = 1
) -> Tiles:
    """Pack the weights (F, C, *K), float32, that the mask keeps, in strips of `height` filters.

    Args:
        weight: zero wherever the mask (bool) prunes.
        mask: of the weight's shape.
        height: filters in a strip; no strip straddles two of the `parts`.
        run: columns of a tile are ordered by block of `run` channels, then by kernel position,
            then by channel, so that channels which one index can serve are neighbours.
        parts: equal parts of the filters.

    Raises:
        StorageError: the mask does not fit the weight.
    """
    matrix, kept = matrix_view(weight, mask)
    order = _column_order(weight.shape, run)
    strips = []
    for rows in _strips(weight.shape, height, parts):
        blocks = _blocks(kept[rows][:, order])
        strips.append(
            tuple(
                Tile(
                    int32(rows[inside]),
                    int32(order[columns]),
                    np.ascontiguousarray(matrix[np.ix_(rows[inside], order[columns])].T),
                )
                for inside, columns in blocks
            )
        )
    return Tiles(tuple(weight.shape), tuple(strips))


def index_bytes(tiles: Tiles, *, run: int = 1) -> int:
    """Bytes that say where the tiles' weights belong, int32 all of them.

    Every tile has its two lengths, its rows, and one index for each run of up to `run` channels
    (a block of that many, at one kernel position); every strip has its number of tiles.
    """
    positions = prod(tiles.shape[2:])
    numbers = len(tiles.strips)
    for tile in tiles:
        channel, position = np.divmod(tile.columns, positions)
        runs = len(np.unique(channel // run * positions + position))
        numbers += 2 + len(tile.rows) + runs
    return 4 * numbers


def kept_bytes(scheme: Scheme, mask: np.ndarray, *, parts: int = 1) -> tuple[int, int]:
    """(bytes of values, bytes of indices) of a legal mask in the scheme's tiles and runs.

    A mask that keeps everything needs no index.

    Raises:
        StorageError: the mask breaks the scheme.
    """
    tiles = pack_scheme(scheme, np.zeros(mask.shape, np.float32), mask, parts=parts)
    _, run = scheme.grain(mask.shape, parts=parts)
    stored = tiles.stored + padding_of_runs(tiles, run)
    return 4 * stored, 0 if mask.all() else index_bytes(tiles, run=run)


def padding_of_runs(tiles: Tiles, run: int) -> int:
    """Weights that must be stored besides, as zeros, where a run of channels is not all there."""
    channels, positions = tiles.shape[1], prod(tiles.shape[2:])
    padding = 0
    for tile in tiles:
        channel, position = np.divmod(tile.columns, positions)
        blocks = np.unique(channel // run * positions + position) // positions
        room = np.minimum(channels - blocks * run, run).sum()
        padding += int(room - len(channel)) * len(tile.rows)
    return padding


def _strips(shape: Shape, height: int, parts: int) -> Iterator[np.ndarray]:
    """The filters of every strip."""
    strip = strip_of(shape[0], min(height, shape[0]), parts)
    yield from np.split(np.arange(shape[0]), np.flatnonzero(np.diff(strip)) + 1)


def _column_order(shape: Shape, run: int) -> np.ndarray:
    """All columns, by block of `run` channels, then kernel position, then channel."""
    channel, position = np.divmod(np.arange(prod(shape[1:])), prod(shape[2:]))
    return np.lexsort((channel, position, channel // run))


def _blocks(kept: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(rows, columns) of the tiles of one strip, kept being (rows, columns); first column first."""
    first, which = distinct_rows(kept.T)
    by_class = np.argsort(which, kind="stable")
    ends = np.cumsum(np.bincount(which))[:-1]
    columns = np.split(by_class, ends)
    for index in np.argsort(first):
        rows = np.flatnonzero(kept[:, first[index]])
        if len(rows):
            yield rows, columns[index]
