"""Operators that move values: shapes, axes, repetition, padding."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from refimpl.importers.onnx.call import Call
from refimpl.importers.onnx.operands import Known, Operand, Value

_FLOAT, _INTS = 1, (6, 7)


def same_value(call: Call) -> Operand:
    """Identity."""
    return call.operand(0)


def dropout(call: Call) -> Operand:
    """Dropout at inference, which is nothing."""
    call.without_effect("ratio", "seed")
    call.given(1)  # the ratio
    if call.given(2):
        call.require(not call.known(2, "training_mode").any(), "training_mode is on")
    return call.operand(0)


def cast(call: Call) -> Operand:
    """Cast of what is computed as the network runs: only to the type that it has."""
    call.without_effect("saturate", "round_mode")  # of 8-bit floats
    x, to = call.operand(0), call.attribute("to")
    whole = isinstance(x, Value) and x.whole
    call.require(
        to in _INTS if whole else to == _FLOAT,
        f"it makes {'a float' if whole else 'another type'} of a value that is "
        f"{'an integer' if whole else 'float32'} as the network runs (to={to})",
    )
    return x


def cast_like(call: Call) -> Operand:
    """CastLike where both are float32, or both integers."""
    call.without_effect("saturate", "round_mode")
    x, like = call.operand(0), call.operand(1)
    call.require(_kind(x) == _kind(like), "it changes a type as the network runs")
    return x


def _kind(operand: Operand) -> str:
    if isinstance(operand, Known):
        return operand.array.dtype.kind
    return "i" if operand.whole else "f"


def concat(call: Call) -> Operand:
    """Concat, of one input or more."""
    operands = call.operands()
    axis = call.axis(call.attribute("axis"), len(operands[0].shape))
    return operands[0] if len(operands) == 1 else call.add("concat", *operands, axis=axis)


def reshape(call: Call) -> Operand:
    """Reshape: 0 copies a size (unless `allowzero`), -1 is what is left."""
    x, wanted = call.operand(0), list(call.ints(1, "the shape"))
    if not call.attribute("allowzero", 0):
        call.require(
            all(v != 0 or i < len(x.shape) for i, v in enumerate(wanted)),
            f"shape {tuple(wanted)} copies a size that input {x.shape} does not have",
        )
        wanted = [x.shape[i] if v == 0 else v for i, v in enumerate(wanted)]
    call.require(min(wanted, default=0) >= -1, f"shape {tuple(wanted)} has a negative size")
    call.require(wanted.count(-1) <= 1, f"shape {tuple(wanted)} leaves several sizes open")
    if -1 in wanted:
        rest, total = math.prod(v for v in wanted if v != -1), math.prod(x.shape)
        call.require(rest > 0 and total % rest == 0, f"input {x.shape} is not {tuple(wanted)}")
        wanted[wanted.index(-1)] = total // rest
    return call.reshape(x, wanted)


def flatten(call: Call) -> Operand:
    """Flatten: the axes before and those from `axis` on, as a matrix."""
    x = call.operand(0)
    rank, axis = len(x.shape), call.attribute("axis", 1)
    axis = rank if axis == rank else call.axis(axis, rank)
    return call.reshape(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


def transpose(call: Call) -> Operand:
    """Transpose; all axes reversed unless `perm` says otherwise."""
    x = call.operand(0)
    rank = len(x.shape)
    order = call.attribute("perm", tuple(reversed(range(rank))))
    call.require(sorted(order) == list(range(rank)), f"perm {order} is no order of {rank} axes")
    return x if list(order) == sorted(order) else call.add("transpose", x, order=order)


def squeeze(call: Call) -> Operand:
    """Squeeze: the axes named, or all of size 1, are dropped."""
    x = call.operand(0)
    given = call.ints_or_attribute(1, "axes", 13)
    if given is None:
        given = tuple(axis for axis, size in enumerate(x.shape) if size == 1)
    axes = call.axes(given, len(x.shape))
    call.require(all(x.shape[axis] == 1 for axis in axes), f"axes {axes} of {x.shape} are not 1")
    return call.reshape(x, [size for axis, size in enumerate(x.shape) if axis not in axes])


def unsqueeze(call: Call) -> Operand:
    """Unsqueeze: axes of size 1 are put where the result has them."""
    x, given = call.operand(0), call.ints_or_attribute(1, "axes", 13)
    call.require(given is not None, "axes are missing")
    axes = call.axes(given or (), len(x.shape) + len(given or ()))
    rest = iter(x.shape)
    rank = len(x.shape) + len(axes)
    return call.reshape(x, [1 if axis in axes else next(rest) for axis in range(rank)])


def expand(call: Call) -> Operand:
    """Expand: the input and a shape broadcast to one another."""
    x, wanted = call.operand(0), call.ints(1, "the shape")
    call.require(min(wanted, default=1) >= 0, f"shape {wanted} has a negative size")
    return spread(call, x, wanted)


def spread(call: Call, x: Operand, wanted: Sequence[int]) -> Operand:
    """The input repeated to the shape that it and another broadcast to."""
    try:
        shape = np.broadcast_shapes(x.shape, tuple(wanted))
    except ValueError as error:
        call.refuse(f"{x.shape} does not broadcast with {tuple(wanted)} ({error})")
    return x if shape == x.shape else call.add("expand", x, shape=tuple(shape))


def tile(call: Call) -> Operand:
    """Tile: repeated along every axis, one axis after another."""
    x, repeats = call.operand(0), call.ints(1, "repeats")
    call.require(len(repeats) == len(x.shape), f"repeats {repeats} are not {x.shape}'s axes")
    call.require(min(repeats, default=1) >= 0, f"repeats {repeats} have a negative one")
    for axis, count in enumerate(repeats):
        if count == 1:
            continue
        before, size, after = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
        apart = call.add("reshape", x, shape=(*before, 1, size, *after))
        copies = call.add("expand", apart, shape=(*before, count, size, *after))
        x = call.add("reshape", copies, shape=(*before, count * size, *after))
    return x


def pad(call: Call) -> Operand:
    """Pad; a negative padding cuts."""
    x = call.operand(0)
    mode = call.attribute("mode", "constant")
    pairs, value = _pad_pairs(call, len(x.shape)), _pad_value(call)
    call.require(mode == "constant" or min(min(p) for p in pairs) >= 0, f"mode={mode} cuts")
    for axis, (lo, hi) in enumerate(pairs):
        x = _cut(call, x, axis, -min(lo, 0), -min(hi, 0))
    padding = tuple((max(lo, 0), max(hi, 0)) for lo, hi in pairs)
    if not any(map(any, padding)):
        return x
    return call.add(
        "pad", x, padding=padding, mode=mode, value=value if mode == "constant" else 0.0
    )


def _pad_pairs(call: Call, rank: int) -> list[tuple[int, int]]:
    pads = call.ints(1, "pads") if call.opset >= 11 else call.attribute("pads")
    axes = call.axes(call.ints(3, "axes"), rank) if call.given(3) else tuple(range(rank))
    call.require(
        len(pads) == 2 * len(axes), f"pads {pads} are not two for each of {len(axes)} axes"
    )
    given = dict(zip(axes, zip(pads[: len(axes)], pads[len(axes) :], strict=True), strict=True))
    return [given.get(axis, (0, 0)) for axis in range(rank)]


def _pad_value(call: Call) -> float:
    if call.opset < 11:
        return float(call.attribute("value", 0.0))
    return call.scalar(2, "the value") if call.given(2) else 0.0


def _cut(call: Call, x: Operand, axis: int, lo: int, hi: int) -> Operand:
    """The axis without its first `lo` and last `hi` places."""
    if lo == hi == 0:
        return x
    left = x.shape[axis] - lo - hi
    call.require(left > 0, f"nothing is left of axis {axis} of {x.shape}")
    return call.add("slice", x, axis=axis, start=lo, step=1, size=left)


def depth_to_space(call: Call) -> Operand:
    """DepthToSpace: channels become blocks of height and width."""
    x, block, in_rows = _blocks(call)
    n, c, h, w = x.shape
    call.require(c % block**2 == 0, f"{c} channels do not divide into blocks of {block}x{block}")
    apart = (
        (n, block, block, c // block**2, h, w)
        if in_rows
        else (n, c // block**2, block, block, h, w)
    )
    order = (0, 3, 4, 1, 5, 2) if in_rows else (0, 1, 4, 2, 5, 3)
    moved = call.add("transpose", call.add("reshape", x, shape=apart), order=order)
    return call.add("reshape", moved, shape=(n, c // block**2, h * block, w * block))


def space_to_depth(call: Call) -> Operand:
    """SpaceToDepth: blocks of height and width become channels."""
    x, block, in_rows = _blocks(call)
    n, c, h, w = x.shape
    call.require(h % block == w % block == 0, f"{h}x{w} does not divide into {block}x{block}")
    apart = (n, c, h // block, block, w // block, block)
    order = (0, 3, 5, 1, 2, 4) if in_rows else (0, 1, 3, 5, 2, 4)
    moved = call.add("transpose", call.add("reshape", x, shape=apart), order=order)
    return call.add("reshape", moved, shape=(n, c * block**2, h // block, w // block))


def _blocks(call: Call) -> tuple[Operand, int, bool]:
    """The input, the size of the blocks, and whether they come before the channels (DCR)."""
    x, block = call.operand(0), call.attribute("blocksize")
    call.require(len(x.shape) == 4, f"input {x.shape} is not [N, C, H, W]")
    call.require(block > 0, f"blocksize={block} is not 1 or more")
    mode = call.attribute("mode", "DCR")
    call.require(mode in ("DCR", "CRD"), f"mode={mode!r} is unknown")
    return x, block, mode == "DCR"
