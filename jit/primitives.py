"""The primitives of a Program: what each means in NumPy and how wrong its float32 code may be.

One row per primitive. `meaning` is exact but for NumPy's own rounding; `ulp` bounds the error of
every emitter's spelling, in units in the last place of the float32 result, for finite results
above the smallest normal number. `features` are the target features the spelling needs.
The spellings are in `jit.llvm_primitives` and `jit.opencl.primitives`, keyed by the same names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Primitive:
    """A row of the table."""

    name: str
    arity: int
    meaning: Callable[..., Any]
    ulp: float
    features: frozenset[str] = frozenset()


def _sigmoid(x: Any) -> Any:
    with np.errstate(over="ignore"):
        return 1.0 / (1.0 + np.exp(-x))


def _quiet(function: Callable[..., Any]) -> Callable[..., Any]:
    def evaluate(*args: Any) -> Any:
        with np.errstate(all="ignore"):
            return function(*args)

    return evaluate


_erf = np.vectorize(math.erf, otypes=[np.float64])  # NumPy has none


_ROWS = (
    Primitive("add", 2, np.add, 0.5),
    Primitive("sub", 2, np.subtract, 0.5),
    Primitive("mul", 2, np.multiply, 0.5),
    Primitive("div", 2, np.divide, 0.5),
    # One rounding. Targets without the instruction use add(mul(a, b), c) in the Program instead.
    Primitive("fma", 3, lambda a, b, c: a * b + c, 0.5, frozenset({"fma"})),
    # NumPy's maximum and minimum carry NaN on, and so must every spelling.
    Primitive("maximum", 2, np.maximum, 0.0),
    Primitive("minimum", 2, np.minimum, 0.0),
    Primitive("abs", 1, np.abs, 0.0),
    Primitive("neg", 1, np.negative, 0.0),
    Primitive("sqrt", 1, np.sqrt, 0.5),
    Primitive("exp", 1, np.exp, 2.0),
    Primitive("expm1", 1, np.expm1, 4.0),
    Primitive("tanh", 1, np.tanh, 4.0),
    Primitive("sigmoid", 1, _sigmoid, 4.0),
    Primitive("log", 1, np.log, 1.5),
    Primitive("log1p", 1, np.log1p, 2.0),
    Primitive("erf", 1, _erf, 2.0),
    # The value of a float16, which every float32 can hold: x86 has the instruction with F16C.
    Primitive("widen", 1, lambda x: np.asarray(x, np.float64)[()], 0.0, frozenset({"f16c"})),
)

PRIMITIVES: Mapping[str, Primitive] = {
    row.name: Primitive(row.name, row.arity, _quiet(row.meaning), row.ulp, row.features)
    for row in _ROWS
}
