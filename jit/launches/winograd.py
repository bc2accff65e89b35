"""Launches of a convolution by Winograd: transforms of blocks of tiles, and products between.

The products of all points of a tile are one convolution of kernel 1 over the block's tiles: its
groups are the points, so the filters of a point see only the channels of that point.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, product
from math import prod

import numpy as np

from jit.decide.schedule import regions
from jit.kernels.conv import ConvKernel
from jit.kernels.winograd import WinogradInputKernel, WinogradOutputKernel
from jit.launches.axes import AXES, row_offset, stride_params
from jit.launches.form import Launch, Lowering, Operand, Ref, launch
from jit.launches.points import (
    PointTables,
    StripPoints,
    columns_held,
    point_tables,
    points_of,
    transformed,
)
from refimpl.graph import Shape
from refimpl.plan import PlanError, Schedule, Step, Winograd, output_positions
from refimpl.plan.winograd import kernel_shape
from refimpl.tiles import Tile, Tiles
from refimpl.winograd import points, tile_counts, transforms


def winograd(to: Lowering, step: Step, way: Winograd) -> Iterator[Launch]:
    """The launches of a step that says how to tile it."""
    work = _Work(to, step, way)
    groups = work.groups()
    for begin, count in work.blocks():
        yield work.transformed(begin, count)
        for group in groups:
            yield from work.products(group, prod(count))
            yield work.outputs(group, begin, count)


@dataclass(frozen=True)
class _Group:
    """Strips of one height: the first filter, channel slots, the products' packed weight."""

    row: int
    height: int
    slots: int
    packed: Mapping[str, Ref]
    bias: Ref
    sizes: Mapping[str, int]


@dataclass(frozen=True)
class _Work:
    to: Lowering
    step: Step
    way: Winograd

    @property
    def schedule(self) -> Schedule:
        if self.step.schedule is None:
            raise PlanError(f"{self.step.name}: has no schedule")
        return self.step.schedule

    @property
    def kernel(self) -> Shape:
        """Taps along every axis."""
        return kernel_shape(self.step, self.weight.shape)[2:]

    @property
    def weight(self) -> Tiles:
        """The packed weight: of taps, or of points."""
        return self.to.plan.weights[self.step.weight]

    @property
    def positions(self) -> Shape:
        """Outputs along every axis."""
        return output_positions(self.to.plan, self.step)

    @property
    def points(self) -> int:
        """Points of a transformed tile."""
        return points(self.way.outputs, self.kernel)

    def scratch(self) -> list[Operand]:
        """The transformed tiles, and the products."""
        return [self.to.operand(name) for name in self.step.scratch]

    # -- blocks of tiles -----------------------------------------------------------------------

    def blocks(self) -> Iterator[tuple[Shape, Shape]]:
        """(first tile, tiles) along images and every axis."""
        images = self.to.place(self.step.name).shape[0]
        counts = (images, *tile_counts(self.way.outputs, self.positions))
        cuts = [range(0, count, size) for count, size in zip(counts, self.way.block, strict=True)]
        for begin in product(*cuts):
            whole = zip(begin, self.way.block, counts, strict=True)
            yield begin, tuple(min(size, count - b) for b, size, count in whole)

    def tile_sizes(self, letter: str, tiles: Operand, begin: Shape, count: Shape) -> dict[str, int]:
        """Tiles along each axis, where the last may begin, and the strides between tiles."""
        letters = AXES[3 - len(self.kernel) :]
        block, steps = tiles.place.layout.block, tiles.place.layout.strides(tiles.place.shape)
        sizes = {"N": count[0], f"{letter}C": steps[1]}
        for i, a in enumerate(letters):
            m = self.way.outputs[i]
            sizes[f"T{a}"] = count[1 + i]
            sizes[f"L{a}"] = self.positions[i] - m - begin[1 + i] * m
            sizes[f"{letter}{a}"] = block * prod(count[2 + i :])
        return {**sizes, f"{letter}N": block * prod(count[1:])}

    def corner(self, value: Operand, begin: Shape, padding: tuple[tuple[int, int], ...]) -> Operand:
        """A value from where the first tile of a block begins."""
        image, *steps = (value.place.layout.strides(value.place.shape)[i]
                         for i in (0, *range(2, len(begin) + 1)))  # fmt: skip
        starts = zip(begin[1:], self.way.outputs, padding, steps, strict=True)
        return value.skip(begin[0] * image + sum((b * m - lo) * s for b, m, (lo, _), s in starts))

    # -- launches ------------------------------------------------------------------------------

    def transformed(self, begin: Shape, count: Shape) -> Launch:
        """The input's tiles."""
        x, (tiles, _) = self.to.operand(self.step.inputs[0]), self.scratch()
        block = x.place.layout.block
        channels = -(-x.place.shape[1] // block) * block
        sizes = self.tile_sizes("Q", tiles, begin, count) | stride_params("X", x.place)
        sizes |= {"C": channels, "QP": channels // block * sizes["QC"]}
        fused = self.to.target.has("fma")
        kernel = WinogradInputKernel(self.way.outputs, self.kernel, block, fused)
        corner = self.corner(x, begin, dict(self.step.attributes)["padding"])
        return launch(self.step, kernel, {"x": corner, "q": tiles}, sizes)

    def products(self, group: _Group, tiles: int) -> Iterator[Launch]:
        """For every point, the group's filters times the transformed tiles."""
        s, (x, y) = self.schedule, self.scratch()
        block = x.place.layout.block
        kernel = ConvKernel(
            rank=1, rows=group.height, lanes=s.lanes, tile=(1, 1), run=s.run,
            x_block=block, y_block=block, stride_w=1, activation=None, residual=False,
            filters_first=s.filters_first, fused=self.to.target.has("fma"),
        )  # fmt: skip
        y = y.skip(self.products_before(group))
        for _, (begin, end, tile) in regions((tiles,), s.tile):
            operands = {"x": x.skip(begin * block), "y": y.skip(begin * block)}
            made, sizes = replace(kernel, tile=(1, tile)), {**group.sizes, "OW": end - begin}
            yield launch(self.step, made, operands, sizes, group.packed)

    def products_before(self, group: _Group) -> int:
        """Elements of the products of the filters before a group."""
        place = self.scratch()[1].place
        block = place.layout.block
        return self.points * group.row // block * place.layout.strides(place.shape)[1]

    def outputs(self, group: _Group, begin: Shape, count: Shape) -> Launch:
        """The group's filters of the block's positions."""
        step, none = self.step, ((0, 0),) * len(self.kernel)
        _, products = self.scratch()
        block = products.place.layout.block
        sizes = self.tile_sizes("M", products, begin, count)
        sizes |= {"C": group.slots, "MP": group.slots // block * sizes["MC"]}
        operands = {"m": products.skip(self.products_before(group))}
        for letter, name in (("y", step.name), ("z", step.residual)):
            if name:
                value = self.to.operand(name)
                row = row_offset(value.place, group.row, len(self.kernel), (0, 0, 0))
                operands[letter] = self.corner(value, begin, none).skip(row)
                sizes |= stride_params(letter.upper(), value.place)
        kernel = WinogradOutputKernel(
            self.way.outputs, self.kernel, block,
            step.activation, bool(step.residual), self.to.target.has("fma"),
        )  # fmt: skip
        return launch(step, kernel, operands, sizes, {"bias": group.bias})

    # -- packing -------------------------------------------------------------------------------

    def groups(self) -> list[_Group]:
        """The strips of each height, packed."""
        groups, row = [], 0
        tiles = [strip[0] for strip in self.weight.strips]
        for height, same in groupby(tiles, lambda tile: tile.rows.size):
            strips = list(same)
            groups.append(self.group(strips, row))
            row += height * len(strips)
        return groups

    def group(self, strips: Sequence[Tile], row: int) -> _Group:
        """The filters of strips of one height, the first of which begins with filter `row`."""
        s, (x, y) = self.schedule, (operand.place for operand in self.scratch())
        height, shape = strips[0].rows.size, self.weight.shape
        slots = height * len(strips)
        held = self.held(strips)
        made = point_tables(map(self.points_of, strips), held, height, shape[1], s)
        bias = np.zeros(slots, np.float32)
        given = self.to.plan.constants[self.step.bias].array[row : row + slots]
        bias[: given.size] = given
        sizes = {
            "N": 1, "F": self.points * slots, "NB": -(-shape[1] // s.channel_block),
            "KINDS": 1, "J": made.channel.size, "VALUESL": made.values.size,
            **stride_params("X", x), **stride_params("Y", y),
        }  # fmt: skip
        tables = {"values": made.values, "first": made.first, "last": made.last}
        tables["offset"] = self.offsets(made)
        tables["kind"] = np.zeros(1, np.int32)  # every tile uses all runs of its point
        tables["bias"] = np.zeros(self.points * slots, np.float32)  # the products begin at 0
        packed = {name: self.to.constants.add(array) for name, array in tables.items()}
        return _Group(row, height, slots, packed, self.to.constants.add(bias), sizes)

    def held(self, strips: Sequence[Tile]) -> np.ndarray:
        """The columns of every point of each strip: (points, strips)."""
        if self.step.op == "winograd_conv":
            return columns_held(strips, self.points)
        return np.full((self.points, len(strips)), self.weight.shape[1])

    def points_of(self, tile: Tile) -> StripPoints:
        """A strip's columns, point by point."""
        if self.step.op == "winograd_conv":
            return points_of(tile, self.weight.shape)
        return transformed(tile, self.weight.shape, transforms(self.way.outputs, self.kernel))

    def offsets(self, tables: PointTables) -> np.ndarray:
        """Where every run of channels lies in a block's transformed tiles, int32."""
        place = self.scratch()[0].place
        block, step = place.layout.block, place.layout.strides(place.shape)[1]
        apart = place.shape[1] // block // self.points * step
        if self.points * apart >= 2**31:
            raise PlanError(f"{self.step.name}: a block of tiles is too large for 32-bit offsets")
        channel = tables.channel
        offset = tables.point * apart + channel // block * step + channel % block
        return offset.astype(np.int32)
