"""Axes of activations as the kernels name them, and where their elements lie."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from refimpl.plan import Place

AXES = "DHW"


def stride_params(letter: str, place: Place, rank: int | None = None) -> dict[str, int]:
    """<LETTER>N, C, D, H of a place; axes that the place lacks have stride 0 (extent 1)."""
    strides = place.layout.strides(place.shape)
    rank = len(place.shape) - 2 if rank is None else rank
    steps = strides[2:] if len(strides) - 2 == rank else (0,) * rank
    names = ["N", "C", *AXES[3 - rank :]]
    named = dict(zip(names, (*strides[:2], *steps), strict=True))
    named.pop("W", None)
    return {f"{letter}{a}": s for a, s in named.items()}


def logical_strides(letter: str, place: Place, whole: tuple[int, ...]) -> dict[str, int]:
    """Strides of (N, C block, *spatial) of `whole`, which the place holds, perhaps flattened."""
    letters = ["N", "C", *AXES[5 - len(whole) :]]
    strides = place.layout.strides(place.shape)
    if len(place.shape) != len(whole):  # rank 2: channels of a blocked vector are contiguous
        inner = tuple(prod(whole[i + 1 :]) for i in range(1, len(whole)))
        strides = (strides[0], *inner)
    return {f"{letter}{a}": s for a, s in zip(letters, strides, strict=True)}


def corner(
    x: Place,
    padding: tuple[tuple[int, int], ...],
    steps: Mapping[str, int],
    start: tuple[int, int, int],
) -> int:
    """Elements from x's first inner element to what the output at `start` (D, H, W) reads first."""
    strides, letters = x.layout.strides(x.shape)[2:], AXES[5 - len(x.shape) :]
    begin = dict(zip(AXES, start, strict=True))
    return sum(
        (begin[a] * steps[f"S{a}"] - lo) * step
        for a, (lo, _), step in zip(letters, padding, strides, strict=True)
    )


def row_offset(place: Place, row: int, rank: int, start: tuple[int, int, int]) -> int:
    """Elements from a value's first inner element to filter `row` at `start` (D, H, W)."""
    strides = place.layout.strides(place.shape)
    block = place.layout.block
    total = row // block * strides[1] + row % block
    if len(place.shape) - 2 == rank and rank:
        total += sum(i * s for i, s in zip(start[3 - rank :], strides[2:], strict=True))
    return total
