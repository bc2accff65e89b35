"""Normalisations of plain arrays: layer, group, instance and RMS norm, and local response.

NormKernel brings every group (a, b) of elements (p, q) to mean 0 and variance 1:

    y[a,b,p,q] = (x[a,b,p,q] - m) * r * gamma + beta        r = 1 / sqrt(v + eps)
    m = mean over (p, q) of x        v = mean over (p, q) of (x - m)^2

with A*B groups of P*Q elements; RMS norm takes m = 0.  Layer norm has a row a of Q elements, B = 1
and P = 1; group norm of (N, C, S) has a = n, b the group, P = C/groups channels, Q = S.  Strides in
elements: XA XB XP XQ, YA YB YP YQ; GB GP GQ of gamma and beta.  With lanes, q is contiguous
everywhere and XQ YQ GQ are no parameters.

Roundings, whatever the order of sums (R = P*Q): m is within g(R) of the mean of |x|; x - m rounds
once; v is within g(R + 2) of the mean of squares of those differences, to which a wrong m adds its
square (their mean is 0); then +eps, sqrt and the division round once each, and so do the products
with r and gamma and the sum with beta.

LocalResponseKernel, over channels c' in c - before .. c - before + size - 1, cut to 0 .. C-1:

    y[o,c,i] = x[o,c,i] * e^(-beta * log(k + scale * sum of x[o,c',i]^2))

Strides XO XC XI, YO YC YI as in `jit.kernels.softmax`.  Roundings: g(size + 2) of the scaled sum
and k, which are positive; log by its ulps; the product with beta once, an error in the exponent;
e^ by its ulps; the last product.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jit.index import Index, index, maximum, minimum
from jit.kernels.conv import multiply_add
from jit.kernels.plain import plain_buffer
from jit.program import (
    Buffer,
    Const,
    For,
    Load,
    Number,
    Param,
    Program,
    ProgramError,
    Registers,
    Role,
    Statement,
    Store,
    Value,
    call,
    nest,
)


@dataclass(frozen=True)
class NormKernel:
    """What is normalised away and what scales the result.

    kind: "layer" subtracts the mean and divides by the standard deviation, "rms" divides by the
    root of the mean square; gamma: one "element" each (b, p, q), one per "row" (b, p, and no
    GQ), or none; beta: added, of gamma's shape.

    Raises:
        ProgramError: beta without gamma.
    """

    kind: Literal["layer", "rms"]
    eps: float
    gamma: Literal["none", "row", "element"]
    beta: bool
    fused: bool
    lanes: int = 1
    grid: bool = False

    def __post_init__(self) -> None:
        if self.beta and self.gamma == "none":
            raise ProgramError("a norm's beta has gamma's shape: there is none without gamma")

    @property
    def name(self) -> str:
        """Kind, what scales it, lanes."""
        return f"f32_{self.kind}_norm_{self.gamma}{'_beta' if self.beta else ''}_v{self.lanes}"


@dataclass(frozen=True)
class LocalResponseKernel:
    """`size` channels from c - before on; `scale` is alpha / size. I is a multiple of lanes."""

    size: int
    before: int
    scale: float
    beta: float
    k: float
    fused: bool
    lanes: int = 1
    grid: bool = False

    @property
    def name(self) -> str:
        """Kind, window and lanes."""
        return f"f32_local_response_{self.size}_v{self.lanes}"


_M, _R = (Load(name, (index(0),)) for name in "mr")
_PLACE = tuple(map(index, "abpq"))


def naive_norm(kernel: NormKernel) -> Program:
    """Passes over (p, q): the mean, the variance, the result."""
    x = Load("x", _PLACE)
    centred: Value = x
    body: list[Statement] = [Registers("r", (1,)), Store("r", _R.subscript, Const(0.0))]
    if kernel.kind == "layer":
        centred = call("sub", x, _M)
        body += [
            Registers("m", (1,)),
            Store("m", _M.subscript, Const(0.0)),
            _over_group(Store("m", _M.subscript, call("add", _M, x))),
            Store("m", _M.subscript, _mean(_M)),
        ]
    squares = multiply_add(kernel.fused, centred, centred, _R)
    root = call("sqrt", call("add", _mean(_R), Const(kernel.eps)))
    body += [
        _over_group(Store("r", _R.subscript, squares)),
        Store("r", _R.subscript, call("div", Const(1.0), root)),
        _over_group(Store("y", _PLACE, _scaled(kernel, call("mul", centred, _R)))),
    ]
    params, buffers = _norm_arguments(kernel)
    groups = nest([("a", index("A")), ("b", index("B"))], *body)
    return Program(kernel.name, params, buffers, (groups,))


def _over_group(store: Store) -> Statement:
    return nest([("p", index("P")), ("q", index("Q"))], store)


def _mean(total: Value) -> Value:
    return call("div", total, Number(index("P") * "Q"))


def _gamma_axes(kernel: NormKernel) -> str:
    return "BP" if kernel.gamma == "row" else "BPQ"


def _scaled(kernel: NormKernel, value: Value) -> Value:
    place = tuple(index(axis.lower()) for axis in _gamma_axes(kernel))
    if kernel.gamma == "none":
        return value
    gamma, beta = Load("gamma", place), Load("beta", place)
    if kernel.beta:
        return multiply_add(kernel.fused, value, gamma, beta)
    return call("mul", value, gamma)


def _norm_arguments(kernel: NormKernel) -> tuple[tuple[Param, ...], tuple[Buffer, ...]]:
    scales = [] if kernel.gamma == "none" else ["gamma", "beta"] if kernel.beta else ["gamma"]
    names, buffers = list("ABPQ"), []
    for buffer in ["x", *scales, "y"]:
        letter, axes = ("G", _gamma_axes(kernel)) if buffer in scales else (buffer.upper(), "ABPQ")
        strides = _strides(letter, axes, "Q" if kernel.lanes > 1 else "")
        names += [s for s in strides if isinstance(s, str) and s not in names]
        role: Role = "write" if buffer == "y" else "read"
        buffers.append(plain_buffer(buffer, role, [index(a) for a in axes], strides))
    params = [Param(name, int(len(name) == 1)) for name in names]
    return tuple(params), tuple(buffers)


def _strides(letter: str, axes: str, dense: str) -> list[Index | str | int]:
    return [1 if axis == dense else f"{letter}{axis}" for axis in axes]


def naive_local_response(kernel: LocalResponseKernel) -> Program:
    """For every element, the squares of its window, one after another."""
    place = (index("o"), index("c"), index("i"))
    x, near = Load("x", place), Load("x", (index("o"), index("w"), index("i")))
    s = Load("s", (index(0),))
    first = index("c") - kernel.before
    window = For(
        "w",
        maximum(first, 0),
        minimum(first + kernel.size, "C"),
        (Store("s", s.subscript, multiply_add(kernel.fused, near, near, s)),),
    )
    base = multiply_add(kernel.fused, s, Const(kernel.scale), Const(kernel.k))
    power = call("exp", call("mul", call("log", base), Const(-kernel.beta)))
    body = nest(
        [(axis.lower(), index(axis)) for axis in "OCI"],
        Registers("s", (1,)),
        Store("s", s.subscript, Const(0.0)),
        window,
        Store("y", place, call("mul", x, power)),
    )
    strides = [_strides(letter, "OCI", "I" if kernel.lanes > 1 else "") for letter in "XY"]
    extents = [index(axis) for axis in "OCI"]
    buffers = (
        plain_buffer("x", "read", extents, strides[0]),
        plain_buffer("y", "write", extents, strides[1]),
    )
    params = [Param("O", 1), Param("C", 1), Param("I", 1, multiple=kernel.lanes)]
    params += [Param(s) for side in strides for s in side if isinstance(s, str)]
    return Program(kernel.name, tuple(params), buffers, (body,))
