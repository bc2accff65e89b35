"""Packing a weight as a schedule's kernels take it."""

from __future__ import annotations

import numpy as np

from jit.decide.blocks import packed
from jit.decide.schedule import heights
from refimpl.plan import Schedule
from refimpl.tiles import Tiles, pack


def pack_as(
    schedule: Schedule, weight: np.ndarray, stored: np.ndarray, order: np.ndarray | None = None
) -> Tiles:
    """The weight (F, C, *K), float32, in the strips of the schedule.

    Args:
        schedule: how the step is cut.
        weight: 0 where it is not stored.
        stored: bool, of the weight's shape.
        order: of the filters, where strips may hold them in any; None is as they come.
    """
    if schedule.strip:
        return packed(weight, stored, schedule)
    strips = heights(weight.shape[0], schedule.rows, schedule.grain)
    return pack(weight, stored, strips, schedule.channel_block, order)
