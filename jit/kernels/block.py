"""Products over blocks: tiles of a strip with rows of their own (BCR), added up where y lies.

    y[n, f] += sum over kept c of w[f, c] * x[n, c]

`refimpl.storage.blocks` stores every kept weight once, in tiles of rows and columns; here a tile
has `rows` rows, any of its strip.  Their sums begin at zero in registers, vectors of rows, and are
added to y row by row: the bias lies there before, the activation comes after.

Names in the Programs: n row of x and y, f filter, c channel; s strip, t tile; m group of rows of x,
u row in it; j column of a tile, q group of columns summed apart, l column in it.
"""

from __future__ import annotations

from dataclasses import dataclass

from jit.index import index
from jit.kernels.conv import multiply_add, stored_as
from jit.program import Buffer, Floats, Load, Param, Program, Store, nest, read


@dataclass(frozen=True)
class BlockKernel:
    """What one compiled kernel fixes.

    rows: of a tile, a multiple of lanes; lanes: rows in a vector; batch: rows of x computed at
    once; split: columns summed apart, so that no product waits for the one before; fused:
    multiply-adds round once; weights: as what they are stored.
    """

    rows: int
    lanes: int
    batch: int
    split: int
    fused: bool
    weights: Floats = "f32"

    @property
    def name(self) -> str:
        """Kind, rows x rows of x, lanes, columns apart."""
        return (
            f"{stored_as(self.weights)}_block_{self.rows}x{self.batch}_v{self.lanes}s{self.split}"
        )


def naive_block(kernel: BlockKernel) -> Program:
    """The definition as loops: every weight of these tiles, others zero, one after another."""
    loops = [("n", index("N")), ("f", index("F")), ("c", index("C"))]
    y = Load("y", (index("n"), index("f")))
    w = read(kernel.weights, "w", (index("f"), index("c")))
    x = Load("x", (index("n"), index("c")))
    body = nest(loops, Store("y", y.subscript, multiply_add(kernel.fused, w, x, y)))
    params = (
        Param("N", 1, multiple=kernel.batch),
        *(Param(name, 1) for name in ("F", "C")),
        *(Param(name) for name in ("XN", "YN")),
    )
    one = index(1)
    buffers = (
        Buffer("x", "read", "f32", (index("N"), index("C")), (index("XN"), one)),
        Buffer("w", "read", kernel.weights, (index("F"), index("C")), (index("C"), one)),
        Buffer("y", "update", "f32", (index("N"), index("F")), (index("YN"), one)),
    )
    return Program(kernel.name, params, buffers, (body,))
