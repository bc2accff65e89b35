"""What the packed weight of a step must fulfil for its kernel to stay inside memory."""

from __future__ import annotations

from itertools import groupby
from math import prod

import numpy as np

from refimpl.plan.form import (
    WIDEST,
    Place,
    Plan,
    PlanError,
    Schedule,
    Step,
    output_positions,
    require,
)
from refimpl.plan.panels import panels_of
from refimpl.plan.turned import own_scratch, turned_places
from refimpl.storage import FKW, StorageError
from refimpl.tiles import Tile, Tiles, unpack

STORAGES = ("csr", "fkw")
"""Formats of `refimpl.storage` that a convolution may be computed from as they are."""
_MOST_SUMS = 256  # accumulators of a tile: no machine has as many registers
_MOST_TILES = 1024  # tiles of a panel


def check_packed(step: Step, x: Place, y: Place, plan: Plan) -> None:
    """Raise PlanError unless a contraction of x to y can run as it is packed and scheduled.

    Columns are runs inside a block of x.  Strips are consecutive filters in whole vectors, or,
    where vectors hold positions, equally many filters in any order.
    """
    schedule, weight = _checked_schedule(step), plan.weights[step.weight]
    bias = plan.constants.get(step.bias)
    fits = bias is not None and bias.array.shape == weight.shape[:1]
    require(fits, step.name, f"its bias is not one value for each of {weight.shape[0]} filters")
    _check_types(step, weight)
    if schedule.panel or schedule.storage:
        _check_positions(step, x, plan)
        return
    if schedule.strip:
        _check_tiles(step, x, y, plan)
        return
    block = y.layout.block
    has_own = step.op == "recurrence" or step.winograd is not None
    require(has_own or not step.scratch, step.name, "it needs no scratch")
    require(
        block % schedule.lanes == 0, step.name, f"vectors of {schedule.lanes} in blocks of {block}"
    )
    row = 0
    for strip in weight.strips:
        require(len(strip) == 1, step.name, f"a strip holds {len(strip)} tiles, not one")
        row += _check_strip_rows(step.name, schedule, strip[0], row, weight.shape[0])
        _check_columns(step.name, schedule, strip[0], weight.shape, x.layout.block)
    require(
        row == -(-weight.shape[0] // schedule.lanes) * schedule.lanes,
        step.name,
        f"its strips hold {row} rows, it has {weight.shape[0]} filters",
    )
    _check_blocks(step.name, plan, step, block)


def _check_types(step: Step, weight: Tiles) -> None:
    """All values of a type that the step's kernels read."""
    kinds = {tile.values.dtype.name for tile in weight}
    s = step.schedule
    panel = s is not None and bool(s.panel or s.storage)
    known = {"float32"} if panel or step.winograd is not None else {"float32", "float16"}
    require(len(kinds) <= 1 and kinds <= known, step.name, f"weights of {sorted(kinds)}")


def _checked_schedule(step: Step) -> Schedule:
    s = step.schedule
    require(s is not None, step.name, "has no schedule")
    assert s is not None
    sizes = (s.rows, s.lanes, *s.tile, s.run, s.channel_block)
    sound = 1 <= min(sizes) <= max(sizes) < 2**31 and s.lanes <= WIDEST and s.run <= WIDEST
    sound = sound and (s.strip > 0 if s.turned else s.rows % s.grain == 0)
    sums = s.rows * prod(s.tile) // max(s.lanes, 1)
    require(sound and 0 <= s.panel <= _MOST_TILES, step.name, f"unsound {s}")
    require(sums <= _MOST_SUMS, step.name, f"unsound {s}")
    kind = sum(map(bool, (s.panel, s.strip, s.storage)))
    require(kind <= 1 and s.storage in ("", *STORAGES), step.name, f"unsound {s}")
    require(not (s.apart and (s.strip or s.storage)), step.name, f"unsound {s}")
    return s


def _check_positions(step: Step, x: Place, plan: Plan) -> None:
    """Strips hold every filter once, what fills the last one comes last; the scratch is theirs."""
    s, weight = _checked_schedule(step), plan.weights[step.weight]
    require(step.op == "conv", step.name, f"a {step.op} in vectors of positions")
    whole = s.tile[0] == 1 and s.tile[1] % s.lanes == 0 and s.run == 1
    require(whole, step.name, f"tiles of {s.tile} positions in vectors of {s.lanes}")
    for strip in weight.strips:
        require(len(strip) == 1, step.name, f"a strip holds {len(strip)} tiles, not one")
        require(strip[0].rows.size == s.rows, step.name, f"a strip is not of {s.rows} rows")
        _check_columns(step.name, s, strip[0], weight.shape, x.layout.block)
    rows = [strip[0].rows for strip in weight.strips]
    found, filters = np.concatenate(rows or [np.zeros(0, np.int32)]), weight.shape[0]
    each = np.array_equal(np.sort(found[:filters]), np.arange(filters))
    require(
        each and found.size - filters < s.rows and bool(np.all(found[filters:] == -1)),
        step.name,
        f"its strips do not hold each of {filters} filters once",
    )
    panels = panels_of(
        step, weight.shape, (x.shape[0], *output_positions(plan, step)), plan.threads
    )
    wanted = panels.places(step.name)
    places = [plan.places[name] for name in step.scratch]
    same = [(p.shape, p.layout) for p in places] == [(p.shape, p.layout) for p in wanted.values()]
    require(same, step.name, f"its scratch is not {list(wanted.values())}")
    if s.storage:
        require(s.rows == 1, step.name, f"{s.storage} holds filters one by one")
        _check_storage(step, plan, found)


def _check_storage(step: Step, plan: Plan, order: np.ndarray) -> None:
    """The format can hold the weight, and its filters are in the order that the format has."""
    s, tiles = _checked_schedule(step), plan.weights[step.weight]
    try:
        wanted = stored_order(s.storage, *unpack(tiles))
    except StorageError as error:
        raise PlanError(f"{step.name}: {error}") from error
    same = np.array_equal(order, wanted)
    require(same, step.name, f"its filters are not in the order of {s.storage}")


def _check_tiles(step: Step, x: Place, y: Place, plan: Plan) -> None:
    """A product without positions; every tile holds different filters of its strip, few enough,
    and different columns."""
    s, weight = _checked_schedule(step), plan.weights[step.weight]
    require(len(weight.shape) == 2, step.name, "several tiles in a strip, and it has positions")
    flat = len(x.shape) == len(y.shape) == 2 and s.tile[0] == s.run == 1
    require(flat, step.name, f"strips of several tiles, and tiles of {s.tile}, runs of {s.run}")
    _check_turned(step, plan)
    require(s.strip >= 1 and not s.panel, step.name, f"unsound {s}")
    strips = -(-weight.shape[0] // s.strip)
    require(len(weight.strips) == strips, step.name, f"its strips are not {strips}")
    for number, strip in enumerate(weight.strips):
        first, end = number * s.strip, min((number + 1) * s.strip, weight.shape[0])
        for tile in strip:
            _check_tile_rows(step.name, s, tile, first, end)
            _check_columns(step.name, s, tile, weight.shape, x.layout.block)


def _check_turned(step: Step, plan: Plan) -> None:
    """Beside a recurrence's own, the scratch is what turned rows need."""
    s = _checked_schedule(step)
    require(step.op == "recurrence" or not own_scratch(step), step.name, "it needs no scratch")
    wanted = turned_places(step.name, s, plan.weights[step.weight].shape)
    places = [plan.places[name] for name in step.scratch[len(own_scratch(step)) :]]
    same = [(p.shape, p.layout) for p in places] == [(p.shape, p.layout) for p in wanted.values()]
    require(same, step.name, f"its scratch is not {list(wanted.values())}")
    whole = not s.turned or s.tile[1] % s.lanes == 0
    require(whole, step.name, f"panels of {s.tile[1]} rows in vectors of {s.lanes}")


def _check_tile_rows(name: str, s: Schedule, tile: Tile, first: int, end: int) -> None:
    height = tile.rows.size
    fits = 1 <= height <= s.rows and (s.turned or height % min(height, s.lanes) == 0)
    require(fits, name, f"a tile of {height} filters, in vectors of {s.lanes}, at most {s.rows}")
    inside = first <= int(tile.rows.min()) <= int(tile.rows.max()) < end
    different = np.unique(tile.rows).size == height
    require(
        inside and different, name, f"a tile's filters are not different ones of {first}..{end}"
    )


def _check_strip_rows(name: str, s: Schedule, tile: Tile, row: int, filters: int) -> int:
    height = tile.rows.size
    ids = np.arange(row, row + height)
    fits = 1 <= height <= s.rows and height % s.lanes == 0
    require(
        fits and np.array_equal(tile.rows, np.where(ids < filters, ids, -1)),
        name,
        f"the strip at row {row} is not one of consecutive filters in vectors of {s.lanes}",
    )
    return height


def _check_columns(name: str, s: Schedule, tile: Tile, shape: tuple[int, ...], block: int) -> None:
    columns = tile.columns.astype(np.int64)
    if columns.size == 0:
        return
    inside = columns.min() >= 0 and columns.max() < prod(shape[1:])
    require(
        inside and np.unique(columns).size == columns.size,
        name,
        "a column is out of range or stored twice",
    )
    kernel = prod(shape[2:])
    require(columns.size % s.run == 0, name, f"its columns are not runs of {s.run}")
    runs = columns.reshape(-1, s.run)
    channel = runs[:, 0] // kernel
    steady = np.array_equal(runs, runs[:, :1] + kernel * np.arange(s.run))
    whole = s.run == 1 or (steady and bool(np.all(channel % block + s.run <= block)))
    require(whole, name, f"its columns are not runs of {s.run} neighbouring channels")
    require(
        bool(np.all(np.diff(channel // s.channel_block) >= 0)),
        name,
        "its columns are not ordered by block of channels",
    )


def _check_blocks(name: str, plan: Plan, step: Step, block: int) -> None:
    """A vector of filters lies in one block of channels, however the strips before it end."""
    row = 0
    heights = [strip[0].rows.size for strip in plan.weights[step.weight].strips]
    for height, group in groupby(heights):
        rows = height * len(list(group))
        # Strips of one height are one kernel's work; it counts channels from where they begin.
        inside = row % block == 0 or row % block + rows <= block
        require(inside, name, f"strips from filter {row} straddle blocks of {block} channels")
        row += rows


def stored_order(storage: str, weight: np.ndarray, stored: np.ndarray) -> np.ndarray:
    """The filters of a weight (F, C, *K) in the order in which a format of `STORAGES` holds them.

    Args:
        storage: the format.
        weight: float32.
        stored: bool, of the same shape; False where the weight is absent.

    Raises:
        StorageError: the format cannot hold the weight.
    """
    return FKW.pack(weight, stored).reorder if storage == "fkw" else np.arange(len(weight))
