"""The matrix view that every storage format shares, and the checks on the way in and out.

A weight (F, C, *K) is a matrix with filters as rows and the pairs (channel, kernel position) as
columns, column id = c * prod(K) + k.  Formats store float32 values and int32 indices.
"""

from __future__ import annotations

from math import prod

import numpy as np

from refimpl.schemes.units import Shape


class StorageError(ValueError):
    """A weight that a format cannot hold, or stored arrays that break its rules."""


def matrix_view(weight: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(values, kept): the weight, float32, and its mask, bool, both as (F, columns).

    Raises:
        StorageError: the weight is not float32, the mask not bool of its shape, or a weight that
            the mask prunes is not zero.
    """
    if weight.dtype != np.float32 or weight.ndim < 2:
        raise StorageError(
            f"Formats store float32 weights (F, C, *K); this one is {weight.dtype} of the shape "
            f"{weight.shape}."
        )
    if mask.dtype != np.bool_ or mask.shape != weight.shape:
        raise StorageError(
            f"The mask is {mask.dtype} of the shape {mask.shape}, not bool of the weight's shape "
            f"{weight.shape}."
        )
    lost = np.argwhere((weight != 0) & ~mask)
    if len(lost):
        raise StorageError(
            f"The weight at {tuple(lost[0].tolist())} is pruned by the mask but not zero; "
            "multiply the weight by its mask first."
        )
    return weight.reshape(len(weight), -1), mask.reshape(len(weight), -1)


def scatter(
    shape: Shape, rows: np.ndarray, columns: np.ndarray, values: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(weight, mask) of the shape, float32 and bool: values put at (row, column), zero elsewhere.

    Raises:
        StorageError: the arrays differ in length, a place is out of range or stored twice.
    """
    require(rows.shape == columns.shape == values.shape, "rows, columns and values differ in size")
    size = (shape[0], prod(shape[1:]))
    for name, index, bound in zip(("row", "column"), (rows, columns), size, strict=True):
        if index.size and not 0 <= index.min() <= index.max() < bound:
            raise StorageError(f"A {name} is outside 0 to {bound - 1}.")
    places = np.bincount(rows.astype(np.int64) * size[1] + columns, minlength=size[0] * size[1])
    require(places.max(initial=0) <= 1, "a weight is stored twice")
    weight = np.zeros(size, np.float32)
    weight[rows, columns] = values
    return weight.reshape(shape), places.astype(bool).reshape(shape)


def spans(offsets: np.ndarray, total: int, what: str) -> np.ndarray:
    """The lengths between offsets that begin at 0 and end at `total`.

    Raises:
        StorageError: they do not, or fall.
    """
    lengths = np.diff(offsets)
    sound = len(offsets) and offsets[0] == 0 and offsets[-1] == total and (lengths >= 0).all()
    require(bool(sound), f"the {what} do not rise from 0 to {total}")
    return lengths


def require(condition: bool, otherwise: str) -> None:
    """Raise StorageError with the sentence unless the condition holds."""
    if not condition:
        raise StorageError(f"Stored weights are damaged: {otherwise}.")


def int32(values: np.ndarray | list[int]) -> np.ndarray:
    """The values as int32, in which all indices are stored."""
    return np.asarray(values, np.int32)
