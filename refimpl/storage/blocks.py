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
from refimpl.schemes.distinct import distinct_rows, row_keys
from refimpl.schemes.units import Shape, part_height, strip_of
from refimpl.storage.matrix import StorageError, int32, matrix_view
from refimpl.tiles import Tile, Tiles, column_order


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
        run: columns of a tile are in the order of `column_order` by blocks of `run` channels, so
            that channels which one index can serve are neighbours.
        parts: equal parts of the filters.

    Raises:
        StorageError: the mask does not fit the weight.
    """
    matrix, kept = matrix_view(weight, mask)
    order = column_order(weight.shape, run)
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
    """
    height, run = scheme.grain(mask.shape, parts=parts)
    values, indices = block_bytes(mask, height=height, run=run, parts=parts)
    return values, 0 if mask.all() else indices


def block_bytes(mask: np.ndarray, *, height: int, run: int = 1, parts: int = 1) -> tuple[int, int]:
    """(bytes of values, bytes of indices) of what `pack_blocks` makes of a mask, in its runs.

    Counted from the mask alone, which takes a tenth of the time of packing.
    """
    sets = _row_sets(mask, height, parts)
    tiles = _distinct(sets)
    if run == 1:
        stored, runs = int(np.count_nonzero(mask)), int(np.count_nonzero(_some(sets)))
    else:
        stored, runs = _runs(sets, mask.shape, run)
    return 4 * stored, 4 * (len(sets) + 2 * len(tiles) + _rows(tiles) + runs)


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
    strip = strip_of(shape, min(height, shape[0]), parts)
    yield from np.split(np.arange(shape[0]), np.flatnonzero(np.diff(strip)) + 1)


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


def _row_sets(mask: np.ndarray, height: int, parts: int) -> np.ndarray:
    """The set of rows that keep each column of each strip, (strips, columns), as sortable keys."""
    part, width = part_height(mask.shape, parts), prod(mask.shape[1:])
    height = min(height, part)
    ragged = -part % height  # rows that no mask keeps fill the last strip of a part
    kept = np.pad(mask.reshape(-1, part, width), ((0, 0), (0, ragged), (0, 0)))
    return row_keys(np.swapaxes(kept.reshape(-1, height, width), 1, 2))


def _some(sets: np.ndarray) -> np.ndarray:
    """Which sets have any row."""
    return sets != np.zeros((), sets.dtype)


def _distinct(sets: np.ndarray) -> np.ndarray:
    """The different sets along the last axis that have any row, all of them in one list."""
    ordered = np.sort(sets, axis=-1, kind="stable")  # radix sort where sets are of up to 16 rows
    new = _some(ordered)
    new[..., 1:] &= ordered[..., 1:] != ordered[..., :-1]
    return ordered[new]


def _rows(sets: np.ndarray) -> int:
    """How many rows a list of sets has in all."""
    return int(np.unpackbits(sets.view(np.uint8)).sum(dtype=np.int64))


def _runs(sets: np.ndarray, shape: Shape, run: int) -> tuple[int, int]:
    """(weights stored, runs of channels) of all tiles, runs that are not all there filled up."""
    channels, positions = shape[1], prod(shape[2:])
    stored = runs = 0
    for first in range(0, channels, run):
        block = sets[:, first * positions : (first + run) * positions]
        room = min(run, channels - first)
        found = _distinct(np.swapaxes(block.reshape(len(sets), room, positions), 1, 2))
        stored, runs = stored + room * _rows(found), runs + len(found)
    return stored, runs
