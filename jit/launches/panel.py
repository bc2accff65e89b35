"""Launches of contractions over packed panels: x made planar, then one kernel."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np

from jit.kernels.panel import PanelKernel, turnable
from jit.launches.contraction import Contraction
from jit.launches.form import Launch, Lowering, Operand, launch
from jit.launches.planar import (
    block_strides,
    column_table,
    int32,
    planar_copy,
    positions_tables,
)
from refimpl.plan.panels import Panels, panels_of


def panel_conv(to: Lowering, work: Contraction) -> Iterator[Launch]:
    """The launches of a convolution or linear layer over packed panels."""
    step, x, y, residual = work.step, work.x, work.y, work.residual
    weight = to.plan.weights[step.weight].shape
    panels = panels_of(step, weight, (x.place.shape[0], *work.spatial), to.plan.threads)
    planar, panel, sums = (to.operand(name) for name in step.scratch)
    yield from planar_copy(to, work, panels, planar)
    tables = positions_tables(work, panels) | _strips(to, work, panels)
    tables["column"] = column_table(work, panels)
    at_once = pieces(tables["corner"], panels.positions, work.schedule.lanes)
    tables |= dict(zip(("start", "to"), at_once, strict=True))
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
        s.apart,
        _side_by_side(tables["filter"], s.rows, y, residual),
    )
    operands = {"x": planar, "y": y, "panel": panel, "sums": sums}
    if residual:
        operands["z"] = residual
    sizes = _sizes(panels, tables, operands)
    refs = {name: to.constants.add(table) for name, table in tables.items()}
    yield launch(step, kernel, operands, sizes, refs)


def _side_by_side(filters: np.ndarray, rows: int, *sides: Operand | None) -> bool:
    """Whether the rows of every strip are neighbours in y, and in what is added."""
    strips = filters.reshape(-1, rows)
    follow = bool((strips == strips[:, :1] + np.arange(rows)).all())
    blocks = [side.place.layout.block for side in sides if side]
    return (
        follow
        and turnable(rows)
        and all(block % rows == 0 and not (strips[:, 0] % rows).any() for block in blocks)
    )


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
    return sizes | block_strides(operands)


def pieces(corner: np.ndarray, positions: int, lanes: int) -> tuple[np.ndarray, np.ndarray]:
    """How tiles are packed: vectors of `lanes` elements, each from where a position reads.

    A piece serves the positions after its own that read next to it; what it brings beyond them
    is overwritten by the pieces after it.

    Args:
        corner: integers (Q,), where every position reads.
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
        "offset": int32(work.step, np.concatenate(offset)),
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
