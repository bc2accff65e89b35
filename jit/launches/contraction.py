"""Launches of convolutions, linear layers and the products of recurrences, over packed weights.

One launch for every region: strips of one height, by ragged edges of positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter

import numpy as np

from jit.decide.schedule import regions
from jit.decide.taps import Axis, Runs, kinds_of_tiles, outer_axes, row_of_runs
from jit.index import evaluator
from jit.kernels.conv import ConvKernel, naive
from jit.launches.axes import AXES, corner, row_offset, stride_params
from jit.launches.form import Launch, Lowering, Operand, Ref, launch
from jit.program import Floats
from jit.stages.compact import column_offset
from refimpl.graph import Shape
from refimpl.plan import PlanError, Schedule, Step
from refimpl.tiles import Tile, Tiles


@dataclass(frozen=True)
class Contraction:
    """x times the packed weight of a step, plus its bias, into y.

    `residual` is added and `step.activation` applied, unless the step is a recurrence, whose gates
    come after.
    """

    step: Step
    x: Operand
    y: Operand
    residual: Operand | None
    spatial: Shape

    @property
    def schedule(self) -> Schedule:
        """How it is cut."""
        if self.step.schedule is None:
            raise PlanError(f"{self.step.name}: has no schedule")
        return self.step.schedule

    def axes(self, shape: Shape, values: np.ndarray) -> list[Axis]:
        """The axes but the last, along which a kernel of that shape meets padding.

        Beside a weight that is infinite or NaN even padding counts: zero times it is NaN.
        """
        given = dict(self.step.attributes)
        found = outer_axes(given, self.x.place.shape, shape, self.spatial)
        if np.isfinite(values).all():
            return found
        return [replace(a, inputs=a.outputs * a.stride + a.taps * a.dilation, before=0)
                for a in found]  # fmt: skip

    def attribute(self, name: str) -> tuple:
        """stride, padding or dilation; nothing for a product without positions."""
        return dict(self.step.attributes).get(name, ())


def contract(to: Lowering, work: Contraction) -> Iterator[Launch]:
    """The launches of any contraction: strips of one height together, in their order."""
    strips = [strip[0] for strip in to.plan.weights[work.step.weight].strips]
    first_row = 0
    for height, group in groupby(strips, key=lambda tile: tile.rows.size):
        same = list(group)
        yield from rows(to, work, first_row, same)
        first_row += height * len(same)


def rows(to: Lowering, work: Contraction, row: int, strips: list[Tile]) -> Iterator[Launch]:
    """The launches of strips of one height, the first of which begins with filter `row`."""
    height = strips[0].rows.size
    shape = to.plan.weights[work.step.weight].shape
    sizes = {**conv_sizes(to, work), "F": height * len(strips)}
    kernel = conv_kernel(to, work, height)
    values, offsets, first = tables(to, work, kernel, strips, sizes)
    packed = pack(to, work, values, offsets, row, sizes)
    axes = work.axes(shape, values)
    runs = Runs(first, row_of_runs(shape, strips, kernel.run), _planes(shape))
    for (h0, h1, th), parts in groupby(regions(work.spatial, work.schedule.tile), itemgetter(0)):
        kinds, kind = kinds_of_tiles(axes, (h0, h1, th))
        ends = runs.of(kinds)
        costs = _costs(ends, len(strips))
        lists = {name: to.constants.add(array) for name, array in {**ends, "kind": kind}.items()}
        for _, (w0, w1, tw) in parts:
            region = {**sizes, "KINDS": len(kinds)}
            if len(work.spatial) > 1:
                region["OH"] = h1 - h0
            if work.spatial:
                region["OW"] = w1 - w0
            tiled, start = replace(kernel, tile=(th, tw)), (0, h0, w0)
            made = conv_launch(work, tiled, {**packed, **lists}, region, row, start)
            yield replace(made, costs=costs)


def _costs(ends: Mapping[str, np.ndarray], strips: int) -> tuple[int, ...]:
    """The runs of every strip, where they differ."""
    costs = (ends["last"] - ends["first"]).reshape(strips, -1).sum(axis=1).tolist()
    return tuple(costs) if len(set(costs)) > 1 else ()


def conv_kernel(to: Lowering, work: Contraction, height: int) -> ConvKernel:
    """The kernel for strips of that height, for tiles of one position."""
    s, stride = work.schedule, work.attribute("stride")
    return ConvKernel(
        rank=len(work.spatial),
        rows=height,
        lanes=s.lanes,
        tile=(1, 1),
        run=s.run,
        x_block=work.x.place.layout.block,
        y_block=work.y.place.layout.block,
        stride_w=stride[-1] if stride else 1,
        activation=work.step.activation,
        residual=work.residual is not None,
        filters_first=s.filters_first,
        fused=to.target.has("fma"),
        grid=to.target.grid,
        apart=s.apart,
        weights=stored_floats(to.plan.weights[work.step.weight]),
    )


def stored_floats(weight: Tiles) -> Floats:
    """What kernels are told of a weight's values."""
    return "f32" if weight.dtype == np.float32 else "f16"


def conv_sizes(to: Lowering, work: Contraction) -> dict[str, int]:
    """The kernel's parameters but for the region: extents, strides, numbers of blocks."""
    rank = len(work.spatial)
    shape = to.plan.weights[work.step.weight].shape
    sizes = {"N": work.x.place.shape[0], "C": shape[1]}
    sizes["NB"] = -(-shape[1] // work.schedule.channel_block)
    sizes |= stride_params("X", work.x.place) | stride_params("Y", work.y.place, rank)
    if work.residual:
        sizes |= stride_params("Z", work.residual.place, rank)
    steps, dilation = work.attribute("stride"), work.attribute("dilation")
    for i, a in enumerate(AXES[3 - rank :]):
        o, k, s, t = work.spatial[i], shape[2 + i], steps[i], dilation[i]
        sizes |= {f"O{a}": o, f"K{a}": k, f"S{a}": s, f"T{a}": t}
        sizes[f"I{a}"] = (o - 1) * s + (k - 1) * t + 1
    return sizes


def pack(
    to: Lowering,
    work: Contraction,
    values: np.ndarray,
    offsets: np.ndarray,
    row: int,
    sizes: dict[str, int],
) -> dict[str, Ref]:
    """values, offset and bias of strips of one height, put into the constants."""
    bias = np.zeros(sizes["F"], np.float32)
    given = to.plan.constants[work.step.bias].array[row : row + bias.size]
    bias[: given.size] = given
    sizes |= {"J": offsets.size, "VALUESL": values.size}
    named = {"values": values, "offset": offsets, "bias": bias}
    return {name: to.constants.add(array) for name, array in named.items()}


def tables(
    to: Lowering,
    work: Contraction,
    kernel: ConvKernel,
    strips: list[Tile],
    sizes: Mapping[str, int],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(values, offset in elements of every run of columns, first run of every block of channels
    and plane of the kernel)."""
    shape = to.plan.weights[work.step.weight].shape
    names = [f"k{a}" for a in kernel.axes]
    distance = evaluator(column_offset(naive(kernel)), lambda *_: 0)
    block, planes = work.schedule.channel_block, _planes(shape)
    values, offsets, first = [], [], [0]
    for tile in strips:
        runs = tile.columns[:: kernel.run].astype(np.int64)
        channel, *positions = np.unravel_index(runs, shape[1:])
        env = {"c": channel, **dict(zip(names, positions, strict=True)), **sizes}
        offsets.append(np.broadcast_to(np.asarray(distance(env)), runs.shape))
        plane = positions[0] if planes > 1 else 0
        counts = np.bincount(channel // block * planes + plane, minlength=sizes["NB"] * planes)
        first += list(first[-1] + np.cumsum(counts))
        values.append(tile.values.reshape(-1))
    joined = np.concatenate(offsets) if offsets else np.zeros(0)
    if joined.size and joined.max() >= 2**31:
        raise PlanError(f"{work.step.name}: the input is too large for 32-bit offsets")
    return (np.concatenate(values), joined.astype(np.int32), np.array(first, np.int32))


def _planes(weight: Shape) -> int:
    """Planes of a kernel; 1 where it has fewer axes."""
    return weight[2] if len(weight) == 5 else 1


def conv_launch(
    work: Contraction,
    kernel: ConvKernel,
    packed: Mapping[str, Ref],
    sizes: Mapping[str, int],
    row: int,
    start: tuple[int, int, int],
) -> Launch:
    """The launch of one region: filters from `row` on, positions from `start` on."""
    rank = len(work.spatial)
    operands = {
        "x": work.x.skip(corner(work.x.place, work.attribute("padding"), sizes, start)),
        "y": work.y.skip(row_offset(work.y.place, row, rank, start)),
    }
    if work.residual:
        operands["z"] = work.residual.skip(row_offset(work.residual.place, row, rank, start))
    return replace(launch(work.step, kernel, operands, sizes, packed), first_row=row)
