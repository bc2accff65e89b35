"""Launches of contractions whose vectors hold positions: x made planar, then one kernel.

Planar means that what neighbouring positions read for one column lies side by side: a channel's
rows one after another and, where the convolution strides along width, every stride-th element of
a row together.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np

from jit.kernels.panel import PanelKernel
from jit.launches.axes import corner
from jit.launches.contraction import Contraction, conv_sizes
from jit.launches.form import Launch, Lowering, Operand, launch
from jit.launches.plain import copy, walk
from refimpl.plan import Place, PlanError, Step
from refimpl.plan.panels import Panels, panels_of


def panel_conv(to: Lowering, work: Contraction) -> Iterator[Launch]:
    """The launches of a convolution or linear layer over packed panels."""
    step, x, y, residual = work.step, work.x, work.y, work.residual
    weight = to.plan.weights[step.weight].shape
    panels = panels_of(step, weight, (x.place.shape[0], *work.spatial), to.plan.threads)
    planar, panel, sums = (to.operand(name) for name in step.scratch)
    yield from _planar(to, work, panels, planar)
    tables = _positions(work, panels) | _columns(work, panels) | _strips(to, work, panels)
    s = work.schedule
    kernel = PanelKernel(
        s.rows,
        s.lanes,
        panels.positions // s.lanes,
        tables["to"].shape[1],
        y.place.layout.block,
        step.activation,
        residual is not None,
        to.target.has("fma"),
    )
    operands = {"x": planar, "y": y, "panel": panel, "sums": sums}
    if residual:
        operands["z"] = residual
    sizes = _sizes(panels, tables, operands)
    refs = {name: to.constants.add(table) for name, table in tables.items()}
    yield launch(step, kernel, operands, sizes, refs)


def _sizes(
    panels: Panels, tables: dict[str, np.ndarray], operands: dict[str, Operand]
) -> dict[str, int]:
    s = panels.schedule
    sizes = {
        "Q": prod(panels.output),
        "F": panels.weight[0],
        "K": prod(panels.weight[1:]),
        "S": panels.rows // s.rows,
        "NB": tables["block"].size - 1,
        "TILES": panels.tiles,
        "T": s.panel,
        "G": -(-panels.tiles // s.panel),
        "PARTS": panels.threads,
        "U": max(tables["used"].size, 1),
        "ROOM": panels.room,
        "J": tables["offset"].size,
        "VALUESL": tables["values"].size,
    }
    for letter in "yz":
        if letter in operands:
            place = operands[letter].place
            sizes[f"{letter.upper()}C"] = place.layout.strides(place.shape)[1]
    return sizes


def _planar(to: Lowering, work: Contraction, panels: Panels, planar: Operand) -> Iterator[Launch]:
    """x copied, phase by phase along width; then zeros for the vector that reaches past the end."""
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
    yield from walk(to, step, "fill", (panels.schedule.lanes,), {"y": slack}, {"y": (1,)})


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


def _positions(work: Contraction, panels: Panels) -> dict[str, np.ndarray]:
    """Tables by position: where it reads and writes; and the pieces that make a tile's vectors."""
    at = np.indices(panels.output).reshape(len(panels.output), -1).astype(np.int64)
    corner_of = _planar_offset(panels, at)
    tables = {"corner": _int32(work.step, corner_of)}
    tables["place"] = _int32(work.step, _offsets(work.y.place, at))
    if work.residual:
        tables["other"] = _int32(work.step, _offsets(work.residual.place, at))
    start, to_ = pieces(corner_of, panels.positions, panels.schedule.lanes)
    return tables | {"start": start, "to": to_}


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


def pieces(corner: np.ndarray, positions: int, lanes: int) -> tuple[np.ndarray, np.ndarray]:
    """How tiles are packed: vectors of `lanes` elements, each from where a position reads.

    A piece serves the positions after its own that read next to it; what it brings beyond them
    is overwritten by the pieces after it.

    Args:
        corner: int64 (Q,), where every position reads.
        positions: of a tile, a multiple of `lanes`.
        lanes: elements of a piece.

    Returns:
        int32 (tiles, pieces): the position that every piece begins with, its place in the tile.
        Every tile has as many; it repeats its last one.
    """
    tiles = [_tile_pieces(corner, at, positions, lanes) for at in range(0, corner.size, positions)]
    most = max(map(len, tiles))
    table = np.array([tile + tile[-1:] * (most - len(tile)) for tile in tiles], np.int32)
    return table[..., 0], table[..., 1]


def _tile_pieces(
    corner: np.ndarray, begin: int, positions: int, lanes: int
) -> list[tuple[int, int]]:
    inside = corner[begin : begin + positions]
    runs = np.flatnonzero(np.diff(inside, prepend=inside[0] - 2) != 1)
    ends = [*runs[1:], inside.size]
    places = [(p, p) for run, end in zip(runs, ends, strict=True) for p in range(run, end, lanes)]
    places += [(0, p) for p in range(inside.size, positions, lanes)]  # positions beyond the last
    return [(begin + source, to) for source, to in places]


def _columns(work: Contraction, panels: Panels) -> dict[str, np.ndarray]:
    """column: how far from its corner every column (C*K) is read in the planar copy."""
    channel, *taps = np.indices(panels.weight[1:]).reshape(len(panels.weight) - 1, -1)
    _, *inner = panels.planar
    if not panels.stride:
        return {"column": _int32(work.step, channel.astype(np.int64) * inner[0])}
    *outer, phases, width = inner[1:]
    pitch = phases * width
    far = channel.astype(np.int64) * prod(outer) * pitch
    for axis, tap in enumerate(taps[:-1]):
        far += tap * panels.dilation[axis] * prod(outer[axis + 1 :]) * pitch
    along = taps[-1] * panels.dilation[-1]
    far += along % phases * width + along // phases
    return {"column": _int32(work.step, far)}


def _strips(to: Lowering, work: Contraction, panels: Panels) -> dict[str, np.ndarray]:
    """values and bias by row; used: the columns that any strip keeps, by block; offset, first:
    every strip's rows of the panel, by block; filter: of every row."""
    tiles = [strip[0] for strip in to.plan.weights[work.step.weight].strips]
    taps, block = prod(panels.weight[2:]), panels.schedule.channel_block
    blocks = -(-panels.weight[1] // block)
    used = _in_order([tile.columns for tile in tiles], panels)
    by_block = np.searchsorted(used // taps // block, np.arange(blocks + 1)).astype(np.int64)
    row = np.zeros(prod(panels.weight[1:]), np.int64)
    row[used] = np.arange(used.size) - by_block[used // taps // block]
    offset, first = [], [0]
    for tile in tiles:
        offset.append(row[tile.columns] * panels.positions)
        counts = np.bincount(tile.columns // taps // block, minlength=blocks)
        first += list(first[-1] + np.cumsum(counts))
    rows = np.concatenate([_filled(tile.rows, tile.rows) for tile in tiles])
    return {
        "values": np.concatenate([_filled(tile.rows, tile.values).reshape(-1) for tile in tiles]),
        "bias": to.plan.constants[work.step.bias].array[rows],
        "filter": rows,
        "used": used.astype(np.int32),
        "block": by_block.astype(np.int32),
        "offset": _int32(work.step, np.concatenate(offset)),
        "first": np.array(first, np.int32),
    }


def _filled(rows: np.ndarray, each: np.ndarray) -> np.ndarray:
    """What each row (the last axis) has, padding rows being the first row once more."""
    return np.where(rows >= 0, each, each[..., :1])


def _in_order(columns: list[np.ndarray], panels: Panels) -> np.ndarray:
    """All columns of the lists once, by block of channels."""
    used = np.unique(np.concatenate(columns)).astype(np.int64)
    taps = prod(panels.weight[2:])
    channel, tap = np.divmod(used, taps)
    return used[np.lexsort((channel, tap, channel // panels.schedule.channel_block))]


def _int32(step: Step, table: np.ndarray) -> np.ndarray:
    if table.size and table.max() >= 2**31:
        raise PlanError(f"{step.name}: the value is too large for 32-bit offsets")
    return table.astype(np.int32)
