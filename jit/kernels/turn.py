"""Turning a matrix: y[j, i] = x[i, j] (+ bias[i])

Names in the Programs: i row and j column of x; x has R of them and C.  Rows of x are XR elements
apart, those of y YC.
"""

from __future__ import annotations

from dataclasses import dataclass

from jit.index import index
from jit.program import Buffer, Load, Param, Program, Store, Value, call, loop


@dataclass(frozen=True)
class TurnKernel:
    """What one compiled kernel fixes.

    lanes: squares of so many rows and columns are turned in registers; bias: one is added for
    every row of x.
    """

    lanes: int
    bias: bool = False

    @property
    def name(self) -> str:
        """Kind, lanes."""
        return f"f32_turn_v{self.lanes}{'_bias' if self.bias else ''}"


def naive_turn(kernel: TurnKernel) -> Program:
    """Element by element."""
    i, j, rows, columns = (index(name) for name in "ijRC")
    params = [Param(name, 1, multiple=kernel.lanes) for name in "RC"] + [Param("XR"), Param("YC")]
    buffers = [
        Buffer("x", "read", "f32", (rows, columns), (index("XR"), index(1))),
        Buffer("y", "write", "f32", (columns, rows), (index("YC"), index(1))),
    ]
    value: Value = Load("x", (i, j))
    if kernel.bias:
        value = call("add", value, Load("bias", (i,)))
        buffers.insert(1, Buffer("bias", "read", "f32", (rows,), (index(1),)))
    body = loop("i", "R", loop("j", "C", Store("y", (j, i), value)))
    return Program(kernel.name, tuple(params), tuple(buffers), (body,))
