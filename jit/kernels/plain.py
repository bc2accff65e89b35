"""Kernels over plain arrays, whose every axis has a stride of its own: maps and reductions.

    y[i] = act(op(x[i], z[i]))           y[o] = reduce over r of x[o, r]

Names in the Programs: i0 i1 .. an element's subscript, E0 E1 .. the extents, X0 Y0 Z0 .. the
strides of x, y and z in elements.  A stride of 0 broadcasts; transposes, slices, pads and concats
are copies between strides.  Steps backwards have no stride here: `jit.kernels.gather` takes those.
With `lanes`, the last axis is contiguous, has no stride parameter, and is a multiple of `lanes`
long.  Tasks share the outermost axis; with `grid`, every element or vector is a work item.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jit.index import Index, index
from jit.kernels.activation import Activation, activate
from jit.program import (
    Buffer,
    Const,
    Load,
    Number,
    Param,
    Program,
    Role,
    Statement,
    Store,
    Value,
    call,
    nest,
)

Pairing = Literal["add", "sub", "mul", "div", "maximum", "minimum", "prelu"]
"""Operators of two values; prelu(x, z) is x where x > 0, z*x elsewhere."""
PAIRINGS: tuple[Pairing, ...] = ("add", "sub", "mul", "div", "maximum", "minimum", "prelu")


@dataclass(frozen=True)
class MapKernel:
    """Elementwise, of 1 to 6 axes: y = act(x), act(x OP z), or the same `value` everywhere.

    z_constant: along the last axis z is one value (it has no stride there); otherwise z is
    contiguous there where there are lanes.  The value and z_constant mean nothing to other ops.
    """

    rank: int
    op: Literal["copy", "fill"] | Pairing
    activation: Activation | None = None
    lanes: int = 1
    z_constant: bool = False
    value: float = 0.0
    grid: bool = False

    @property
    def name(self) -> str:
        """Operator, activation, axes and lanes."""
        suffix = f"_{self.activation[0]}" if self.activation else ""
        suffix += "_const" if self.z_constant else ""
        return f"f32_map_{self.op}{suffix}_{self.rank}d_v{self.lanes}"

    @property
    def loops(self) -> list[str]:
        """The loops of the naive form, outermost first."""
        return [f"i{a}" for a in range(self.rank)]


@dataclass(frozen=True)
class ReduceKernel:
    """A reduction over `inner` axes at each of 1 or more `outer` ones.

    With lanes, x is contiguous along the last reduced axis, which has no stride parameter and
    may be of any length.  With R elements an `add` rounds at most R - 1 times, and `mean` once
    more in dividing by R (of which float32 knows every one up to 2^24).
    """

    outer: int
    inner: int
    op: Literal["add", "maximum", "minimum"]
    mean: bool = False
    lanes: int = 1
    grid: bool = False

    @property
    def name(self) -> str:
        """Operator, axes and lanes."""
        kind = "mean" if self.mean else self.op
        return f"f32_reduce_{kind}_{self.inner}of{self.outer}d_v{self.lanes}"

    @property
    def loops(self) -> list[str]:
        """The loops around the reduction, outermost first."""
        return [f"i{a}" for a in range(self.outer)]


def plain_buffer(
    name: str, role: Role, extents: list[Index], strides: list[Index | str | int]
) -> Buffer:
    """Floats with those extents and strides, a stride being a parameter or a constant."""
    return Buffer(name, role, "f32", tuple(extents), tuple(map(index, strides)))


def _letters(letter: str, axes: int) -> list[str]:
    return [f"{letter}{a}" for a in range(axes)]


def naive_map(kernel: MapKernel) -> Program:
    """y[i] = act(op(x[i], z[i])), element by element."""
    dense = kernel.lanes > 1
    extents = [index(e) for e in _letters("E", kernel.rank)]
    place = tuple(index(i) for i in kernel.loops)
    params = [Param(f"E{a}", 1) for a in range(kernel.rank - 1)]
    params.append(Param(f"E{kernel.rank - 1}", 1, multiple=kernel.lanes))
    buffers: list[Buffer] = []
    operands: list[Value] = []
    for letter, role in _operands(kernel):
        subscript, shape = place, extents
        strides: list[Index | str | int] = [*_letters(letter.upper(), kernel.rank)]
        if letter == "z" and kernel.z_constant:
            strides[-1], subscript, shape = 1, (*place[:-1], index(0)), [*extents[:-1], index(1)]
        elif dense:
            strides[-1] = 1
        params += [Param(s) for s in strides if isinstance(s, str)]
        buffers.append(plain_buffer(letter, role, shape, strides))
        if letter != "y":
            operands.append(Load(letter, subscript))
    store = Store("y", place, _mapped(kernel, operands))
    loops = list(zip(kernel.loops, extents, strict=True))
    return Program(kernel.name, tuple(params), tuple(buffers), (nest(loops, store),))


def _operands(kernel: MapKernel) -> list[tuple[str, Role]]:
    letters = {"fill": "", "copy": "x"}.get(kernel.op, "xz")
    return [*((letter, "read") for letter in letters), ("y", "write")]


def _mapped(kernel: MapKernel, operands: list[Value]) -> Value:
    if kernel.op == "fill":
        value: Value = Const(kernel.value)
    elif kernel.op == "copy":
        (value,) = operands
    else:
        value = pair(kernel.op, *operands)
    return activate(kernel.activation, value) if kernel.activation else value


def pair(op: Pairing, x: Value, z: Value) -> Value:
    """The value of an operator of two; NaN carries through."""
    if op != "prelu":
        return call(op, x, z)
    below = call("mul", call("minimum", x, Const(0.0)), z)
    return call("add", call("maximum", x, Const(0.0)), below)


_START = {"add": 0.0, "maximum": float("-inf"), "minimum": float("inf")}


def naive_reduce(kernel: ReduceKernel) -> Program:
    """y[o] = reduce over r of x[o, r]; parameters E.. R.., strides X.. (outer) XR.. (inner) Y..

    R0 R1 .. are the extents of the reduced axes, r0 r1 .. their loops.
    """
    outer, inner = (
        [index(e) for e in _letters(letter, axes)]
        for letter, axes in (("E", kernel.outer), ("R", kernel.inner))
    )
    place = tuple(index(i) for i in kernel.loops)
    reduced = [f"r{a}" for a in range(kernel.inner)]
    y, x = Load("y", place), Load("x", (*place, *(index(r) for r in reduced)))
    step = Store("y", place, call(kernel.op, y, x))
    body: list[Statement] = [
        Store("y", place, Const(_START[kernel.op])),
        nest(list(zip(reduced, inner, strict=True)), step),
    ]
    if kernel.mean:
        count = index(1)
        for extent in inner:
            count = count * extent
        body.append(Store("y", place, call("div", y, Number(count))))
    strides: list[Index | str | int] = [*_letters("X", kernel.outer), *_letters("XR", kernel.inner)]
    strides[-1] = 1 if kernel.lanes > 1 else strides[-1]
    results = _letters("Y", kernel.outer)
    params = [Param(str(e), 1) for e in (*outer, *inner)]
    params += [Param(s) for s in (*strides, *results) if isinstance(s, str)]
    buffers = (
        plain_buffer("x", "read", [*outer, *inner], strides),
        plain_buffer("y", "update", outer, [*results]),
    )
    loops = list(zip(kernel.loops, outer, strict=True))
    return Program(kernel.name, tuple(params), buffers, (nest(loops, *body),))
