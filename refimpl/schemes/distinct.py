"""Which rows of a mask are alike: patterns of kernels, column lists of filters."""

from __future__ import annotations

import numpy as np


def distinct_rows(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different rows of a mask, bool (rows, 1 or more), in lexicographic order.

    Returns:
        (first, which): where each first occurs, and which of them every row is.
    """
    _, first, which = np.unique(row_keys(mask), return_index=True, return_inverse=True)
    return first, which.reshape(-1)


def row_keys(mask: np.ndarray) -> np.ndarray:
    """One sortable key for every row of a mask, bool (..., 1 or more): (...), equal iff rows are.

    Keys rise as rows do lexicographically.  Rows of up to 64 have unsigned integers, their bits
    with the first on top; longer ones have their bytes, whose sorting takes ten times as long.
    """
    if mask.shape[-1] == 1:
        return mask[..., 0].view(np.uint8)
    packed = np.packbits(mask, axis=-1)
    size = packed.shape[-1]
    if size > 8:
        return np.ascontiguousarray(packed).view(np.dtype((np.void, size)))[..., 0]
    room = 1 << (size - 1).bit_length()  # an integer has 1, 2, 4 or 8 bytes
    padded = np.zeros((*packed.shape[:-1], room), np.uint8)
    padded[..., :size] = packed
    return padded.view(f">u{room}")[..., 0].astype(f"u{room}")
