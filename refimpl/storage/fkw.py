"""FKW, filter-kernel-weight: PatDNN's format for kernels that keep one pattern of a library.

The arrays are those of PatDNN (arXiv 2001.00138), whose filter kernel reorder puts filters of
equal numbers of kernels side by side and, in each filter, kernels of equal pattern.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from refimpl.schemes.distinct import distinct_rows
from refimpl.schemes.units import Shape
from refimpl.storage.matrix import StorageError, int32, matrix_view, require, scatter, spans


@dataclass(frozen=True, eq=False)
class FKW:
    """Kernels, filter by filter and in each by pattern; only those that are kept.

    Attributes:
        shape: the weight's, (F, C, *K).
        patterns: int32 (patterns, entries), the kernel positions that each keeps, rising.
        offset: int32 (F + 1), where every stored filter's kernels begin.
        reorder: int32 (F), the original filter of every stored filter.
        index: int32 (kernels,), the channel of every kernel.
        stride: int32 (F, patterns + 1), how many kernels of a stored filter have an earlier
            pattern.
        weight: float32 (kernels, entries).
    """

    shape: Shape
    patterns: np.ndarray
    offset: np.ndarray
    reorder: np.ndarray
    index: np.ndarray
    stride: np.ndarray
    weight: np.ndarray

    @classmethod
    def pack(cls, weight: np.ndarray, mask: np.ndarray) -> FKW:
        """Store the weights that the mask keeps; filters of many kernels first.

        Raises:
            StorageError: the mask does not fit the weight, or its kernels do not all keep the
                same number of weights.
        """
        matrix, kept = matrix_view(weight, mask)
        kept = kept.reshape(*weight.shape[:2], -1)
        each = kept.reshape(-1, kept.shape[2])
        first, pattern = distinct_rows(each)
        patterns, pattern = each[first], pattern.reshape(kept.shape[:2])
        if not patterns[0].any():  # they are in order, so that the empty pattern is the first
            patterns, pattern = patterns[1:], pattern - 1
        entries = np.unique(patterns.sum(axis=1))
        if len(entries) > 1:
            raise StorageError(
                f"FKW holds kernels that keep equally many weights each; here they keep "
                f"{', '.join(map(str, entries.tolist()))}."
            )
        size = int(entries[0]) if len(entries) else 0
        reorder = np.argsort(-(pattern >= 0).sum(axis=1), kind="stable")
        pattern = pattern[reorder]
        counts = (pattern[..., None] == np.arange(len(patterns))).sum(axis=1)
        row, channel = np.nonzero(pattern >= 0)
        order = np.lexsort((channel, pattern[row, channel], row))
        row, channel = reorder[row[order]], channel[order]
        kernels = matrix.reshape(kept.shape)[row, channel][kept[row, channel]]
        return cls(
            weight.shape,
            patterns=int32(np.nonzero(patterns)[1].reshape(len(patterns), size)),
            offset=int32(np.concatenate([[0], counts.sum(axis=1).cumsum()])),
            reorder=int32(reorder),
            index=int32(channel),
            stride=int32(np.pad(counts.cumsum(axis=1), ((0, 0), (1, 0)))),
            weight=kernels.reshape(len(channel), size),
        )

    def unpack(self) -> tuple[np.ndarray, np.ndarray]:
        """(weight, mask) as they were packed.

        Raises:
            StorageError: the arrays break the format.
        """
        filters, channels, positions = *self.shape[:2], prod(self.shape[2:])
        lengths = spans(self.offset, len(self.index), "filter offsets")
        counts = np.diff(self.stride, axis=1)
        require(self.stride.shape == (filters, len(self.patterns) + 1), "strides do not fit")
        require(len(lengths) == len(self.reorder) == filters, "not every filter is stored")
        rising = (counts >= 0).all() and not self.stride[:, 0].any()
        require(bool(rising), "the strides of a filter do not rise from 0")
        require(np.array_equal(counts.sum(axis=1), lengths), "strides and offsets disagree")
        for name, index, bound in (
            ("channel", self.index, channels),
            ("kernel position", self.patterns, positions),
        ):
            sound = not index.size or 0 <= index.min() <= index.max() < bound
            require(sound, f"a {name} is outside 0 to {bound - 1}")
        pattern = np.repeat(np.tile(np.arange(len(self.patterns)), filters), counts.ravel())
        columns = self.index[:, None] * positions + self.patterns[pattern]
        rows = np.broadcast_to(np.repeat(self.reorder, lengths)[:, None], columns.shape)
        return scatter(self.shape, rows.ravel(), columns.ravel(), self.weight.ravel())

    @property
    def stored(self) -> int:
        """Weights stored."""
        return self.weight.size

    @property
    def index_bytes(self) -> int:
        """Bytes of everything but the weights."""
        arrays = (self.patterns, self.offset, self.reorder, self.index, self.stride)
        return sum(array.nbytes for array in arrays)
