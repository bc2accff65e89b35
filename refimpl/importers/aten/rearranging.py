"""Padding, shuffles, flips, indices that are constant, and writing into a part of a tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from refimpl.importers.aten.arguments import Ints, Rule, axis
from refimpl.importers.aten.shaping import take_range
from refimpl.importers.call import Call, Operand, Value

_PAD_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
"""torch's name of each mode, and ours."""


def _pad(
    call: Call, self: Value, pad: Sequence[int], mode: str = "constant", value: float | None = None
) -> str | Value:
    """Pairs from the last axis on; a negative one cuts off."""
    call.require(mode in _PAD_MODES, f"mode={mode!r} has no counterpart here")
    rank, pairs = len(self.shape), len(pad) // 2
    call.require(len(pad) % 2 == 0 and pairs <= rank, f"{tuple(pad)} is not a pair for each axis")
    sides = [(0, 0)] * (rank - pairs) + [(pad[2 * i], pad[2 * i + 1]) for i in range(pairs)][::-1]
    x: str | Value = self
    for along, (lo, hi) in enumerate(sides):
        if min(lo, hi) < 0:
            size = call.shape(x)[along]
            x = take_range(call, x, along, range(max(0, -lo), size - max(0, -hi)))
    padding = tuple((max(0, lo), max(0, hi)) for lo, hi in sides)
    if not any(map(any, padding)):
        return x
    fill = float(value or 0.0)
    return call.add("pad", x, padding=padding, mode=_PAD_MODES[mode], value=fill)


def _constant_pad(call: Call, self: Value, pad: Sequence[int], value: float = 0) -> str | Value:
    return _pad(call, self, pad, "constant", value)


def _pad_of_mode(mode: str) -> Rule:
    def rule(call: Call, self: Value, padding: Sequence[int]) -> str | Value:
        return _pad(call, self, padding, mode)

    return rule


def _pixel_shuffle(call: Call, self: Value, upscale_factor: int) -> str:
    """[*, C*r*r, H, W] to [*, C, H*r, W*r]."""
    r = upscale_factor
    call.require(len(self.shape) >= 3 and r > 0, "it is not an image")
    *head, channels, h, w = list(self.shape)
    n = len(head)
    apart = call.add("reshape", self, shape=(*head, channels // (r * r), r, r, h, w))
    order = (*range(n), n, n + 3, n + 1, n + 4, n + 2)
    return call.add("reshape", call.add("transpose", apart, order=order), shape=call.result)


def _pixel_unshuffle(call: Call, self: Value, downscale_factor: int) -> str:
    """[*, C, H*r, W*r] to [*, C*r*r, H, W]."""
    r = downscale_factor
    call.require(len(self.shape) >= 3 and r > 0, "it is not an image")
    *head, channels, h, w = list(self.shape)
    n = len(head)
    apart = call.add("reshape", self, shape=(*head, channels, h // r, r, w // r, r))
    order = (*range(n), n, n + 2, n + 4, n + 1, n + 3)
    return call.add("reshape", call.add("transpose", apart, order=order), shape=call.result)


def _channel_shuffle(call: Call, self: Value, groups: int) -> str:
    """Channels [g, C/g] read the other way round."""
    call.require(len(self.shape) >= 2 and groups > 0, "it has no channels")
    n, channels, *rest = list(self.shape)
    apart = call.add("reshape", self, shape=(n, groups, channels // groups, *rest))
    order = (0, 2, 1, *range(3, 3 + len(rest)))
    return call.add("reshape", call.add("transpose", apart, order=order), shape=call.result)


def _flip(call: Call, self: Value, dims: Sequence[int]) -> str | Value:
    x: str | Value = self
    for dim in dims:
        along = axis(call, self, dim)
        x = take_range(call, x, along, range(self.shape[along])[::-1])
    return x


def _roll(call: Call, self: Value, shifts: Ints, dims: Ints = ()) -> str | Value:
    """The last `shift` of an axis before the others; without axes, of all in a row."""
    shifts = [shifts] if isinstance(shifts, int) else list(shifts)
    dims = [dims] if isinstance(dims, int) else list(dims)
    if not dims:
        call.require(len(shifts) == 1, f"{shifts} is not one shift for all axes")
        row = call.add("reshape", self, shape=(math.prod(self.shape),))
        return call.add("reshape", _roll_along(call, row, 0, shifts[0]), shape=self.shape)
    call.require(len(shifts) == len(dims), f"{shifts} is not one shift for each of {dims}")
    x: str | Value = self
    for shift, dim in zip(shifts, dims, strict=True):
        x = _roll_along(call, x, axis(call, self, dim), shift)
    return x


def _roll_along(call: Call, x: str | Value, along: int, shift: int) -> str | Value:
    size = call.shape(x)[along]
    kept = size - shift % size
    if kept == size:
        return x
    runs = range(kept, size), range(kept)
    return call.add("concat", *(take_range(call, x, along, run) for run in runs), axis=along)


def _index_select(call: Call, self: Value, dim: int, index: Value) -> str:
    return _take(call, self, axis(call, self, dim), index)


def _index(call: Call, self: Value, indices: Sequence[Value | None]) -> str:
    """x[:, i]: one axis by a list; several at once have no counterpart."""
    given = [along for along, index in enumerate(indices) if index is not None]
    if len(given) != 1 or given[0] >= len(self.shape):
        call.refuse("only the indices of one axis have a counterpart here")
    index = indices[given[0]]
    call.require(index is not None and len(index.shape) == 1, "its indices are not in a row")
    return _take(call, self, given[0], index)  # type: ignore[arg-type]


def _take(call: Call, x: Value, along: int, index: Value) -> str:
    if index.array is None:
        call.refuse("its indices depend on the inputs; only constant ones have a counterpart here")
    size = x.shape[along]
    picked = index.array.reshape(-1).astype(np.int64)
    call.require(bool(np.all((-size <= picked) & (picked < size))), f"an index is not below {size}")
    return call.add("take", x, axis=along, indices=tuple((picked % size).tolist()))


def _slice_scatter(
    call: Call,
    self: Value,
    src: Value,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> str:
    """x with a run of an axis replaced: what lies before it, the new run, what lies behind."""
    along = axis(call, self, dim)
    call.require(step == 1, f"step={step} has no counterpart here; only 1 has")
    first, last, _ = slice(start, end).indices(self.shape[along])
    return _replace(call, self, src, along, first, max(first, last))


def _select_scatter(call: Call, self: Value, src: Value, dim: int, index: int) -> str:
    along = axis(call, self, dim)
    first = index % self.shape[along]
    row = call.add("reshape", src, shape=(*self.shape[:along], 1, *self.shape[along + 1 :]))
    return _replace(call, self, row, along, first, first + 1)


def _replace(call: Call, x: Value, run: Operand, along: int, first: int, last: int) -> str:
    outside = range(first), range(last, x.shape[along])
    before, behind = (take_range(call, x, along, r) if len(r) else None for r in outside)
    parts = [part for part in (before, run, behind) if part is not None]
    return call.add("concat", *parts, axis=along)


REARRANGING: dict[str, Rule] = {
    "aten.pad.default": _pad,
    "aten.constant_pad_nd.default": _constant_pad,
    **{f"aten.reflection_pad{n}d.default": _pad_of_mode("reflect") for n in (1, 2, 3)},
    **{f"aten.replication_pad{n}d.default": _pad_of_mode("replicate") for n in (1, 2, 3)},
    "aten.pixel_shuffle.default": _pixel_shuffle,
    "aten.pixel_unshuffle.default": _pixel_unshuffle,
    "aten.channel_shuffle.default": _channel_shuffle,
    "aten.native_channel_shuffle.default": _channel_shuffle,
    "aten.flip.default": _flip,
    "aten.roll.default": _roll,
    "aten.index_select.default": _index_select,
    "aten.index.Tensor": _index,
    "aten.slice_scatter.default": _slice_scatter,
    "aten.select_scatter.default": _select_scatter,
}
