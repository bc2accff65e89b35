"""The weight of a convolution by Winograd, as its products read it: for every point of a tile, for
every strip of filters, the channels that it keeps there.

A weight of taps is transformed here and keeps every channel at every point; one of points is kept
as it was packed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from refimpl.graph import Shape
from refimpl.plan import Schedule
from refimpl.tiles import Tile
from refimpl.winograd import Transform, transform_weight


@dataclass(frozen=True)
class StripPoints:
    """One strip: point and channel of each of its columns, int64 (n), by point, then channel."""

    point: np.ndarray
    channel: np.ndarray
    values: np.ndarray
    """float32 (n, rows)."""


@dataclass(frozen=True)
class PointTables:
    """The columns of all strips of one height, by point, then strip, then channel.

    Attributes:
        values: float32 (columns, rows).
        channel: int64 (runs), the first channel of each.
        point: int64 (runs), the point of each.
        first, last: int32 (points * strips * blocks of channels), the runs of each such block.
    """

    values: np.ndarray
    channel: np.ndarray
    point: np.ndarray
    first: np.ndarray
    last: np.ndarray


def points_of(tile: Tile, weight: Shape) -> StripPoints:
    """A strip of a weight (F, C, *T) of points."""
    channel, point = np.divmod(tile.columns.astype(np.int64), prod(weight[2:]))
    order = np.lexsort((channel, point))
    return StripPoints(point[order], channel[order], tile.values[order])


def transformed(tile: Tile, weight: Shape, steps: Sequence[Transform]) -> StripPoints:
    """A strip of a weight (F, C, *K) of taps, transformed in float64 and rounded once."""
    taps, rows = np.zeros((tile.rows.size, prod(weight[1:])), np.float32), tile.rows.size
    taps[:, tile.columns] = tile.values.T
    made = transform_weight(taps.reshape(rows, *weight[1:]), steps)
    made = made.reshape(-1, rows, weight[1]).swapaxes(1, 2)
    point, channel = np.divmod(np.arange(made.shape[0] * weight[1]), weight[1])
    return StripPoints(point, channel, made.astype(np.float32).reshape(-1, rows))


def columns_held(tiles: Sequence[Tile], points: int) -> np.ndarray:
    """How many columns of every point each strip of a weight of points has: (points, strips)."""
    return np.stack([np.bincount(t.columns % points, minlength=points) for t in tiles], axis=1)


def point_tables(
    strips: Iterable[StripPoints], held: np.ndarray, rows: int, channels: int, schedule: Schedule
) -> PointTables:
    """The tables of strips of one height.

    Args:
        strips: one after another, since all at once may not fit in memory; their columns are
            whole runs of channels.
        held: integers (points, strips), the columns of each.
        rows: of every strip.
        channels: of the weight.
        schedule: its blocks and runs of channels.
    """
    run = schedule.run
    begin = (np.cumsum(held) - held.reshape(-1)).reshape(held.shape)
    values = np.zeros((int(held.sum()), rows), np.float32)
    channel = np.zeros(len(values), np.int64)
    for number, strip in enumerate(strips):
        before = np.cumsum(held[:, number]) - held[:, number]
        at = (begin[:, number] - before)[strip.point] + np.arange(strip.point.size)
        values[at], channel[at] = strip.values, strip.channel
    channel = channel[::run]
    where = np.repeat(np.arange(held.size), held.reshape(-1) // run)
    blocks = -(-channels // schedule.channel_block)
    block = where * blocks + channel // schedule.channel_block
    counts = np.bincount(block, minlength=held.size * blocks)
    last = np.cumsum(counts)
    first, last = (last - counts).astype(np.int32), last.astype(np.int32)
    return PointTables(values, channel, where // held.shape[1], first, last)
