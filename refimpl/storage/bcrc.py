"""BCRC, blocked column-row compact: GRIM's format, tiles with one tile per strip.

GRIM (arXiv 2108.11033) reorders rows so that those with the same surviving columns are neighbours,
and stores that column list once for all of them.  The six arrays and their names are as its
authors describe them, as far as is known; RTMobile's patented BSPC is a sibling.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refimpl.schemes.distinct import distinct_rows
from refimpl.schemes.units import Shape
from refimpl.storage.matrix import StorageError, int32, matrix_view, require, scatter, spans
from refimpl.tiles import Tile, Tiles


@dataclass(frozen=True, eq=False)
class BCRC:
    """Runs of stored rows that share one column list.

    Attributes:
        shape: the weight's, (F, C, *K).
        reorder: int32 (F), the original row of every stored row.
        row_offset: int32 (F + 1), where every stored row's weights begin.
        occurrence: int32 (runs + 1), where every run of stored rows begins.
        column_stride: int32 (runs + 1), where every run's list begins in `compact_column`.
        compact_column: int32, the columns of every run, rising, stored once a run.
        weights: float32 (kept,), row by row.
    """

    shape: Shape
    reorder: np.ndarray
    row_offset: np.ndarray
    occurrence: np.ndarray
    column_stride: np.ndarray
    compact_column: np.ndarray
    weights: np.ndarray

    @classmethod
    def pack(cls, weight: np.ndarray, mask: np.ndarray) -> BCRC:
        """Store the weights that the mask keeps; runs of long rows first.

        Raises:
            StorageError: the mask does not fit the weight.
        """
        matrix, kept = matrix_view(weight, mask)
        _, which = distinct_rows(kept)
        order = np.lexsort((which, -kept.sum(axis=1)))  # stable: rows of a run in their order
        starts = np.flatnonzero(np.diff(which[order], prepend=-1))
        columns = [np.flatnonzero(kept[order[start]]) for start in starts]
        return cls(
            weight.shape,
            reorder=int32(order),
            row_offset=_offsets(kept[order].sum(axis=1)),
            occurrence=int32(np.append(starts, len(order))),
            column_stride=_offsets([len(run) for run in columns]),
            compact_column=int32(np.concatenate(columns)),
            weights=matrix[order][kept[order]],
        )

    def unpack(self) -> tuple[np.ndarray, np.ndarray]:
        """(weight, mask) as they were packed.

        Raises:
            StorageError: the arrays break the format.
        """
        entries = [self._run(run) for run in range(self._check())]
        rows = np.concatenate([np.repeat(rows, len(columns)) for rows, columns, _ in entries])
        columns = np.concatenate([np.tile(columns, len(rows)) for rows, columns, _ in entries])
        return scatter(self.shape, rows, columns, self.weights)

    def tiles(self) -> Tiles:
        """The same weights as tiles: a strip of one tile for every run.

        Raises:
            StorageError: the arrays break the format.
        """
        strips = []
        for run in range(self._check()):
            rows, columns, values = self._run(run)
            strips.append((Tile(rows, columns, np.ascontiguousarray(values.T)),))
        return Tiles(tuple(self.shape), tuple(strips))

    @classmethod
    def from_tiles(cls, tiles: Tiles) -> BCRC:
        """The format of tiles that have one tile a strip and every row in one of them.

        Raises:
            StorageError: a strip has another number of tiles, or the rows are not all there once.
        """
        if any(len(strip) != 1 for strip in tiles.strips):
            raise StorageError("BCRC holds strips of one tile each; pack these weights anew.")
        rows = np.array([row for tile in tiles for row in tile.rows], np.int32)
        if not np.array_equal(np.sort(rows), np.arange(tiles.shape[0])):
            raise StorageError("BCRC holds every row once, and no padding rows.")
        lengths = [len(tile.columns) for tile in tiles for _ in tile.rows]
        return cls(
            tiles.shape,
            reorder=int32(rows),
            row_offset=_offsets(lengths),
            occurrence=_offsets([len(tile.rows) for tile in tiles]),
            column_stride=_offsets([len(tile.columns) for tile in tiles]),
            compact_column=np.concatenate([tile.columns for tile in tiles]),
            weights=np.concatenate([tile.values.T.ravel() for tile in tiles]),
        )

    def _run(self, run: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(rows, columns, values (rows, columns)) of one run."""
        first, last = self.occurrence[run], self.occurrence[run + 1]
        columns = self.compact_column[self.column_stride[run] : self.column_stride[run + 1]]
        values = self.weights[self.row_offset[first] : self.row_offset[last]]
        return self.reorder[first:last], columns, values.reshape(last - first, len(columns))

    def _check(self) -> int:
        """How many runs there are, once the offsets have been found sound."""
        lengths = spans(self.row_offset, len(self.weights), "row offsets")
        rows = spans(self.occurrence, len(self.reorder), "occurrences")
        columns = spans(self.column_stride, len(self.compact_column), "column strides")
        require(len(self.reorder) == len(lengths) == self.shape[0], "not every row is stored")
        require(len(rows) == len(columns), "runs of rows and of columns differ in number")
        same = np.array_equal(lengths, np.repeat(columns, rows))
        require(same, "a row is not as long as the column list of its run")
        return len(rows)

    @property
    def stored(self) -> int:
        """Weights stored."""
        return self.weights.size

    @property
    def index_bytes(self) -> int:
        """Bytes of everything but the weights."""
        arrays = (self.reorder, self.row_offset, self.occurrence, self.column_stride)
        return sum(array.nbytes for array in (*arrays, self.compact_column))


def _offsets(lengths: np.ndarray | list[int]) -> np.ndarray:
    return int32(np.concatenate([[0], np.cumsum(lengths)]))
