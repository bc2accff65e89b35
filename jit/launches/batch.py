"""Launches of products over turned rows, panel by panel so that one stays in cache: x turned,
tiles height by height, the sums turned back."""

from __future__ import annotations

from collections.abc import Iterator

from jit.decide.blocks import by_lane
from jit.kernels.batch import BatchKernel
from jit.launches.block import bias_of, finished, of_heights, tile_tables
from jit.launches.contraction import Contraction, stored_floats
from jit.launches.form import Launch, Lowering, Operand, launch
from jit.launches.plain import row_major, walk
from jit.launches.turn import turned


def batch_product(to: Lowering, work: Contraction) -> Iterator[Launch]:
    """Of every panel t = x turned, s = 0, s += tiles of one height after those of another,
    y = s turned + bias; at last y = act(y + residual)."""
    t, s = (to.operand(name) for name in work.step.scratch[-2:])
    tiles = list(_tiles(to, work, t, s))
    bias = bias_of(to, work)
    (channels, width), (filters, _) = t.place.shape, s.place.shape
    batch, xn, yn = work.x.place.shape[0], _pitch(work.x), _pitch(work.y)
    for begin in range(0, batch, width):
        rows = min(width, batch - begin)
        if rows < width:  # no row of y needs these, but they must be something
            rest = (channels, width - rows)
            yield from walk(to, work.step, "fill", rest, {"y": t.skip(rows)}, {"y": (width, 1)})
        x, y = work.x.skip(begin * xn), work.y.skip(begin * yn)
        yield from turned(to, work.step, (rows, channels), (x, xn), (t, width))
        steps = {"y": row_major(s.place.shape)}
        yield from walk(to, work.step, "fill", s.place.shape, {"y": s}, steps)
        yield from tiles
        yield from turned(to, work.step, (filters, rows), (s, width), (y, yn), bias)
    yield from finished(to, work)


def _tiles(to: Lowering, work: Contraction, t: Operand, s: Operand) -> Iterator[Launch]:
    """The products of one panel."""
    (channels, width), (filters, _) = t.place.shape, s.place.shape
    lanes, fused = work.schedule.lanes, to.target.has("fma")
    floats = stored_floats(to.plan.weights[work.step.weight])
    one_by_one = by_lane(to.target) or floats != "f32"  # single weights are not widened
    for height, strips in of_heights(to.plan.weights[work.step.weight]):
        sizes, tables = tile_tables(to, strips)
        kernel = BatchKernel(height, width // lanes, lanes, one_by_one, fused, floats)
        given = {**sizes, "F": filters, "C": channels}
        yield launch(work.step, kernel, {"t": t, "y": s}, given, tables)


def _pitch(operand: Operand) -> int:
    return operand.place.layout.strides(operand.place.shape)[0]
