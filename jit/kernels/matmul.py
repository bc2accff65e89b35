"""Matrix product of plain arrays, with two batch axes and any strides.

    y[b0, b1, m, n] = sum over k of a[b0, b1, m, k] * c[b0, b1, k, n]

Extents: B0 B1 M N K.  Strides in elements: A0 A1 AM AK of a, C0 C1 CK CN of c, Y0 Y1 YM YN of y; a
batch stride of 0 broadcasts, and swapping two strides transposes.  With lanes there is no CN and
no YN: n is contiguous in c and y.  Tasks share the rows; with `grid`, every tile is a work item.

Roundings: the sum begins at 0 and takes K products in order, so each term meets at most K
roundings where fused and K + 1 where not, as in a convolution without bias.
"""

from __future__ import annotations

from dataclasses import dataclass

from jit.index import Index, index
from jit.kernels.conv import multiply_add
from jit.kernels.plain import plain_buffer
from jit.program import Const, Load, Param, Program, Store, loop, nest


@dataclass(frozen=True)
class MatmulKernel:
    """What one compiled product fixes: the tile of y whose sums are in registers.

    rows: M is a multiple of it; lanes: float32 values in a vector; vectors: N is a multiple of
    lanes * vectors; fused: multiply-adds round once.
    """

    lanes: int
    rows: int
    fused: bool
    vectors: int = 1
    grid: bool = False

    @property
    def name(self) -> str:
        """Kind and tile."""
        return f"f32_matmul_{self.rows}x{self.vectors}v{self.lanes}"


_EXTENTS = {"a": ("B0", "B1", "M", "K"), "c": ("B0", "B1", "K", "N"), "y": ("B0", "B1", "M", "N")}


def naive_matmul(kernel: MatmulKernel) -> Program:
    """Every product, one after another."""
    multiples = {"M": kernel.rows, "N": kernel.lanes * kernel.vectors}
    params = [Param(e, 1, multiple=multiples.get(e, 1)) for e in ("B0", "B1", "M", "N", "K")]
    buffers, loads = [], {}
    for name, extents in _EXTENTS.items():
        axes = ["0", "1", extents[2], extents[3]]
        strides: list[Index | str | int] = [f"{name.upper()}{axis}" for axis in axes]
        if extents[3] == "N" and kernel.lanes > 1:
            strides[3] = 1
        params += [Param(s) for s in strides if isinstance(s, str)]
        role = "update" if name == "y" else "read"
        buffers.append(plain_buffer(name, role, [index(e) for e in extents], strides))
        loads[name] = Load(name, tuple(index(e.lower()) for e in extents))
    a, c, y = (loads[name] for name in "acy")
    total = Store("y", y.subscript, multiply_add(kernel.fused, a, c, y))
    body = nest(
        [(e.lower(), index(e)) for e in _EXTENTS["y"]],
        Store("y", y.subscript, Const(0.0)),
        loop("k", "K", total),
    )
    return Program(kernel.name, tuple(params), tuple(buffers), (body,))
