"""The transforms of Winograd's convolution, into tiles and back; between them passes a product.

    q[p, c, tile]           = (B (x) B (x) B) x[n, c, tile's inputs]      points p of a tile
    y[n, f, tile's outputs] = act((A (x) A (x) A) m[p, f, tile] + bias[f] (+ z))

The matrices are constants, written out as additions and few multiplications along one axis after
another, the outermost first: what that leaves of a tile is one row of it, which registers hold.

Names as in `jit.kernels.conv`; td th tw is a tile's place in the block of tiles.  Extents: C
channel slots, TD TH TW tiles.  A tile begins m outputs after the one before it, but at LD LH LW
at most, so that the last one ends where the axis does.  Strides in elements: QP QC QN QD QH and
MP MC MN MD MH between points, blocks of channels, images, planes and rows of tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import prod

import numpy as np

from jit.index import Index, index, minimum
from jit.kernels.activation import Activation, activate
from jit.kernels.conv import activation_buffer
from jit.kernels.sums import Sums, combine, sums
from jit.program import (
    Buffer,
    Load,
    Param,
    Program,
    Registers,
    Role,
    Statement,
    Store,
    Value,
    call,
    nest,
)
from refimpl.winograd import transforms

Point = tuple[int, ...]


@dataclass(frozen=True)
class WinogradInputKernel:
    """What a compiled input transform fixes: m and r of every axis, channels of a block."""

    outputs: tuple[int, ...]
    taps: tuple[int, ...]
    block: int
    fused: bool

    @property
    def name(self) -> str:
        """Kind, tile and layout."""
        return f"f32_winograd_input_{_tile(self)}_c{self.block}"


@dataclass(frozen=True)
class WinogradOutputKernel:
    """What a compiled output transform fixes: m and r of every axis, and what follows the sum."""

    outputs: tuple[int, ...]
    taps: tuple[int, ...]
    block: int
    activation: Activation | None
    residual: bool
    fused: bool

    @property
    def name(self) -> str:
        """Kind, tile, layout and epilogue."""
        parts = [f"f32_winograd_output_{_tile(self)}_c{self.block}"]
        parts += [self.activation[0]] if self.activation else []
        parts += ["add"] if self.residual else []
        return "_".join(parts)


Kernel = WinogradInputKernel | WinogradOutputKernel


def _tile(kernel: Kernel) -> str:
    sizes = zip(kernel.outputs, kernel.taps, strict=True)
    return "_".join(f"{m}x{r}" for m, r in sizes)


def _axes(kernel: Kernel) -> str:
    return "dhw"[3 - len(kernel.outputs) :]


def input_sums(outputs: Sequence[int], taps: Sequence[int]) -> list[Sums]:
    """The input transform along every axis."""
    return [sums(t.b) for t in transforms(outputs, taps)]


def output_sums(outputs: Sequence[int], taps: Sequence[int]) -> list[Sums]:
    """The output transform along every axis."""
    return [sums(t.a) for t in transforms(outputs, taps)]


def naive_winograd_input(kernel: WinogradInputKernel) -> Program:
    """Every tile of x transformed, channel by channel."""
    axes, steps = _axes(kernel), input_sums(kernel.outputs, kernel.taps)
    sizes = tuple(s.inputs for s in steps)

    def read(place: Point) -> Value:
        return Load("x", _at(kernel, place))

    def write(place: Point, value: Value) -> Statement:
        return Store("q", _point(kernel, np.ravel_multi_index(place, sizes)), value)

    body = _Transform(kernel.fused, read, write).statements(steps)
    extents = [index(f"L{a}") + n for a, n in zip(axes.upper(), sizes, strict=True)]
    buffers = (
        activation_buffer("x", "read", index("C"), extents, kernel.block),
        _tiles_buffer(kernel, "q", "write"),
    )
    params = (*_params(kernel, "Q"), *_strides("X", axes))
    return Program(kernel.name, params, buffers, (_over_tiles(axes, body),))


def naive_winograd_output(kernel: WinogradOutputKernel) -> Program:
    """Every tile of y from its products, channel by channel."""
    axes, steps = _axes(kernel), output_sums(kernel.outputs, kernel.taps)
    sizes = tuple(s.inputs for s in steps)

    def read(place: Point) -> Value:
        return Load("m", _point(kernel, np.ravel_multi_index(place, sizes)))

    def write(place: Point, value: Value) -> Statement:
        at = _at(kernel, place)
        value = call("add", value, Load("bias", (index("c"),)))
        value = call("add", value, Load("z", at)) if kernel.residual else value
        value = activate(kernel.activation, value) if kernel.activation else value
        return Store("y", at, value)

    body = _Transform(kernel.fused, read, write).statements(steps)
    extents = [index(f"L{a}") + m for a, m in zip(axes.upper(), kernel.outputs, strict=True)]
    sides: list[tuple[str, Role]] = [("y", "write")]
    if kernel.residual:
        sides.insert(0, ("z", "read"))
    buffers = (
        _tiles_buffer(kernel, "m", "read"),
        Buffer("bias", "read", "f32", (index("C"),), (index(1),)),
        *(activation_buffer(n, role, index("C"), extents, kernel.block) for n, role in sides),
    )
    strides = [p for name, _ in sides for p in _strides(name.upper(), axes)]
    return Program(
        kernel.name, (*_params(kernel, "M"), *strides), buffers, (_over_tiles(axes, body),)
    )


@dataclass
class _Transform:
    """Statements that apply one matrix after another to a tile that is read place by place."""

    fused: bool
    read: Callable[[Point], Value]
    write: Callable[[Point, Value], Statement]
    body: list[Statement] = field(default_factory=list)

    def statements(self, axes: list[Sums]) -> tuple[Statement, ...]:
        """The whole transform; registers hold what is between two axes."""
        for depth, axis in enumerate(axes):
            rest = prod(s.inputs for s in axes[depth + 1 :])
            for name, count in (("t", rest), ("s", len(axis.shared) * rest)):
                if count and (name, depth) != ("t", len(axes) - 1):
                    self.body.append(Registers(f"{name}{depth}", (count, 1)))
        self.along(axes, self.read, ())
        return tuple(self.body)

    def along(self, axes: list[Sums], read: Callable[[Point], Value], done: Point) -> None:
        """Rows of the first axis one by one, each passed on to the axes that follow."""
        (axis, *rest), depth = axes, len(done)
        sizes = tuple(s.inputs for s in rest)
        columns = list(np.ndindex(*sizes))
        shared: dict[tuple[int, Point], Value] = {}

        def term(which: int, column: Point) -> Value:
            return shared[which, column] if which >= axis.inputs else read((which, *column))

        for row in axis.order:
            for which in axis.needs(row):
                for column in [c for c in columns if (which, c) not in shared]:
                    terms = axis.shared[which - axis.inputs]
                    value = combine(terms, lambda k, c=column: read((k, *c)), self.fused)
                    shared[which, column] = self.hold(f"s{depth}", len(shared), value)
            held: dict[Point, Value] = {}
            for column in columns:
                value = combine(axis.rows[row], lambda k, c=column: term(k, c), self.fused)
                if not rest:
                    self.body.append(self.write((*done, row), value))
                else:
                    held[column] = self.hold(f"t{depth}", len(held), value)
            if rest:
                self.along(rest, held.__getitem__, (*done, row))

    def hold(self, registers: str, number: int, value: Value) -> Value:
        place = (index(number), index(0))
        self.body.append(Store(registers, place, value))
        return Load(registers, place)


def _over_tiles(axes: str, body: tuple[Statement, ...]) -> Statement:
    # Channels outermost: overlapping tiles are one task's work, and each point's tiles are
    # written side by side.
    loops = [("c", index("C")), ("n", index("N"))]
    return nest([*loops, *((f"t{a}", index(f"T{a.upper()}")) for a in axes)], *body)


@lru_cache(maxsize=4096)
def _at(kernel: Kernel, place: Point) -> tuple[Index, ...]:
    """The element of an activation at a place of the tile."""
    parts = zip(_axes(kernel), kernel.outputs, place, strict=True)
    position = [minimum(index(f"t{a}") * m, f"L{a.upper()}") + i for a, m, i in parts]
    return (index("n"), index("c") // kernel.block, *position, index("c") % kernel.block)


def _point(kernel: Kernel, point: int | np.integer) -> tuple[Index, ...]:
    """The element of a transformed tile."""
    tile = [index(name) for name in ("n", *(f"t{a}" for a in _axes(kernel)))]
    channel = index("c")
    return (index(int(point)), channel // kernel.block, *tile, channel % kernel.block)


def _params(kernel: Kernel, letter: str) -> tuple[Param, ...]:
    upper = _axes(kernel).upper()
    extents = [Param("N", 1), Param("C", 1, multiple=kernel.block)]
    tiles = [Param(f"T{a}", 1) for a in upper] + [Param(f"L{a}") for a in upper]
    return (*extents, *tiles, *(Param(f"{letter}{a}") for a in ["P", "C", "N", *upper[:-1]]))


def _strides(letter: str, axes: str) -> list[Param]:
    return [Param(f"{letter}{a}") for a in ["N", "C", *axes.upper()[:-1]]]


def _tiles_buffer(kernel: Kernel, name: str, role: Role) -> Buffer:
    upper, letter = _axes(kernel).upper(), name.upper()
    count = prod(m + r - 1 for m, r in zip(kernel.outputs, kernel.taps, strict=True))
    tiles = [index(f"T{a}") for a in upper]
    shape = (index(count), index("C") // kernel.block, index("N"), *tiles, index(kernel.block))
    strides = [index(f"{letter}{a}") for a in ["P", "C", "N", *upper[:-1]]]
    return Buffer(name, role, "f32", shape, (*strides, index(kernel.block), index(1)))
