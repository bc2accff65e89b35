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
from jit.launches.plain import walk
from jit.launches.relayout import Move, moved
from refimpl.plan import Place, PlanError, Step
from refimpl.plan.panels import Panels


def planar_copy(
    to: Lowering, work: Contraction, panels: Panels, planar: Operand
) -> Iterator[Launch]:
    """x copied, phase by phase along width; then zeros for the vectors that reach past the end."""
    step, x = work.step, work.x
    if panels.stride:
        sizes = conv_sizes(to, work)
        begin = x.skip(corner(x.place, work.attribute("padding"), sizes, (0, 0, 0)))
        yield from _phases(to, step, panels, begin, planar)
    else:
        (channels, images), xs = panels.planar, x.place.layout.strides(x.place.shape)
        strides = (0, xs[1], xs[0]), (0, images, 1)
        move = Move((1, channels, images), *strides, x.place.layout.block, 1)
        yield from moved(to, step, x, planar, move)
    slack = planar.skip(prod(panels.planar))
    yield from walk(to, step, "fill", (panels.slack,), {"y": slack}, {"y": (1,)})


def _phases(
    to: Lowering, step: Step, panels: Panels, source: Operand, planar: Operand
) -> Iterator[Launch]:
    """All channels of x, every stride-th element along width together."""
    block, xs = source.place.layout.block, source.place.layout.strides(source.place.shape)
    images, channels, *outer, phases, width = panels.planar
    pitch = phases * width
    plane = prod(outer) * pitch
    rows = tuple(prod(outer[i + 1 :]) * pitch for i in range(len(outer)))
    ys = (channels * plane, plane, *rows, 1)
    for phase in range(phases):
        there = max(-(-(panels.reach[-1] - phase) // phases), 0)
        x, y = source.skip(phase * block), planar.skip(phase * width)
        if there:
            taken = (*xs[:-1], phases * xs[-1])
            move = Move((images, channels, *outer, there), taken, ys, block, 1)
            yield from moved(to, step, x, y, move)
        if there < width:  # no position needs what a vector reads there, but it must be something
            box = (images, channels, *outer, width - there)
            yield from walk(to, step, "fill", box, {"y": y.skip(there)}, {"y": ys})


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
