"""x made planar, for kernels whose vectors hold positions, and the tables that say where it lies.

Planar means that what neighbouring positions read for one column lies side by side: a channel's
rows one after another and, where the convolution strides along width, every stride-th element of
a row together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod

import numpy as np

from jit.launches.axes import corner
from jit.launches.contraction import Contraction, conv_sizes
from jit.launches.form import Launch, Lowering, Operand
from jit.launches.plain import copy, walk
from refimpl.plan import Place, PlanError, Step
from refimpl.plan.panels import Panels


def planar_copy(
    to: Lowering, work: Contraction, panels: Panels, planar: Operand
) -> Iterator[Launch]:
    """x copied, phase by phase along width; then zeros for the vectors that reach past the end."""
    step, x, block = work.step, work.x, work.x.place.layout.block
    extents, begin = panels.planar, x
    steps = x.place.layout.strides(x.place.shape)
    if panels.stride:
        sizes = conv_sizes(to, work)
        begin = x.skip(corner(x.place, work.attribute("padding"), sizes, (0, 0, 0)))
    for c0, c1 in _whole_blocks(panels.weight[1], block):
        source = begin.skip(c0 // block * steps[1])
        # A block of channels at a time: its inner loops stay near each other in memory.
        if panels.stride:
            yield from _phases(to, work, panels, source, planar, (c0, c1))
            continue
        count = min(c1 - c0, block)
        shape = ((c1 - c0) // count, count, extents[1])
        ys = (count * extents[1], extents[1], 1)
        target = planar.skip(c0 * extents[1])
        yield from copy(to, step, source, target, shape, (steps[1], 1, steps[0]), ys)
    slack = planar.skip(prod(extents))
    yield from walk(to, step, "fill", (panels.slack,), {"y": slack}, {"y": (1,)})


def _whole_blocks(channels: int, block: int) -> list[tuple[int, int]]:
    """(first, end) of the channels in whole blocks, and of the rest."""
    whole = channels // block * block
    return [part for part in ((0, whole), (whole, channels)) if part[0] < part[1]]


def _phases(
    to: Lowering,
    work: Contraction,
    panels: Panels,
    source: Operand,
    planar: Operand,
    channels: tuple[int, int],
) -> Iterator[Launch]:
    """Some channels of x, every stride-th element along width together."""
    (c0, c1), block = channels, work.x.place.layout.block
    images, _, *outer, phases, width = panels.planar
    xs, count = work.x.place.layout.strides(work.x.place.shape), min(c1 - c0, block)
    pitch = phases * width
    plane = prod(outer) * pitch
    ys = tuple(prod(outer[i + 1 :]) * pitch for i in range(len(outer)))
    box = (images, (c1 - c0) // count, *outer, count)
    begins = (xs[0], xs[1], *xs[2:-1], 1)
    rows = (panels.weight[1] * plane, count * plane, *ys, plane)
    for phase in range(phases):
        there = -(-(panels.reach[-1] - phase) // phases)
        x, y = source.skip(phase * block), planar.skip(c0 * plane + phase * width)
        if there > 0:
            sizes, step = (*box, there), phases * block
            yield from copy(to, work.step, x, y, sizes, (*begins, step), (*rows, 1))
        if there < width:  # no position needs what a vector reads there, but it must be something
            rest = {"y": y.skip(there)}
            yield from walk(to, work.step, "fill", (*box, width - there), rest, {"y": (*rows, 1)})


def positions_tables(work: Contraction, panels: Panels) -> dict[str, np.ndarray]:
    """Where every position reads in the planar copy (corner), and in y and z (place, other)."""
    at = np.indices(panels.output).reshape(len(panels.output), -1).astype(np.int64)
    tables = {
        "corner": int32(work.step, _planar_offset(panels, at)),
        "place": int32(work.step, _offsets(work.y.place, at)),
    }
    if work.residual:
        tables["other"] = int32(work.step, _offsets(work.residual.place, at))
    return tables


def _planar_offset(panels: Panels, at: np.ndarray) -> np.ndarray:
    """Where positions (axes, positions) begin to read in the planar copy."""
    if not panels.stride:
        return at[0]
    _, channels, *outer, phases, width = panels.planar
    pitch = phases * width
    total = at[0] * channels * prod(outer) * pitch + at[-1]
    for axis in range(len(outer)):
        total += at[1 + axis] * panels.stride[axis] * prod(outer[axis + 1 :]) * pitch
    return total


def _offsets(place: Place, at: np.ndarray) -> np.ndarray:
    """Elements from a value's first inner element to every position (axes, positions)."""
    strides = place.layout.strides(place.shape)
    steps = (strides[0], *strides[2:])
    # A kernel that covers its whole input has no position but 0 along axes that y lacks.
    return np.array(steps) @ at[: len(steps)]


def column_table(work: Contraction, panels: Panels) -> np.ndarray:
    """How far from its corner every column (C*K) is read in the planar copy."""
    channel, *taps = np.indices(panels.weight[1:]).reshape(len(panels.weight) - 1, -1)
    _, *inner = panels.planar
    if not panels.stride:
        return int32(work.step, channel.astype(np.int64) * inner[0])
    *outer, phases, width = inner[1:]
    pitch = phases * width
    far = channel.astype(np.int64) * prod(outer) * pitch
    for axis, tap in enumerate(taps[:-1]):
        far += tap * panels.dilation[axis] * prod(outer[axis + 1 :]) * pitch
    along = taps[-1] * panels.dilation[-1]
    far += along % phases * width + along // phases
    return int32(work.step, far)


def block_strides(operands: Mapping[str, Operand]) -> dict[str, int]:
    """YC and, where there is a residual, ZC: from one block of channels to the next."""
    places = {letter: operands[letter].place for letter in "yz" if letter in operands}
    return {f"{n.upper()}C": p.layout.strides(p.shape)[1] for n, p in places.items()}


def int32(step: Step, table: np.ndarray) -> np.ndarray:
    """A table of offsets as int32. Raises PlanError, naming the step, where they do not fit."""
    if table.size and table.max() >= 2**31:
        raise PlanError(f"{step.name}: the value is too large for 32-bit offsets")
    return table.astype(np.int32)
