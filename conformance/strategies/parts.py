"""What layers are drawn of: sizes, windows, schemes, activations."""

from __future__ import annotations

from math import prod

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from conformance.layers import Activation
from refimpl.graph import Shape

MACS = 200_000
"""Multiply-adds of one drawn layer, at most: what its reference computes in milliseconds."""
WEIGHTS = 20_000
"""Weights of one drawn layer, at most: the loops over weights are in Python."""

_AWKWARD = (1, 2, 3, 4, 5, 7, 8, 9, 11, 13, 15, 16, 17, 23, 31, 32, 33, 47, 48, 49, 63, 64, 65,
            127, 129, 131, 257)  # fmt: skip

_COMMON: tuple[Activation, ...] = (
    ("relu", ()),
    ("clamp", (("lo", 0.0), ("hi", 6.0))),
    ("clamp", (("lo", -0.3), ("hi", float("inf")))),
    ("leaky_relu", (("slope", 0.01),)),
    ("elu", (("alpha", 1.3),)),
    ("sigmoid", ()),
    ("hardsigmoid", ()),
    ("tanh", ()),
    ("silu", ()),
    ("hardswish", ()),
)
_OTHERS: tuple[Activation, ...] = (
    ("gelu", (("approximate", "none"),)),
    ("gelu", (("approximate", "tanh"),)),
    ("selu", ()),
    ("celu", (("alpha", 0.7),)),
    ("softplus", (("beta", 2.0),)),
    ("softsign", ()),
    ("mish", ()),
    ("abs", ()),
    ("neg", ()),
    ("exp", ()),
    ("log", ()),
    ("sqrt", ()),
    ("reciprocal", ()),
    ("erf", ()),
)


def sizes(limit: int) -> SearchStrategy[int]:
    """An awkward size from 1 to `limit`, or any other."""
    awkward = [size for size in _AWKWARD if size <= limit]
    return st.one_of(st.sampled_from(awkward), st.integers(1, max(limit, 1)))


@st.composite
def shapes(draw: DrawFn, least: int, most: int, elements: int = 600) -> Shape:
    """So many axes, and at most so many elements."""
    found: list[int] = []
    for _ in range(draw(st.integers(least, most))):
        found.append(draw(sizes(max(1, min(17, elements // prod(found))))))
    return tuple(draw(st.permutations(found)))


def activations() -> SearchStrategy[Activation]:
    """Every activation that is compiled, with its numbers; half of them what CNNs use most."""
    return st.one_of(st.sampled_from(_COMMON), st.sampled_from((*_COMMON, *_OTHERS)))


def maybe_activated() -> SearchStrategy[Activation | None]:
    """An activation, or none."""
    return st.one_of(st.none(), activations())


@st.composite
def schemes(draw: DrawFn) -> tuple[str, float]:
    """(scheme as text, share kept), with blocks that do not divide and almost nothing kept."""
    name = draw(st.sampled_from(("dense", "unstructured", "filter", "vanilla", "kgs", "bcr")))
    if name == "dense":
        return name, 1.0
    keep = draw(st.sampled_from((0.5, 0.28, 0.1, 0.01, 1e-6, 0.9, 0.0)))
    if name in ("vanilla", "kgs", "bcr"):
        gf, gc = (draw(st.sampled_from((1, 2, 3, 4, 8, 16, 32, 100))) for _ in range(2))
        return f"{name}:{gf}x{gc}", keep
    return name, keep


@st.composite
def extents(draw: DrawFn, rank: int, budget: int) -> Shape:
    """Spatial sizes whose product is at most `budget`, the last axis longest."""
    found = []
    for axis in range(rank):
        limit = 40 if axis == 0 else 7
        found.append(draw(sizes(max(1, min(limit, budget // prod(found))))))
    return tuple(reversed(found))


@st.composite
def windows(draw: DrawFn, rank: int, dilated: bool) -> tuple[Shape, Shape, Shape, tuple]:
    """(kernel, stride, dilation, padding) along every axis; padding below the window's extent."""
    kernel = tuple(draw(st.sampled_from((1, 3, 2, 5, 4) if rank < 3 else (1, 3, 2)))
                   for _ in range(rank))  # fmt: skip
    stride = tuple(draw(st.sampled_from((1, 2, 3))) for _ in range(rank))
    dilation = tuple(draw(st.sampled_from((1, 1, 2, 3))) if dilated else 1 for _ in range(rank))
    extents = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    padding = tuple(
        (draw(st.integers(0, min(3, e - 1))), draw(st.integers(0, min(3, e - 1)))) for e in extents
    )
    return kernel, stride, dilation, padding


@st.composite
def inputs_for(
    draw: DrawFn, out: Shape, kernel: Shape, stride: Shape, dilation: Shape, padding: tuple
) -> Shape:
    """Input sizes from which a window yields `out`, with up to a stride of elements unread."""
    result = []
    for o, k, s, d, pads in zip(out, kernel, stride, dilation, padding, strict=True):
        least = (o - 1) * s + d * (k - 1) + 1 - sum(pads)
        result.append(max(1, least + draw(st.integers(0, s - 1))))
    return tuple(result)
