"""CSR, compressed sparse rows: the peer that stores one column index per weight."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refimpl.schemes.units import Shape
from refimpl.storage.matrix import int32, matrix_view, scatter, spans


@dataclass(frozen=True, eq=False)
class CSR:
    """Row f holds `columns` and `values` from offsets[f] up to offsets[f + 1].

    Attributes:
        shape: the weight's, (F, C, *K).
        offsets: int32 (F + 1).
        columns: int32 (kept,), rising in each row.
        values: float32 (kept,).
    """

    shape: Shape
    offsets: np.ndarray
    columns: np.ndarray
    values: np.ndarray

    @classmethod
    def pack(cls, weight: np.ndarray, mask: np.ndarray) -> CSR:
        """Store the weights that the mask keeps.

        Raises:
            StorageError: the mask does not fit the weight.
        """
        matrix, kept = matrix_view(weight, mask)
        offsets = int32(np.concatenate([[0], np.cumsum(kept.sum(axis=1))]))
        return cls(weight.shape, offsets, int32(np.nonzero(kept)[1]), matrix[kept])

    def unpack(self) -> tuple[np.ndarray, np.ndarray]:
        """(weight, mask) as they were packed.

        Raises:
            StorageError: the arrays break the format.
        """
        lengths = spans(self.offsets, len(self.columns), "row offsets")
        rows = np.repeat(np.arange(len(lengths)), lengths)
        return scatter(self.shape, rows, self.columns, self.values)

    @property
    def stored(self) -> int:
        """Weights stored."""
        return self.values.size

    @property
    def index_bytes(self) -> int:
        """Bytes of everything but the values."""
        return self.offsets.nbytes + self.columns.nbytes
