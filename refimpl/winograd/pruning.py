"""Which points of a transformed kernel can go, and what the others then make up for.

A weight of points u (*T) makes of a tile d the outputs sum over p of A[:, p] u[p] (B d)[p].  For an
input of independent values of variance 1, an error e of the weight makes an error of the outputs
whose squares sum to e H e on average, with

    H[p, q] = (A[:, p] . A[:, q]) (B[p, :] . B[q, :])

along each axis, axes multiplied.  H is far from diagonal: in F(4, 3) the products of two points
cancel by orders of magnitude.  To drop a point for its own small size, and leave the others as they
are, can make more error than to drop them all.  So what a point is worth is the error that remains
when all others make up for it as well as they can, u[p]^2 / inv(H)[p, p] (Hassibi and Stork,
Optimal Brain Surgeon, 1993), and after all are chosen the kept ones are fitted anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np

from refimpl.winograd.tiling import transforms


def error_form(outputs: Sequence[int], kernel: Sequence[int]) -> np.ndarray:
    """H of the module's docstring, float64 (points, points), points in the order of (*T)."""
    each = []
    for t in transforms(outputs, kernel):
        a, _, b = t.arrays(np.float64)
        each.append((a.T @ a) * (b @ b.T))
    return reduce(np.kron, each)


def point_gains(outputs: Sequence[int], kernel: Sequence[int]) -> np.ndarray:
    """What an error of each point is worth in the outputs, float64 (*T).

    1 / sqrt(inv(H)[p, p]): the root of the squared error that a 1 there leaves, when all other
    points make up for it.
    """
    inverse = np.diag(np.linalg.inv(error_form(outputs, kernel)))
    return (1 / np.sqrt(inverse)).reshape([m + r - 1 for m, r in zip(outputs, kernel, strict=True)])


def refit(
    weight: np.ndarray, kept: np.ndarray, outputs: Sequence[int], kernel: Sequence[int]
) -> np.ndarray:
    """The kept points that err least in the outputs, for white input; the others are 0.

    Args:
        weight: [F, C, *T], the points before pruning.
        kept: bool of its shape.
        outputs, kernel: m and r along every axis.

    Returns:
        float64 of its shape.
    """
    form = error_form(outputs, kernel)
    rows, stays = (array.reshape(-1, len(form)) for array in (weight.astype(np.float64), kept))
    masks, which = np.unique(stays, axis=0, return_inverse=True)
    order = np.argsort(which.reshape(-1), kind="stable")
    ends = np.cumsum(np.bincount(which.reshape(-1)))
    fitted = np.zeros(rows.shape)
    for mask, alike in zip(masks, np.split(order, ends[:-1]), strict=True):
        (own,) = np.nonzero(mask)
        if own.size:
            wanted = form[own] @ rows[alike].T
            fitted[np.ix_(alike, own)] = np.linalg.solve(form[np.ix_(own, own)], wanted).T
    return fitted.reshape(weight.shape)
