"""Embedding: rows of a table, looked up by number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from refimpl.ops.operator import Operator, Shape, require

# float32 holds every whole number up to here, so indices may be values like any other.
MOST_ROWS = 2**24


class IndicesError(ValueError):
    """Values that are no indices of a table; the message has the first and its place."""


def embedding(indices: np.ndarray, table: np.ndarray) -> np.ndarray:
    """y[..., c] = table[indices[...], c].

    indices are whole numbers of 0 to V - 1, in any shape; table is [V, C].

    Raises:
        IndicesError: an index is not whole or not a row of the table.
    """
    require_indices(indices, len(table))
    return table[indices.astype(np.int64)]


def require_indices(values: np.ndarray, rows: int) -> None:
    """Return if every value is a whole number of 0 to rows - 1.

    Raises:
        IndicesError: one is not.
    """
    wrong = ~((values == np.floor(values)) & (values >= 0) & (values < rows))
    if wrong.any():
        place = tuple(np.argwhere(wrong)[0].tolist())
        raise IndicesError(
            f"the value {values[place]:g} at {place} is not a whole number of 0 to {rows - 1}, "
            f"the rows of the embedding's table"
        )


def _embedding_shape(shapes: Sequence[Shape], _: Mapping[str, Any]) -> Shape:
    indices, table = shapes
    require(len(table) == 2, f"table {table} is not [V, C]")
    require(
        table[0] <= MOST_ROWS,
        f"table {table} has more than 2^24 rows, which float32 indices cannot tell apart",
    )
    return (*indices, table[1])


EMBEDDING = (Operator("embedding", (2, 2), _embedding_shape, embedding),)
