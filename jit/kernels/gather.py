"""Kernels that read where a table says: take, blend of neighbours, embedding.

Tables are int32 buffers.  The axis they speak of is j, the axes before it are one (o) and those
after it one (i); a stride per axis, in elements, as in `jit.kernels.plain`.  With `lanes`, axis i
is contiguous in x and y, has no stride parameter, and is a multiple of `lanes` long.
"""

from __future__ import annotations

from dataclasses import dataclass

from jit.index import Index, at, index, maximum, minimum
from jit.kernels.conv import multiply_add
from jit.kernels.plain import plain_buffer
from jit.program import Buffer, Load, Param, Program, Role, Store, call, nest


@dataclass(frozen=True)
class TakeKernel:
    """y[o, j, i] = x[o, table[j], i]: slices backwards, reflections, nearest neighbours, takes.

    Parameters: O J I; V, how long x is along the taken axis; XO XJ XI, YO YJ YI.  XJ is the
    stride of the taken axis.  The caller sees to it that 0 <= table[j] < V.
    """

    lanes: int = 1
    grid: bool = False

    @property
    def name(self) -> str:
        """Kind and lanes."""
        return f"f32_take_v{self.lanes}"


@dataclass(frozen=True)
class BlendKernel:
    """y[o, j, i] = x[o, lo[j], i]*w0[j] + x[o, hi[j], i]*w1[j]: linear resampling of one axis.

    Parameters as of `TakeKernel`; lo and hi are tables, w0 and w1 floats.  The product with w0
    rounds, then product and sum, once if fused: g(2) (|x w0| + |x w1|).
    """

    fused: bool
    lanes: int = 1
    grid: bool = False

    @property
    def name(self) -> str:
        """Kind and lanes."""
        return f"f32_blend_v{self.lanes}"


@dataclass(frozen=True)
class EmbeddingKernel:
    """y[m, c] = table[index[m], c]; `index` is an int32 buffer, `table` floats.

    Parameters: M indices, C channels, V rows; strides YM, TV of a row (and YC, TC without
    lanes).  An index outside 0 .. V-1 is the caller's to refuse; so that no memory outside the
    table can ever be read, the code takes the nearest row for it.
    """

    lanes: int = 1
    grid: bool = False

    @property
    def name(self) -> str:
        """Kind and lanes."""
        return f"f32_embedding_v{self.lanes}"


def naive_take(kernel: TakeKernel) -> Program:
    """One copy per element."""
    x = Load("x", (index("o"), at("table", "j"), index("i")))
    return _along(kernel, (_table("table"),), Store("y", _PLACE, x))


def naive_blend(kernel: BlendKernel) -> Program:
    """Two products and a sum per element."""
    low, high = (Load("x", (index("o"), at(t, "j"), index("i"))) for t in ("lo", "hi"))
    w0, w1 = (Load(w, (index("j"),)) for w in ("w0", "w1"))
    value = multiply_add(kernel.fused, high, w1, call("mul", low, w0))
    weights = (plain_buffer(w, "read", [index("J")], [1]) for w in ("w0", "w1"))
    return _along(kernel, (_table("lo"), _table("hi"), *weights), Store("y", _PLACE, value))


_PLACE = (index("o"), index("j"), index("i"))


def _table(name: str) -> Buffer:
    return Buffer(name, "read", "i32", (index("J"),), (index(1),))


def _along(kernel: TakeKernel | BlendKernel, tables: tuple[Buffer, ...], store: Store) -> Program:
    """The program of one statement per element of y, x being V long along the taken axis."""
    params = [Param("O", 1), Param("J", 1), Param("I", 1, multiple=kernel.lanes), Param("V", 1)]
    sides: list[Buffer] = []
    roles: tuple[tuple[str, str, Role], ...] = (("x", "V", "read"), ("y", "J", "write"))
    for name, middle, role in roles:
        strides, more = _strides(name.upper(), "OJI", kernel.lanes)
        params += more
        sides.append(plain_buffer(name, role, [index("O"), index(middle), index("I")], strides))
    loops = [("o", index("O")), ("j", index("J")), ("i", index("I"))]
    buffers = (sides[0], *tables, sides[1])
    return Program(kernel.name, tuple(params), buffers, (nest(loops, store),))


def _strides(letter: str, axes: str, lanes: int) -> tuple[list[Index | str | int], list[Param]]:
    """The strides of a buffer, the last one 1 where there are lanes, and their parameters."""
    names = [f"{letter}{a}" for a in (axes[:-1] if lanes > 1 else axes)]
    return [*names, *([1] if lanes > 1 else [])], [Param(name) for name in names]


def naive_embedding(kernel: EmbeddingKernel) -> Program:
    """One copy per element."""
    params = [Param("M", 1), Param("C", 1, multiple=kernel.lanes), Param("V", 1)]
    row = minimum(maximum(at("index", "m"), 0), index("V") - 1)
    table, more = _strides("T", "VC", kernel.lanes)
    y, others = _strides("Y", "MC", kernel.lanes)
    buffers = (
        Buffer("index", "read", "i32", (index("M"),), (index(1),)),
        plain_buffer("table", "read", [index("V"), index("C")], table),
        plain_buffer("y", "write", [index("M"), index("C")], y),
    )
    store = Store("y", (index("m"), index("c")), Load("table", (row, index("c"))))
    body = nest([("m", index("M")), ("c", index("C"))], store)
    return Program(kernel.name, (*params, *more, *others), buffers, (body,))
