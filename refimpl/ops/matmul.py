"""Products of two activations, as attention has them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from refimpl.ops.operator import Operator, Shape, ShapeError, require


def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """y[..., i, j] = sum over k of a[..., i, k] * b[..., k, j].

    The axes before the last two broadcast as NumPy says; a and b have at least two.
    """
    return a @ b


def _matmul_shape(shapes: Sequence[Shape], _: Mapping[str, Any]) -> Shape:
    a, b = shapes
    require(min(len(a), len(b)) >= 2, f"{a} and {b} are not both matrices or stacks of them")
    require(a[-1] == b[-2], f"{a} has {a[-1]} columns, {b} has {b[-2]} rows")
    try:
        return (*np.broadcast_shapes(a[:-2], b[:-2]), a[-2], b[-1])
    except ValueError:
        raise ShapeError(f"the stacks of matrices {a} and {b} do not broadcast") from None


def _uses(given: Sequence[Shape], results: Sequence[Shape], _: object) -> dict[int, int]:
    """An element of b meets every row of every matrix that its own is multiplied with."""
    return {1: math.prod(results[0][:-1]) // math.prod(given[1][:-2])}


MATMUL = (Operator("matmul", (2, 2), _matmul_shape, matmul, uses=_uses),)
