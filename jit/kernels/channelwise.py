"""Kernels that treat every channel alike: pooling, elementwise operators, affine, relayout, halo.

Letters as in `jit.kernels.conv`.  C counts channel slots here, tail lanes included, so that
channels are whole vectors; what is computed in a tail lane means nothing and is never used.
With `grid`, every output vector is a work item of its own, as GPUs want it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from jit.index import Index, index, maximum, minimum
from jit.kernels.activation import Activation, activate
from jit.kernels.conv import activation_buffer
from jit.kernels.plain import Pairing, pair
from jit.program import (
    Buffer,
    Const,
    For,
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


@dataclass(frozen=True)
class PoolKernel:
    """A pooling: what it reduces with, how windows are found, what an average divides by."""

    rank: int
    block: int
    reduce: Literal["maximum", "add"]
    adaptive: bool
    divisor: Literal["none", "window", "padded_window"]
    grid: bool = False

    @property
    def name(self) -> str:
        """Kind and layout."""
        kind = "adaptive_" if self.adaptive else ""
        kind += {"none": "max", "window": "avg", "padded_window": "avg_padded"}[self.divisor]
        return f"f32_{kind}_pool{self.rank}d_c{self.block}"

    @property
    def axes(self) -> str:
        """The letters of the spatial axes."""
        return "dhw"[3 - self.rank :]


@dataclass(frozen=True)
class ElementKernel:
    """An elementwise operator: y = act(x), act(x OP z) or act(x*scale[c] + shift[c]).

    With `broadcast`, z has strides of its own along every axis, width included (ZW, in elements),
    and a stride of 0 repeats it: a gate for each channel has ZD = ZH = ZW = 0.
    """

    rank: int
    block: int
    op: Literal["activation", "affine"] | Pairing
    activation: Activation | None
    fused: bool
    grid: bool = False
    broadcast: bool = False

    @property
    def name(self) -> str:
        """Kind and layout."""
        suffix = f"_{self.activation[0]}" if self.activation else ""
        suffix += "_broadcast" if self.broadcast else ""
        return f"f32_{self.op}{suffix}_{self.rank}d_c{self.block}"

    @property
    def axes(self) -> str:
        """The letters of the spatial axes."""
        return "dhw"[3 - self.rank :]


@dataclass(frozen=True)
class RelayoutKernel:
    """The same values with other channel blocks and strides.

    width: positions of a row that are moved together, as vectors on either side; 1 where elements
        are moved one by one.
    filled: channels of every block that hold values, where not all of them do: those of the last
        block.  In y the rest of it becomes zeros.
    """

    rank: int
    x_block: int
    y_block: int
    grid: bool = False
    width: int = 1
    filled: int = 0

    @property
    def name(self) -> str:
        """Both layouts."""
        parts = [f"f32_relayout{self.rank}d_c{self.x_block}_to_c{self.y_block}"]
        parts += [f"w{self.width}"] if self.width > 1 else []
        parts += [f"of{self.filled}"] if self.filled else []
        return "_".join(parts)

    @property
    def block(self) -> int:
        """Channels that are moved together."""
        return max(self.x_block, self.y_block)

    @property
    def axes(self) -> str:
        """The letters of the spatial axes."""
        return "dhw"[3 - self.rank :]


@dataclass(frozen=True)
class HaloKernel:
    """Zeros in a box of an activation's memory: a slab of the halo, or the tail of a block."""

    rank: int
    block: int
    grid: bool = False

    @property
    def name(self) -> str:
        """Kind and layout."""
        return f"f32_halo{self.rank}d_c{self.block}"


def _outputs(axes: str) -> list[tuple[str, Index]]:
    return [("n", index("N")), ("c", index("C"))] + [
        (f"o{a}", index(f"O{a.upper()}")) for a in axes
    ]


def _strides(letter: str, axes: str) -> list[Param]:
    return [Param(f"{letter}{a}") for a in ["N", "C", *axes.upper()[:-1]]]


def _sizes(axes: str, block: int, *more: str) -> list[Param]:
    names = [
        "N",
        "C",
        *(f"O{a}" for a in axes.upper()),
        *(f"{m}{a}" for m in more for a in axes.upper()),
    ]
    return [Param(name, 1, multiple=block if name == "C" else 1) for name in names]


def _place(position: list[Index], block: int) -> tuple[Index, ...]:
    return (index("n"), index("c") // block, *position, index("c") % block)


def naive_pool(kernel: PoolKernel) -> Program:
    """y[n,c,o] = reduce over the window of o, cut to the input (no padding is ever read)."""
    upper = kernel.axes.upper()
    y = Load("y", _place([index(f"o{a}") for a in kernel.axes], kernel.block))
    windows = [_window(kernel, a) for a in upper]
    x = Load("x", _place([index(f"i{a}") for a in kernel.axes], kernel.block))
    inner: Statement = Store("y", y.subscript, call(kernel.reduce, y, x))
    for a, (lo, hi, _) in reversed(list(zip(kernel.axes, windows, strict=True))):
        inner = For(f"i{a}", lo, hi, (inner,))
    start = Const(float("-inf") if kernel.reduce == "maximum" else 0.0)
    body: list[Statement] = [Store("y", y.subscript, start), inner]
    if kernel.divisor != "none":
        sizes = [p if kernel.divisor == "padded_window" else hi - lo for lo, hi, p in windows]
        count: Value = Number(sizes[0])
        for size in sizes[1:]:
            count = call("mul", count, Number(size))
        body.append(Store("y", y.subscript, call("div", y, count)))
    more = () if kernel.adaptive else ("K", "S", "P", "Q")
    params = [
        *_sizes(kernel.axes, kernel.block, "I"),
        *(Param(f"{m}{a}") for m in more for a in upper),
    ]
    params += [*_strides("X", kernel.axes), *_strides("Y", kernel.axes)]
    buffers = (
        activation_buffer("x", "read", index("C"), [index(f"I{a}") for a in upper], kernel.block),
        activation_buffer("y", "update", index("C"), [index(f"O{a}") for a in upper], kernel.block),
    )
    return Program(kernel.name, tuple(params), buffers, (nest(_outputs(kernel.axes), *body),))


def _window(kernel: PoolKernel, a: str) -> tuple[Index, Index, Index]:
    """(first, end, size with padding) of the window of output o along an axis.

    Adaptive windows are floor(o*I/O) .. ceil((o+1)*I/O); others start at o*S - P, P and Q being
    the padding before and after.
    """
    o, inputs = index(f"o{a.lower()}"), index(f"I{a}")
    if kernel.adaptive:
        outputs = index(f"O{a}")
        lo, hi = o * inputs // outputs, (o * inputs + inputs + outputs - 1) // outputs
        return lo, hi, hi - lo
    start = o * f"S{a}" - f"P{a}"
    end = start + f"K{a}"
    padded = minimum(end, inputs + f"Q{a}") - start
    return maximum(start, 0), minimum(end, inputs), padded


def naive_element(kernel: ElementKernel) -> Program:
    """y[n,c,o] = act(f(x[n,c,o], ...))."""
    upper = kernel.axes.upper()
    place = _place([index(f"o{a}") for a in kernel.axes], kernel.block)
    extents = [index(f"O{a}") for a in upper]
    value: Value = Load("x", place)
    buffers = [activation_buffer("x", "read", index("C"), extents, kernel.block)]
    letters = ["X", "Y"]
    if kernel.op == "affine":
        per_channel = [Load(name, (index("c"),)) for name in ("scale", "shift")]
        product = call("mul", value, per_channel[0])
        value = (
            call("fma", value, *per_channel)
            if kernel.fused
            else call("add", product, per_channel[1])
        )
        buffers += [
            Buffer(n, "read", "f32", (index("C"),), (index(1),)) for n in ("scale", "shift")
        ]
    elif kernel.op != "activation":
        value = pair(kernel.op, value, Load("z", place))
        z = activation_buffer("z", "read", index("C"), extents, kernel.block)
        if kernel.broadcast and kernel.rank:
            z = replace(z, strides=(*z.strides[:-2], index("ZW"), index(1)))
        buffers.append(z)
        letters.append("Z")
    if kernel.activation:
        value = activate(kernel.activation, value)
    buffers.append(activation_buffer("y", "write", index("C"), extents, kernel.block))
    params = _sizes(kernel.axes, kernel.block)
    for letter in letters:
        params += _strides(letter, kernel.axes)
    params += [Param("ZW")] if kernel.broadcast and kernel.rank else []
    body = nest(_outputs(kernel.axes), Store("y", place, value))
    return Program(kernel.name, tuple(params), tuple(buffers), (body,))


def naive_relayout(kernel: RelayoutKernel) -> Program:
    """y[n,c,o] = x[n,c,o]; every logical axis has its own stride on either side."""
    axes = kernel.axes
    sides = tuple(_side(kernel, name) for name in "xy")
    place = [_place([index(f"o{a}") for a in axes], block) for block in _blocks(kernel)]
    params = [_moved_together(kernel, p) for p in _sizes(axes, 1)]
    params += [Param(f"{s}{a}") for s in "XY" for a in ["N", "C", *axes.upper()]]
    # One row of one channel at a time: the plain side is walked in order, and the rows of a
    # block's other channels are still in cache when their turn comes.
    loops = _outputs(axes)
    if kernel.block > 1:
        loops = [loops[0], *loops[2:-1], loops[1], *loops[2:][-1:]]
    body = [nest(loops, Store("y", place[1], Load("x", place[0])))]
    if kernel.filled and kernel.y_block > 1:
        rest = For("c", index("C"), index(kernel.block), (Store("y", place[1], Const(0.0)),))
        body.append(nest([loop for loop in loops if loop[0] != "c"], rest))
    return Program(kernel.name, tuple(params), sides, tuple(body))


def _blocks(kernel: RelayoutKernel) -> tuple[int, int]:
    return kernel.x_block, kernel.y_block


def _side(kernel: RelayoutKernel, name: str) -> Buffer:
    """x or y, with a stride for every logical axis."""
    block = dict(zip("xy", _blocks(kernel), strict=True))[name]
    role: Role = "read" if name == "x" else "write"
    letters = kernel.axes.upper()
    strides = (*(index(f"{name.upper()}{a}") for a in ["N", "C", *letters]), index(1))
    extents = [index(f"O{a}") for a in letters]
    shape = (index("N"), (index("C") + (block - 1)) // block, *extents, index(block))
    return Buffer(name, role, "f32", shape, strides)


def _moved_together(kernel: RelayoutKernel, size: Param) -> Param:
    """What is known of an extent where whole blocks and rows of a width are moved."""
    if kernel.width > 1 and size.name == "C":
        few = kernel.filled
        return replace(size, lo=few, hi=few) if few else replace(size, multiple=kernel.block)
    return replace(size, lo=kernel.width) if size.name == "OW" else size


def naive_halo(kernel: HaloKernel) -> Program:
    """y = 0 in a box N x C/block x O.. of blocks."""
    axes = "dhw"[3 - kernel.rank :]
    extents = [index(f"O{a}") for a in axes.upper()]
    place = _place([index(f"o{a}") for a in axes], kernel.block)
    buffer = activation_buffer("y", "write", index("C"), extents, kernel.block)
    params = (*_sizes(axes, kernel.block), *_strides("Y", axes))
    body = nest(_outputs(axes), Store("y", place, Const(0.0)))
    return Program(kernel.name, params, (buffer,), (body,))
