"""Depthwise convolution in NC(D)HWc: every channel has a filter of its own.

    y[n, c, o] = act(bias[c] + sum over taps k of w[k, c] * x[n, c, o*S + k*T] (+ z))

Letters as in `jit.kernels.conv`; C counts channel slots, and x has a halo, so that padding is read
as zeros.  The weight is taps first, channels last (and padded with zeros to whole blocks), so a
tap's weights are a vector.  The taps along width are unrolled over a tile of `tile_w` positions,
whose inputs overlap: what two taps share is loaded once.
"""

from __future__ import annotations

from dataclasses import dataclass

from jit.index import Index, index
from jit.kernels.activation import Activation, activate
from jit.kernels.conv import activation_buffer, contiguous, multiply_add
from jit.program import (
    Buffer,
    Load,
    Param,
    Program,
    Statement,
    Store,
    Value,
    call,
    nest,
)


@dataclass(frozen=True)
class DepthwiseKernel:
    """What one compiled depthwise convolution fixes, of 1 to 3 spatial axes.

    block: channels of a block, the vector; tile_w: positions along width computed at once (OW is
    a multiple); taps_w, stride_w, dilation_w: the filter along width, KW, SW and TW; along
    other axes they are parameters.
    """

    rank: int
    block: int
    tile_w: int
    taps_w: int
    stride_w: int
    dilation_w: int
    activation: Activation | None
    residual: bool
    fused: bool
    grid: bool = False

    @property
    def name(self) -> str:
        """Kind, tile, filter along width, epilogue."""
        parts = [f"f32_depthwise{self.rank}d_c{self.block}x{self.tile_w}"]
        parts.append(f"k{self.taps_w}s{self.stride_w}t{self.dilation_w}")
        parts += [self.activation[0]] if self.activation else []
        parts += ["add"] if self.residual else []
        return "_".join(parts)

    @property
    def axes(self) -> str:
        """The letters of the spatial axes."""
        return "dhw"[3 - self.rank :]


def naive_depthwise(kernel: DepthwiseKernel) -> Program:
    """Every tap of every output, one after another."""
    taps = [index(f"k{a}") for a in kernel.axes]
    y = Load("y", _place([index(f"o{a}") for a in kernel.axes], kernel.block))
    x = Load("x", _place([_input(kernel, a) for a in kernel.axes], kernel.block))
    w = Load("w", (*taps, index("c")))
    product = Store("y", y.subscript, multiply_add(kernel.fused, w, x, y))
    body: list[Statement] = [
        Store("y", y.subscript, Load("bias", (index("c"),))),
        nest([(f"k{a}", _taps(kernel, a)) for a in kernel.axes], product),
    ]
    value: Value = call("add", y, Load("z", y.subscript)) if kernel.residual else y
    value = activate(kernel.activation, value) if kernel.activation else value
    if value != y:
        body.append(Store("y", y.subscript, value))
    outputs = [("n", index("N")), ("c", index("C"))]
    outputs += [(f"o{a}", index(f"O{a.upper()}")) for a in kernel.axes]
    return Program(kernel.name, _params(kernel), _buffers(kernel), (nest(outputs, *body),))


def _place(position: list[Index], block: int) -> tuple[Index, ...]:
    return (index("n"), index("c") // block, *position, index("c") % block)


def _taps(kernel: DepthwiseKernel, axis: str) -> Index:
    return index(kernel.taps_w if axis == "w" else f"K{axis.upper()}")


def _input(kernel: DepthwiseKernel, axis: str) -> Index:
    fixed = axis == "w"
    step = index(kernel.stride_w if fixed else f"S{axis.upper()}")
    apart = index(kernel.dilation_w if fixed else f"T{axis.upper()}")
    return index(f"o{axis}") * step + index(f"k{axis}") * apart


def _params(kernel: DepthwiseKernel) -> tuple[Param, ...]:
    upper = kernel.axes.upper()
    multiple = {"C": kernel.block, "OW": kernel.tile_w}
    sizes = ["N", "C", *(f"{m}{a}" for a in upper for m in "OI")]
    sizes += [f"{m}{a}" for a in upper[:-1] for m in "KST"]
    letters = "XYZ" if kernel.residual else "XY"
    strides = [f"{b}{a}" for b in letters for a in ["N", "C", *upper[:-1]]]
    return tuple(Param(s, 1, multiple=multiple.get(s, 1)) for s in sizes) + tuple(
        Param(s) for s in strides
    )


def _buffers(kernel: DepthwiseKernel) -> tuple[Buffer, ...]:
    upper, channels = kernel.axes.upper(), index("C")
    outs, ins = ([index(f"{letter}{a}") for a in upper] for letter in "OI")
    weights = [*(_taps(kernel, a) for a in kernel.axes), channels]
    buffers = [
        activation_buffer("x", "read", channels, ins, kernel.block),
        Buffer("w", "read", "f32", tuple(weights), contiguous(weights)),
        Buffer("bias", "read", "f32", (channels,), (index(1),)),
    ]
    if kernel.residual:
        buffers.append(activation_buffer("z", "read", channels, outs, kernel.block))
    buffers.append(activation_buffer("y", "update", channels, outs, kernel.block))
    return tuple(buffers)
