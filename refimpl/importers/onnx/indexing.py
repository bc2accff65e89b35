"""Parts of values: slices, splits, and what is looked up by an index."""

from __future__ import annotations

import math
from itertools import accumulate

import numpy as np

from refimpl.importers.onnx.call import Call
from refimpl.importers.onnx.operands import Known, Operand, Value
from refimpl.ops import Shape

_MOST_PLACES = 2**20


def slice_(call: Call) -> Operand:
    """Slice: along any axes, forwards or backwards; ends beyond the input are clamped."""
    x = call.operand(0)
    if call.opset < 10:
        starts, ends = call.attribute("starts"), call.attribute("ends")
        axes, steps = call.attribute("axes"), None
    else:
        starts, ends = call.ints(1, "starts"), call.ints(2, "ends")
        axes = call.ints(3, "axes") if call.given(3) else None
        steps = call.ints(4, "steps") if call.given(4) else None
    axes = call.axes(range(len(starts)) if axes is None else axes, len(x.shape))
    steps = (1,) * len(starts) if steps is None else steps
    call.require(
        len(starts) == len(ends) == len(axes) == len(steps),
        "starts, ends, axes and steps are not equally many",
    )
    call.require(0 not in steps, "a step is 0")
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        x = take_range(call, x, axis, range(x.shape[axis])[start:end:step])
    return x


def take_range(call: Call, x: Operand, axis: int, places: range) -> Operand:
    """The places of an axis that a range names."""
    if places == range(x.shape[axis]):
        return x
    if isinstance(x, Known):
        whole = (slice(None),) * axis
        end = places.stop if places.stop >= 0 else None
        part = x.array[(*whole, slice(places.start, end, places.step))]
        return Known(call.path, part)
    call.require(len(places) > 0, f"nothing is left of axis {axis} of {x.shape}")
    # A range of one place may have any step.
    step = places.step if len(places) > 1 else 1
    return call.add("slice", x, axis=axis, start=places.start, step=step, size=len(places))


def split(call: Call) -> tuple[Operand, ...]:
    """Split: into parts of given sizes, or into equal ones (the last may be smaller)."""
    x, count = call.operand(0), call.outputs
    axis = call.axis(call.attribute("axis", 0), len(x.shape))
    sizes = call.ints_or_attribute(1, "split", 13)
    sizes = _equal_parts(call, x.shape[axis], count) if sizes is None else sizes
    call.require(
        len(sizes) == count and sum(sizes) == x.shape[axis] and min(sizes) >= 0,
        f"parts {sizes} are not {count} that make up axis {axis} of {x.shape}",
    )
    ends = accumulate(sizes)
    ranges = [range(end - size, end) for end, size in zip(ends, sizes, strict=True)]
    return tuple(take_range(call, x, axis, places) for places in ranges)


def _equal_parts(call: Call, size: int, count: int) -> Shape:
    call.require(call.attribute("num_outputs", count) == count, f"num_outputs is not {count}")
    each = -(-size // count)
    call.require(
        size % count == 0 or call.opset >= 18, f"{size} does not divide into {count} parts"
    )
    return (*(each,) * (count - 1), size - each * (count - 1))


def gather(call: Call) -> Operand:
    """Gather: by known indices; or rows of a constant table by indices given to the network.

    The latter are counted from the front: a negative one is out of an embedding's range.
    """
    data, indices = call.operand(0), call.operand(1)
    axis = call.axis(call.attribute("axis", 0), len(data.shape))
    if isinstance(indices, Value):
        return _embedding(call, data, axis, indices)
    array = indices.array
    call.require(array.dtype.kind in "iu", f"indices are {array.dtype}, not integers")
    size = data.shape[axis]
    call.require(
        array.size == 0 or -size <= array.min() <= array.max() < size,
        f"indices from {array.min(initial=0)} to {array.max(initial=0)} are not all in an axis "
        f"of {size}",
    )
    return _take(call, data, axis, array % max(size, 1))


def _take(call: Call, data: Operand, axis: int, indices: np.ndarray) -> Operand:
    before, after = data.shape[:axis], data.shape[axis + 1 :]
    shape = (*before, *indices.shape, *after)
    if isinstance(data, Known):
        call.reserve(shape, data.array.dtype)
        return Known(call.path, np.take(data.array, indices, axis))
    call.require(indices.size > 0, "it looks nothing up")
    return call.reshape(look_up(call, data, axis, indices.reshape(-1)), shape)


def look_up(call: Call, data: Operand, axis: int, places: np.ndarray) -> Operand:
    """The places (one or more) of an axis, in any order; a slice where they are evenly spaced."""
    first, last, step = int(places[0]), int(places[-1]), int(places[1:2].sum() - places[0])
    step = step if len(places) > 1 else 1
    end = last + (1 if step > 0 else -1)
    if np.array_equal(places, np.arange(first, end, step or 1)):
        return take_range(call, data, axis, range(first, end, step or 1))
    call.require(len(places) <= _MOST_PLACES, f"it looks up {len(places)} places one by one")
    return call.add("take", data, axis=axis, indices=tuple(places.tolist()))


def _embedding(call: Call, table: Operand, axis: int, indices: Value) -> Operand:
    call.require(
        indices.whole and isinstance(table, Known) and axis == 0,
        "its indices are computed as the network runs; that has a counterpart here only where "
        "they are an input of the network and rows of a constant are looked up",
    )
    call.reserve(table.shape, np.dtype(np.float32))
    rows = call.reshape(table, (table.shape[0], math.prod(table.shape[1:])))
    found = call.add("embedding", indices, rows)
    return call.reshape(found, (*indices.shape, *table.shape[1:]))
