"""How a convolution is cut into strips of vectors of filters, and what each cut should cost.

The model counts what the inner loop of `ConvKernel` does per kept column: multiply-adds over the
FMA pipes, loads over the load ports, and the latency of one dependent multiply-add, whichever is
largest; plus the cost of starting and storing a tile, and what the first of them waits for weights.
Other than that, caches are not modelled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import product
from math import ceil, prod

import numpy as np

from jit.decide.problem import Candidate, ConvProblem
from jit.target import Target
from refimpl.plan import Schedule

Part = tuple[int, int, int]
"""(begin, end, tile) of a part of an axis."""
Strips = Sequence[tuple[float, int]]
"""(columns stored, rows) of every strip."""

_FROM_L2, _FROM_BEYOND = 32.0, 10.0  # bytes a cycle
_QUEUED = 1.1  # loads beside multiply-adds do not fill every slot (measured on AVX-512)
_HIDDEN = 0.9  # of the time in which weights come, what is computed meanwhile
_TILE_OVERHEAD = 20.0  # cycles to set up a tile's addresses and loop
_REBLOCKED = 2  # candidates that are listed with other blocks of channels besides


def heights(filters: int, schedule_rows: int, lanes: int) -> list[int]:
    """Rows of every strip: whole strips, then one of whole vectors for what is left."""
    whole, rest = divmod(filters, schedule_rows)
    tail = [ceil(rest / lanes) * lanes] if rest else []
    return [schedule_rows] * whole + tail


def last_strip_fits(filters: int, rows: int, lanes: int, block: int) -> bool:
    """False where the strip of what is left begins inside a block of channels and leaves it."""
    begin = filters // rows * rows % block
    return begin == 0 or begin + ceil(filters % rows / lanes) * lanes <= block


def cuts(extent: int, tile: int) -> list[Part]:
    """(begin, end, tile) of the parts of an axis: whole tiles, then the rest as one tile."""
    whole = extent // tile * tile
    parts = [(0, whole, tile)] if whole else []
    return [*parts, (whole, extent, extent - whole)] if extent > whole else parts


def regions(spatial: tuple[int, ...], tile: tuple[int, int]) -> Iterator[tuple[Part, Part]]:
    """The parts of height by the parts of width; axes that are not there have one position."""
    rows = cuts(spatial[-2], tile[0]) if len(spatial) > 1 else [(0, 1, 1)]
    line = cuts(spatial[-1], tile[1]) if spatial else [(0, 1, 1)]
    return product(rows, line)


def strip_schedules(problem: ConvProblem, target: Target) -> Iterator[Candidate]:
    """Strips in vectors of filters, each of the best tile, and the best few in other blocks.

    How many channels to take at a time is a matter of caches, which the model hardly knows.
    """
    found = sorted(_strip_schedules(problem, target), key=lambda candidate: candidate.cycles)
    yield from found
    for candidate in found[:_REBLOCKED]:
        yield from _other_blocks(problem, candidate)


def _strip_schedules(problem: ConvProblem, target: Target) -> Iterator[Candidate]:
    run = columns_per_index(problem, target)
    for rows, lanes in _strip_shapes(target, problem):
        strips = strip_columns(problem.columns, heights(problem.stored.shape[0], rows, lanes))
        found = _best_tile(problem, target, rows, lanes, run, strips)
        if found is not None:
            cycles, schedule = found
            yield Candidate(f"{rows}x{prod(schedule.tile)} v{lanes}", cycles, schedule)


def _other_blocks(problem: ConvProblem, candidate: Candidate) -> Iterator[Candidate]:
    """The candidate with half and with twice as many channels at a time."""
    channels, block = problem.stored.shape[1], candidate.schedule.channel_block
    unit = max(problem.x_block, 4)
    for other in (block // 2 // unit * unit, min(2 * block, channels)):
        if unit <= other != block:
            schedule = replace(candidate.schedule, channel_block=other)
            name = f"{candidate.name} by {other} channels"
            yield Candidate(name, candidate.cycles, schedule)


@lru_cache(maxsize=4096)
def product_schedule(
    filters: int, channels: int, positions: int, rate: float, target: Target
) -> tuple[float, Schedule]:
    """(predicted cycles, schedule) of a dense product over positions in one row, its vectors of
    filters as wide as the target's.

    Every launch reads the weight at `rate` bytes in a cycle; positions that tiles do not divide
    take a second one.
    """
    run = 4 if target.arch != "x86_64" and target.lanes == 4 and channels % 4 == 0 else 1
    strips = {
        rows: [(channels, height) for height in heights(filters, rows, target.lanes)]
        for rows in product_rows(filters, target)
    }
    return cut_product(strips, channels, positions, rate, run, target)


def product_rows(filters: int, target: Target) -> list[int]:
    """The heights of strips that a product may be cut into: up to 8 of the target's vectors."""
    return [n * target.lanes for n in range(1, min(8, ceil(filters / target.lanes)) + 1)]


def cut_product(
    strips: Mapping[int, Strips],
    channels: int,
    positions: int,
    rate: float,
    run: int,
    target: Target,
) -> tuple[float, Schedule]:
    """(predicted cycles, schedule) of a product over positions in one row.

    Args:
        strips: the product's, or the average of several products', by the height of whole ones.
        channels: of x, of which a strip's columns are some.
        positions: in the row.
        rate: bytes of the weight read in a cycle.
        run: columns per index.
        target: a CPU.
    """
    found = []
    problem = ConvProblem(np.ones((1, channels, 1), bool), (1, positions), target.lanes)
    for rows, cut in strips.items():
        read = 4 * sum(columns * height for columns, height in cut) / rate
        for tile in _row_tiles(positions, _positions(target, rows // target.lanes, run > 1)):
            cycles = len(cuts(positions, tile[1])) * read + sum(
                _strip_cycles(problem, target, tile, columns, height // target.lanes, run, 0.0)
                for columns, height in cut
            )
            block = _channel_block(problem, target, rows, tile if tile[1] == positions else (1, 1))
            if max(columns for columns, _ in cut) < channels:
                block = channels  # few columns stay close by themselves
            found.append((cycles, Schedule(rows, target.lanes, tile, run, block, run > 1)))
    return min(found, key=lambda pair: pair[0])


def _row_tiles(positions: int, most: int) -> set[tuple[int, int]]:
    """Tiles of a row of positions: the widest even share, and the widest that divides it."""
    if most < 1:
        return set()
    divisor = max(width for width in range(1, most + 1) if positions % width == 0)
    return {(1, divisor), (1, ceil(positions / ceil(positions / most)))}


def _strip_shapes(target: Target, problem: ConvProblem) -> Iterator[tuple[int, int]]:
    """(rows, lanes): up to 8 vectors of filters of any power-of-two width."""
    lanes = target.lanes
    while lanes >= 1:
        for vectors in (1, 2, 3, 4, 6, 8):
            # A strip taller than the layer's whole vectors only adds padding rows.
            filters, rows = problem.stored.shape[0], lanes * vectors
            useful = vectors == 1 or rows - lanes < filters
            if useful and last_strip_fits(filters, rows, lanes, target.lanes):
                yield rows, lanes
        lanes //= 2


def strip_columns(keep: np.ndarray, strips: Sequence[int]) -> list[tuple[int, int]]:
    """(columns stored, rows) of each strip: the union over its rows."""
    result, row = [], 0
    for height in strips:
        used = keep[row : row + height]
        result.append((int(used.any(axis=0).sum()) if used.size else 0, height))
        row += height
    return result


def columns_per_index(problem: ConvProblem, target: Target) -> int:
    """Columns per index: 4 where the lanes of one vector of input channels can feed 4, else 1."""
    if target.arch == "x86_64" or problem.x_block != 4:  # x86 has no multiply by one lane
        return 1
    f, c, *kernel = problem.stored.shape
    if c % 4:
        return 1
    by_channel = problem.stored.reshape(f, c // 4, 4, prod(kernel))
    return 4 if bool((by_channel.any(axis=2) == by_channel.all(axis=2)).all()) else 1


def _best_tile(
    problem: ConvProblem,
    target: Target,
    rows: int,
    lanes: int,
    run: int,
    strips: Sequence[tuple[int, int]],
) -> tuple[float, Schedule] | None:
    vectors, filters_first = rows // lanes, run > 1
    most = _positions(target, vectors, filters_first)
    if most < 1:
        return None
    best: tuple[float, Schedule] | None = None
    alike = Counter(strips)
    size = problem.weight_bytes
    rate = _rate(size * sum(columns * height for columns, height in strips), target)
    for tile in _tiles(problem.output[1:], most):
        cycles = sum(
            count
            * _strip_cycles(
                problem, target, tile, columns, height // lanes, run, size * columns * height / rate
            )
            for (columns, height), count in alike.items()
        )
        if best is None or cycles < best[0]:
            block = _channel_block(problem, target, rows, tile)
            best = (cycles, Schedule(rows, lanes, tile, run, block, filters_first))
    return best


def _positions(target: Target, vectors: int, filters_first: bool) -> int:
    """The most positions whose sums and operands fit in registers: nothing is ever spilled."""
    if filters_first:  # sums, one input vector per position, two weights in flight
        return (target.registers - 2) // (vectors + 1)
    spare = 1 if target.has("fma") else 2  # mul needs somewhere to put its product
    return (target.registers - vectors - spare) // vectors


def _tiles(spatial: tuple[int, ...], most: int) -> Iterator[tuple[int, int]]:
    if not spatial:
        yield (1, 1)
        return
    width = spatial[-1]
    for tw in range(1, min(width, most) + 1):
        yield (1, tw)
    if len(spatial) > 1 and width <= most:
        for th in range(2, min(spatial[-2], most // width) + 1):
            yield (th, width)


def _strip_cycles(
    problem: ConvProblem,
    target: Target,
    tile: tuple[int, int],
    columns: float,
    vectors: int,
    run: int,
    read: float,
) -> float:
    """Cycles of one strip over all positions, of which a region's first tile waits for weights.

    `read` are the cycles in which they come; the tiles after it find them in cache.
    """
    spatial = problem.output[1:]
    images = problem.output[0] * prod(spatial[:-2])
    total = 0.0
    for (h0, h1, th), (w0, w1, tw) in regions(spatial, tile):
        tiles = images * ((h1 - h0) // th) * ((w1 - w0) // tw)
        positions = th * tw
        column = column_cycles(target, vectors, positions, run)
        one = columns * column * problem.useful(tile[0])
        total += tiles * (one + 2 * vectors * positions + _TILE_OVERHEAD)
        total += max(0.0, read - _HIDDEN * one)
    return total


def streamed(cycles: float, nbytes: int, target: Target) -> float:
    """The cycles, or those in which one core reads so many bytes of weights, which may be more.

    The two overlap, but not wholly.
    """
    read = nbytes / _rate(nbytes, target)
    return max(cycles, read + (1 - _HIDDEN) * cycles)


def _rate(nbytes: int, target: Target) -> float:
    """Bytes a cycle at which so many bytes of weights come."""
    return _FROM_L2 if nbytes <= target.l2_bytes else _FROM_BEYOND


def column_cycles(target: Target, vectors: int, positions: int, run: int) -> float:
    """Cycles per kept column of a tile of `vectors` x `positions` sums."""
    arithmetic = vectors * positions / target.pipes
    fetched = positions / run + vectors + 1 / run
    return max(arithmetic, _QUEUED * fetched / target.loads, target.latency) + 0.5 / run


def _channel_block(problem: ConvProblem, target: Target, rows: int, tile: tuple[int, int]) -> int:
    """Channels whose weights for one strip stay in L2 while all positions of the strip pass.

    The channels are divided evenly; at most 128 at a time, so that the input rows that a tile
    shares with its neighbours stay close as well (measured on 256 and 512 channels).
    """
    if target.grid:  # work items do not wait for each other: each sums over all channels
        return problem.stored.shape[1]
    _, channels, *kernel = problem.stored.shape
    if problem.output[0] * prod(problem.output[1:]) < 4 * prod(tile):
        return channels
    budget = min(target.l2_bytes // 8, 256 * 1024)
    unit = max(problem.x_block, 4)
    fitting = min(128, int(budget / (4 * rows * prod(kernel) * problem.density)))
    blocks = ceil(channels / max(unit, fitting // unit * unit))
    return min(channels, ceil(channels / blocks / unit) * unit)
