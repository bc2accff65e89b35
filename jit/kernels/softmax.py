"""Softmax over one axis of a plain array, seen as (O, C, I): what is before it, it, what is after.

    y[o, c, i] = e^(x[o, c, i] - m) / s      or, with log, (x[o, c, i] - m) - log s
    m = max over c of x[o, c, i]             s = sum over c of e^(x[o, c, i] - m), in order of c

Strides in elements: XO XC XI of x, YO YC YI of y.  With lanes, the axis `dense` is contiguous and
has no stride parameters: i, of which there is then a multiple of lanes, or c, any number of them.
Tasks share axis o; with `grid` every (o, i), or vector of them, is a work item.

Roundings: d = x - m once; e^ by its ulps; s at most C - 1 times, in any order; then one division,
or log by its ulps and one subtraction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jit.index import Index, index
from jit.kernels.plain import plain_buffer
from jit.program import (
    Const,
    Load,
    Param,
    Program,
    Registers,
    Statement,
    Store,
    call,
    loop,
    nest,
)


@dataclass(frozen=True)
class SoftmaxKernel:
    """Softmax, or its logarithm, over axis C of (O, C, I)."""

    log: bool = False
    lanes: int = 1
    dense: Literal["c", "i"] = "i"
    grid: bool = False

    @property
    def name(self) -> str:
        """Kind and lanes."""
        along = f"_{self.dense}{self.lanes}" if self.lanes > 1 else ""
        return f"f32_{'log_' if self.log else ''}softmax{along}"


def naive_softmax(kernel: SoftmaxKernel) -> Program:
    """Three passes over c: the maximum, the sum, the result."""
    # The dense axis comes last, as vectors want it.
    axes = "OIC" if kernel.dense == "c" else "OCI"
    x, y = (Load(name, tuple(index(axis.lower()) for axis in axes)) for name in "xy")
    m, s = (Load(name, (index(0),)) for name in "ms")
    shifted = call("sub", x, m)
    start: tuple[Statement, ...] = (
        Registers("m", (1,)),
        Registers("s", (1,)),
        Store("m", m.subscript, Const(float("-inf"))),
        Store("s", s.subscript, Const(0.0)),
        loop("c", "C", Store("m", m.subscript, call("maximum", m, x))),
    )
    total = Store("s", s.subscript, call("add", s, call("exp", shifted)))
    if kernel.log:
        passes = (
            loop("c", "C", total),
            Store("s", s.subscript, call("log", s)),
            loop("c", "C", Store("y", y.subscript, call("sub", shifted, s))),
        )
    else:
        # The exponentials rest in y meanwhile: they are dear.
        keep = Store("y", y.subscript, call("exp", shifted))
        total = Store("s", s.subscript, call("add", s, y))
        passes = (
            loop("c", "C", keep, total),
            loop("c", "C", Store("y", y.subscript, call("div", y, s))),
        )
    shape = [index(axis) for axis in axes]
    strides: list[list[Index | str | int]] = [[f"{side}{a}" for a in axes] for side in "XY"]
    if kernel.lanes > 1:
        strides = [[*side[:-1], 1] for side in strides]
    buffers = (
        plain_buffer("x", "read", shape, strides[0]),
        plain_buffer("y", "write" if kernel.log else "update", shape, strides[1]),
    )
    multiple = kernel.lanes if kernel.dense == "i" else 1
    params = [Param("O", 1), Param("C", 1), Param("I", 1, multiple=multiple)]
    params += [Param(s) for side in strides for s in side if isinstance(s, str)]
    body = nest([("o", index("O")), ("i", index("I"))], *start, *passes)
    return Program(kernel.name, tuple(params), buffers, (body,))
