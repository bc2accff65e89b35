"""Products over tiles, their vectors of rows of x: what is kept of a weight meets a whole batch.

    y[f, u] += sum over kept c of w[f, c] * t[c, u]

Rows of x come turned, as `jit.kernels.turn` makes them: a panel of W neighbours, a few vectors.
Whatever rows a tile has, its sums are added to whole vectors of y, and no weight is stored twice;
that is what pays where rows differ from block to block (BCR) or from each other.

Names in the Programs: u row of the panel, f filter, c channel; s strip, b tile, l (or r) row of
the tile, j column of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from jit.index import index
from jit.kernels.conv import multiply_add, stored_as
from jit.program import Buffer, Floats, Load, Param, Program, Store, nest, read


@dataclass(frozen=True)
class BatchKernel:
    """What one compiled kernel fixes.

    rows: of a tile; vectors: of a panel, each of `lanes` rows of x; by_lane: the weights of a
    column are loaded as one vector whose lanes are used one by one, as NEON multiplies by them,
    rather than each to all lanes; fused: multiply-adds round once; weights: as what they are
    stored.
    """

    rows: int
    vectors: int
    lanes: int
    by_lane: bool
    fused: bool
    weights: Floats = "f32"

    @property
    def width(self) -> int:
        """W, rows of x in a panel."""
        return self.vectors * self.lanes

    @property
    def name(self) -> str:
        """Kind, rows x rows of x, lanes."""
        return f"{stored_as(self.weights)}_batch_{self.rows}x{self.width}_v{self.lanes}"


def naive_batch(kernel: BatchKernel) -> Program:
    """The definition as loops: every weight of these tiles, others zero, one after another."""
    loops = [("f", index("F")), ("c", index("C")), ("u", index(kernel.width))]
    y, x = (Load(name, (index(a), index("u"))) for name, a in ("yf", "tc"))
    w = read(kernel.weights, "w", (index("f"), index("c")))
    body = nest(loops, Store("y", y.subscript, multiply_add(kernel.fused, w, x, y)))
    width, one = index(kernel.width), index(1)
    buffers = (
        Buffer("t", "read", "f32", (index("C"), width), (width, one)),
        Buffer("w", "read", kernel.weights, (index("F"), index("C")), (index("C"), one)),
        Buffer("y", "update", "f32", (index("F"), width), (width, one)),
    )
    return Program(kernel.name, (Param("F", 1), Param("C", 1)), buffers, (body,))
