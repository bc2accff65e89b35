"""Convolution and linear layers over tiles of kept weights: the kernel everything else serves.

    y[n, f, o] = act(bias[f] + sum over kept (c, k) of w[f, c, k] * x[n, c, o*stride + k] (+ z))

Dense is the case where everything is kept; a linear layer the case without spatial axes.  One
compiled kernel serves every layer that shares a `ConvKernel`: extents, strides of memory and
the lists of kept columns are arguments.

Names in the Programs: n image, f filter, c channel, od oh ow output position, kd kh kw kernel
position; s strip, r row in the strip, b block of columns, j run of kept columns, l column in the
run.  Strides of memory are in elements: XN per image, XC per channel block, XD and XH per plane
and row of x, and so on for y and the residual z.
"""

from __future__ import annotations

from dataclasses import dataclass

from jit.index import Index, index
from jit.kernels.activation import Activation, activate
from jit.program import (
    Buffer,
    Call,
    Floats,
    Load,
    Param,
    Program,
    Role,
    Statement,
    Store,
    Value,
    call,
    nest,
    read,
)


@dataclass(frozen=True)
class ConvKernel:
    """What one compiled convolution kernel fixes; see the module's docstring for the letters.

    rows: filters of a strip (a multiple of lanes); lanes: float32 values in the vectors used;
    tile: output positions computed at once, along height and width; run: columns per index;
    x_block, y_block: channels per block of the layouts; stride_w: the convolution's stride along
    width; filters_first: vectorised filters are the outer loop of the tile (weights stay in a
    register while positions pass) rather than the inner one; fused: multiply-adds round once;
    grid: every tile is a work item of its own, as GPUs want it, and passes over all its columns;
    otherwise one thread walks the tiles of a strip once for each block of channels; apart: the
    vectors of a strip are summed one after another, to compare with; weights: as what they are
    stored.
    """

    rank: int
    rows: int
    lanes: int
    tile: tuple[int, int]
    run: int
    x_block: int
    y_block: int
    stride_w: int
    activation: Activation | None
    residual: bool
    filters_first: bool
    fused: bool
    grid: bool = False
    apart: bool = False
    weights: Floats = "f32"

    @property
    def name(self) -> str:
        """A name that carries the meaning: kind, rows x positions, lanes, run, epilogue."""
        parts = [
            f"{stored_as(self.weights)}_conv{self.rank}d_{self.rows}x{self.tile[0] * self.tile[1]}"
        ]
        parts.append(f"v{self.lanes}q{self.run}s{self.stride_w}")
        parts.append(f"c{self.x_block}to{self.y_block}")
        parts += [self.activation[0]] if self.activation else []
        parts += ["add"] if self.residual else []
        parts += ["apart"] if self.apart else []
        return "_".join(parts)

    @property
    def axes(self) -> str:
        """The letters of the spatial axes."""
        return "dhw"[3 - self.rank :]


def stored_as(weights: Floats) -> str:
    """What the names of kernels begin with: arithmetic is in float32, and so are most weights."""
    return "f32" if weights == "f32" else f"f32_{weights}"


def multiply_add(fused: bool, a: Value, b: Value, c: Value) -> Call:
    """a*b + c, rounded once where the target can."""
    return call("fma", a, b, c) if fused else call("add", call("mul", a, b), c)


def naive(kernel: ConvKernel) -> Program:
    """The definition as loops: every weight, kept or not, one after another."""
    outputs = [("n", index("N")), ("f", index("F"))]
    outputs += [(f"o{a}", index(f"O{a.upper()}")) for a in kernel.axes]
    columns = [("c", index("C"))] + [(f"k{a}", index(f"K{a.upper()}")) for a in kernel.axes]
    y = Load("y", _at("n", "f", kernel.y_block, [index(f"o{a}") for a in kernel.axes]))
    x = Load("x", _at("n", "c", kernel.x_block, [_input(kernel, a) for a in kernel.axes]))
    w = read(kernel.weights, "w", (index("f"), *(index(name) for name, _ in columns)))
    product = multiply_add(kernel.fused, w, x, y)
    body: list[Statement] = [
        nest(outputs, Store("y", y.subscript, Load("bias", (index("f"),)))),
        nest([*outputs, *columns], Store("y", y.subscript, product)),
    ]
    if kernel.activation or kernel.residual:
        value: Value = call("add", y, Load("z", y.subscript)) if kernel.residual else y
        value = activate(kernel.activation, value) if kernel.activation else value
        body.append(nest(outputs, Store("y", y.subscript, value)))
    return Program(kernel.name, _params(kernel), _buffers(kernel), tuple(body))


def _input(kernel: ConvKernel, axis: str) -> Index:
    step = index(kernel.stride_w) if axis == "w" else index(f"S{axis.upper()}")
    return index(f"o{axis}") * step + index(f"k{axis}") * index(f"T{axis.upper()}")


def _at(n: str, channel: str, block: int, position: list[Index]) -> tuple[Index, ...]:
    return (index(n), index(channel) // block, *position, index(channel) % block)


def _params(kernel: ConvKernel) -> tuple[Param, ...]:
    th, tw = kernel.tile
    multiple = {"OH": th, "OW": tw, "F": kernel.rows}
    sizes = ["N", "F", "C"]
    for a in kernel.axes.upper():
        sizes += [f"O{a}", f"K{a}", f"I{a}"]  # outputs, kernel, readable input
    steps = [f"T{a}" for a in kernel.axes.upper()]  # dilation
    steps += [f"S{a}" for a in kernel.axes.upper() if a != "W"]  # stride
    letters = [b for b in ("X", "Y", "Z") if b != "Z" or kernel.residual]
    strides = [f"{b}{a}" for b in letters for a in ["N", "C", *kernel.axes.upper()[:-1]]]
    return tuple(Param(name, 1, multiple=multiple.get(name, 1)) for name in sizes + steps) + tuple(
        Param(name) for name in strides
    )


def _buffers(kernel: ConvKernel) -> tuple[Buffer, ...]:
    upper = kernel.axes.upper()
    ks, outs, ins = ([index(f"{letter}{a}") for a in upper] for letter in "KOI")
    weights = [index("F"), index("C"), *ks]
    buffers = [
        activation_buffer("x", "read", index("C"), ins, kernel.x_block),
        Buffer("w", "read", kernel.weights, tuple(weights), contiguous(weights)),
        Buffer("bias", "read", "f32", (index("F"),), (index(1),)),
    ]
    if kernel.residual:
        buffers.append(activation_buffer("z", "read", index("F"), outs, kernel.y_block))
    buffers.append(activation_buffer("y", "update", index("F"), outs, kernel.y_block))
    return tuple(buffers)


def activation_buffer(
    name: str, role: Role, channels: Index, extents: list[Index], block: int
) -> Buffer:
    """An activation in NC(D)HWc: strides are the parameters <LETTER>N, C, D, H; width is dense."""
    letter, axes = name.upper(), "DHW"[3 - len(extents) :]
    strides = [index(f"{letter}{a}") for a in ["N", "C", *axes[:-1]]]
    strides += [index(block)] if extents else []
    # The last block may be ragged: its tail lanes exist in memory but mean nothing.
    blocks = (channels + (block - 1)) // block
    shape = (index("N"), blocks, *extents, index(block))
    return Buffer(name, role, "f32", shape, (*strides, index(1)))


def contiguous(shape: list[Index]) -> tuple[Index, ...]:
    """Row-major strides."""
    strides = [index(1)]
    for extent in reversed(shape[1:]):
        strides.append(strides[-1] * extent)
    return tuple(reversed(strides))
