"""Contractions whose vectors hold output positions: strips of any height, rows in any order.

    y[q, f] = act(bias[f] + sum over kept k of w[f, k] * x[q, k] (+ z[q, f]))

A position q is an output position of an image, a column k an input channel at a kernel position;
`jit.kernels.conv` makes vectors of a strip's filters, which needs strips of whole vectors.  Here x
lies planar (`jit.launches.panel` says how), neighbouring positions read neighbours in memory, and
everything else is a table, so that one kernel serves every rank, stride and padding:

    x[corner[q] + column[k]]    what position q reads for column k
    place[q], other[q]          where position q begins in y and in z
    filter[i]                   the filter of row i; rows are in the order of the strips, and those
                                that only fill the last strip are its first row once more

Names in the Programs: q position, i row, k column; part of the work, g group of T tiles that share
a panel, t tile in it, p position in a tile; b block of columns; s or, where it is stored,
u strip, r row in it, j kept column.  Strides: YC and ZC from one block of channels to the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from jit.index import Index, at, index
from jit.kernels.activation import Activation, activate
from jit.kernels.conv import multiply_add
from jit.program import Buffer, Load, Param, Program, Statement, Store, Value, call, nest

POSITIONS = {"y": "place", "z": "other"}
"""The table of where positions begin, by buffer."""


class OverPositions(Protocol):
    """What the definition depends on of a kernel whose vectors hold positions."""

    @property
    def name(self) -> str:
        """Of the Program."""
        ...

    @property
    def block(self) -> int:
        """Channels per block of y and z."""
        ...

    @property
    def activation(self) -> Activation | None:
        """Comes last."""
        ...

    @property
    def residual(self) -> bool:
        """Whether there is a z."""
        ...

    @property
    def fused(self) -> bool:
        """Whether multiply-adds round once."""
        ...


@dataclass(frozen=True)
class PanelKernel:
    """What one compiled kernel fixes.

    rows: filters of a strip; lanes: positions in a vector; vectors: of a tile; pieces: vectors
    copied to pack a column of a tile; block: channels per block of y and z; fused: multiply-adds
    round once; apart: a strip's filters are summed one after another, to compare with; turned: the
    rows of every strip are neighbours in a block of y and of z, and are stored together.
    """

    rows: int
    lanes: int
    vectors: int
    pieces: int
    block: int
    activation: Activation | None
    residual: bool
    fused: bool
    apart: bool = False
    turned: bool = False

    @property
    def name(self) -> str:
        """Kind, rows x positions, lanes, epilogue."""
        parts = [
            f"f32_panel_{self.rows}x{self.positions}",
            f"v{self.lanes}p{self.pieces}to{self.block}",
        ]
        parts += [self.activation[0]] if self.activation else []
        parts += ["add"] if self.residual else []
        parts += ["apart"] if self.apart else []
        parts += ["turned"] if self.turned else []
        return "_".join(parts)

    @property
    def positions(self) -> int:
        """Positions of a tile."""
        return self.lanes * self.vectors


def turnable(rows: int) -> bool:
    """Whether sums of so many rows can be stored together: turned over in registers."""
    return rows > 1 and not rows & (rows - 1)


def naive_positions(kernel: OverPositions) -> Program:
    """The definition as loops: every weight, kept or not, one after another."""
    outputs = [("q", index("Q")), ("i", index("F"))]
    x = Load("x", (at("corner", "q") + at("column", "k"),))
    y = output(kernel, "y", index("q"), index("i"))
    product = multiply_add(kernel.fused, Load("w", (index("i"), index("k"))), x, y)
    body: list[Statement] = [
        nest(outputs, Store("y", y.subscript, Load("bias", (index("i"),)))),
        nest([*outputs, ("k", index("K"))], Store("y", y.subscript, product)),
    ]
    if kernel.activation or kernel.residual:
        value = epilogue(kernel, y, output(kernel, "z", index("q"), index("i")))
        body.append(nest(outputs, Store("y", y.subscript, value)))
    return Program(kernel.name, _params(kernel), _buffers(kernel), tuple(body))


def output(kernel: OverPositions, buffer: str, q: Index, i: Index) -> Load:
    """Row i at position q, in y or in z."""
    return Load(buffer, (at(POSITIONS[buffer], q) + distance(kernel, buffer, i),))


def distance(kernel: OverPositions, buffer: str, i: Index) -> Index:
    """How far from where a position begins its row i lies, in y or in z."""
    channel = at("filter", i)
    return channel // kernel.block * f"{buffer.upper()}C" + channel % kernel.block


def epilogue(kernel: OverPositions, y: Value, z: Value) -> Value:
    """What becomes of a sum y, and of z where there is one."""
    value = call("add", y, z) if kernel.residual else y
    return activate(kernel.activation, value) if kernel.activation else value


def _params(kernel: OverPositions) -> tuple[Param, ...]:
    names = ["Q", "F", "K"]
    strides = ["YC", "ZC"] if kernel.residual else ["YC"]
    rooms = ["XL", "YL", "ZL"] if kernel.residual else ["XL", "YL"]
    return (*(Param(n, 1) for n in names), *(Param(n) for n in strides), *map(_room, rooms))


def _room(name: str) -> Param:
    return Param(name, 1)


def _buffers(kernel: OverPositions) -> tuple[Buffer, ...]:
    flat = (index(1),)
    buffers = [
        Buffer("x", "read", "f32", (index("XL"),), flat),
        Buffer("w", "read", "f32", (index("F"), index("K")), (index("K"), index(1))),
        Buffer("bias", "read", "f32", (index("F"),), flat),
        Buffer("corner", "read", "i32", (index("Q"),), flat),
        Buffer("column", "read", "i32", (index("K"),), flat),
        Buffer("filter", "read", "i32", (index("F"),), flat),
        Buffer("place", "read", "i32", (index("Q"),), flat),
    ]
    if kernel.residual:
        buffers.append(Buffer("other", "read", "i32", (index("Q"),), flat))
        buffers.append(Buffer("z", "read", "f32", (index("ZL"),), flat))
    buffers.append(Buffer("y", "update", "f32", (index("YL"),), flat))
    return tuple(buffers)
