"""Tiles: the execution format of every sparse weight, and packing into it and back.

The matrix view of a weight (F, C, *K) has filters as rows and the pairs (input channel, kernel
position) as columns, column id = c * prod(K) + k.  A strip is a set of rows computed together; it
holds tiles, each a list of rows, a list of columns, and the dense values between them, which are
accumulated one tile after another.  GRIM's BCRC (rows grouped, column lists stored once, weights
dense) is one tile per strip; KGS gives one with all rows of the kernel group; dense is one with
every column.

Inside a tile an explicit zero is a weight like any other.  `pack` here makes one tile a strip,
which is what kernels run; `refimpl.storage.blocks` packs without a zero that the mask has not,
into several tiles a strip where rows differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np


class TilesError(ValueError):
    """Tiles that break a rule, or a weight that cannot be packed; the message says which."""


@dataclass(frozen=True, eq=False)
class Tile:
    """rows: int32 (r), -1 for a padding row; columns: int32 (n); values: float32 or float16
    (n, r)."""

    rows: np.ndarray
    columns: np.ndarray
    values: np.ndarray

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tile):
            return NotImplemented
        pairs = zip(self._arrays(), other._arrays(), strict=True)
        return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)

    def __hash__(self) -> int:
        return hash((self.values.shape, self.columns.tobytes()))

    def _arrays(self) -> tuple[np.ndarray, ...]:
        bits = np.int16 if self.values.dtype == np.float16 else np.int32
        return (self.rows, self.columns, self.values.view(bits))


@dataclass(frozen=True)
class Tiles:
    """A packed weight: its dense shape (F, C, *K) and the strips, each a tuple of tiles."""

    shape: tuple[int, ...]
    strips: tuple[tuple[Tile, ...], ...]

    def __iter__(self) -> Iterator[Tile]:
        for strip in self.strips:
            yield from strip

    @property
    def dtype(self) -> np.dtype:
        """Of the values of all tiles: float32 or float16."""
        return next((tile.values.dtype for tile in self), np.dtype(np.float32))

    @property
    def stored(self) -> int:
        """Weights stored, explicit zeros and padding rows included."""
        return sum(tile.values.size for tile in self)

    @property
    def index_bytes(self) -> int:
        """Bytes of row and column lists."""
        return sum(tile.rows.nbytes + tile.columns.nbytes for tile in self)

    @property
    def nbytes(self) -> int:
        """Bytes of values and of row and column lists."""
        return self.dtype.itemsize * self.stored + self.index_bytes


def pack(
    weight: np.ndarray,
    stored: np.ndarray,
    heights: Sequence[int],
    channel_block: int,
    order: np.ndarray | None = None,
) -> Tiles:
    """Pack the entries of `weight` (F, C, *K) in strips of rows of the given heights.

    The rows are those of `order`, a permutation of F, or as they come; padding rows are last.
    `stored` is a mask of the same shape; a strip stores every column in which any of its rows is
    stored.  Columns are in the order of `column_order`, so that a block of channels stays in cache
    and neighbours in memory follow each other.
    Raises TilesError if an entry outside `stored` is not zero or the heights do not cover F rows.
    """
    f = weight.shape[0]
    if stored.shape != weight.shape or np.any(weight[~stored]):
        raise TilesError(f"the mask {stored.shape} does not cover the weight {weight.shape}")
    if sum(heights) < f or any(h < 1 for h in heights):
        raise TilesError(f"strips of {tuple(heights)} rows do not cover {f} filters")
    matrix, keep = weight.reshape(f, -1), stored.reshape(f, -1)
    filters = np.arange(f) if order is None else order
    wanted = column_order(weight.shape, channel_block).astype(np.int32)
    strips, row = [], 0
    for height in heights:
        real = filters[row : row + height]
        used = np.any(keep[real], axis=0)
        columns = wanted[used[wanted]]
        values = np.zeros((columns.size, height), np.float32)
        values[:, : real.size] = matrix[real][:, columns].T
        ids = np.full(height, -1, np.int32)
        ids[: real.size] = real
        strips.append((Tile(ids, columns, values),))
        row += height
    return Tiles(tuple(weight.shape), tuple(strips))


def narrowed(tiles: Tiles) -> Tiles:
    """The same tiles, every value rounded to the nearest float16; infinite beyond 65504."""
    with np.errstate(over="ignore", invalid="ignore"):
        strips = tuple(
            tuple(Tile(t.rows, t.columns, t.values.astype(np.float16)) for t in strip)
            for strip in tiles.strips
        )
    return Tiles(tiles.shape, strips)


def in_heights(tiles: Tiles, heights: Sequence[int], strip: int) -> Tiles:
    """The same weights with every tile cut along its rows into ones of the heights, tallest first.

    What is left of a tile and nearly fills a height, three quarters of it and more, is filled with
    explicit zeros of other rows of its strip: one tile costs less than the two or three that the
    rest would make.

    Args:
        tiles: whose columns are each in one tile of a strip.
        heights: falling; 1 is the last.
        strip: rows of a strip.
    """

    def cut(tile: Tile, others: np.ndarray) -> Iterator[Tile]:
        row, size = 0, tile.rows.size
        while row < size:
            left = size - row
            room = min(left / 3, others.size + 1)
            height = next(h for h in heights if h <= left or h - left < room)
            yield _part(tile, row, height, others)
            row += height

    def parts(number: int) -> Iterator[Tile]:
        rows = np.arange(number * strip, min((number + 1) * strip, tiles.shape[0]), dtype=np.int32)
        for tile in tiles.strips[number]:
            yield from cut(tile, np.setdiff1d(rows, tile.rows))

    return Tiles(tiles.shape, tuple(tuple(parts(n)) for n in range(len(tiles.strips))))


def _part(tile: Tile, row: int, height: int, others: np.ndarray) -> Tile:
    """`height` rows of a tile from one on, filled up with zeros of the others."""
    rows, values = tile.rows[row : row + height], tile.values[:, row : row + height]
    missing = height - rows.size
    zeros = np.zeros((tile.columns.size, missing), values.dtype)
    filled = np.ascontiguousarray(np.hstack([values, zeros]))
    return Tile(np.concatenate([rows, others[:missing]]), tile.columns, filled)


def alike(keep: np.ndarray, rows: int) -> np.ndarray:
    """An order of the rows of a mask, bool (F, K), in which every `rows` keep much the same.

    Every strip begins with the fullest row that is left and takes, one by one, the row that adds
    the fewest columns, of those the one that fills most.
    """
    kept, left = keep.sum(axis=1), np.ones(len(keep), bool)
    words = np.packbits(np.pad(keep, ((0, 0), (0, -keep.shape[1] % 64))), axis=1).view(np.uint64)
    union, order = np.zeros_like(words[0]), []
    while left.any():
        waiting = np.flatnonzero(left)
        if len(order) % rows == 0:
            union = np.zeros_like(union)
        new = np.bitwise_count(words[waiting] & ~union).sum(axis=1, dtype=np.int64)
        # The first of a strip adds all it has: the fullest is wanted there.
        new = np.zeros_like(new) if len(order) % rows == 0 else new
        chosen = int(waiting[np.lexsort((-kept[waiting], new))[0]])
        union |= words[chosen]
        left[chosen] = False
        order.append(chosen)
    return np.array(order)


def column_order(shape: Sequence[int], channel_block: int) -> np.ndarray:
    """All columns of a weight (F, C, *K), int64, in the order in which tiles store them.

    By block of `channel_block` channels, then kernel position, then channel.
    """
    channel, position = np.divmod(np.arange(prod(shape[1:])), prod(shape[2:]))
    return np.lexsort((channel, position, channel // channel_block))


def unpack(tiles: Tiles) -> tuple[np.ndarray, np.ndarray]:
    """(weight, stored): the dense float32 weight and the mask of what the tiles hold.

    Raises TilesError if a row or column is out of range or stored twice.
    """
    f, c, *kernel = tiles.shape
    width = c * prod(kernel)
    weight = np.zeros((f, width), np.float32)
    stored = np.zeros((f, width), bool)
    for tile in tiles:
        if tile.values.shape != (tile.columns.size, tile.rows.size):
            raise TilesError(f"values {tile.values.shape} do not fit the tile's lists")
        if tile.rows.size and not -1 <= tile.rows.min() <= tile.rows.max() < f:
            raise TilesError(f"a row is outside 0..{f - 1}")
        if tile.columns.size and not 0 <= tile.columns.min() <= tile.columns.max() < width:
            raise TilesError(f"a column is outside 0..{width - 1}")
        real = tile.rows >= 0
        block = np.ix_(tile.rows[real], tile.columns)
        if stored[block].any():
            raise TilesError("a weight is stored twice")
        weight[block] = tile.values[:, real].T
        stored[block] = True
    return weight.reshape(tiles.shape), stored.reshape(tiles.shape)
