"""From the steps of a Plan to launches: which kernel runs on which memory with which numbers.

A step becomes one launch, or several where its shape is cut into regions (strips of two heights,
tiles of two widths), preceded by launches that zero the halo of the value it computes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from math import prod

import numpy as np

from jit.decide.schedule import regions
from jit.index import evaluator
from jit.kernels.channelwise import (
    ElementKernel,
    HaloKernel,
    PoolKernel,
    RelayoutKernel,
)
from jit.kernels.conv import ConvKernel, naive
from jit.kernels.softmax import SoftmaxKernel
from jit.pipeline import Kernel
from jit.stages.compact import column_offset
from jit.target import Target
from refimpl.plan import ALIGNMENT, Place, Plan, PlanError, Step, output_positions
from refimpl.tiles import Tile

_AXES = "DHW"


@dataclass(frozen=True)
class Ref:
    """A byte offset in a segment: `arena`, `constants`, `input:NAME` or `output:NAME`."""

    segment: str
    offset: int


def segment_of(value: str, place: Place) -> str:
    """The segment that a value lies in: one for the arena, one for each input and output."""
    return place.segment if place.segment == "arena" else f"{place.segment}:{value}"


@dataclass(frozen=True)
class Launch:
    """One call of a kernel: where its buffers lie, in its order, and its parameters by name.

    `first_row` is the filter that row 0 of a convolution's region stands for.
    """

    step: str
    kernel: Kernel
    buffers: tuple[tuple[str, Ref], ...]
    params: Mapping[str, int]
    first_row: int = 0


class Constants:
    """The segment of packed weights, tables and biases, every array aligned."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.size = 0

    def add(self, array: np.ndarray) -> Ref:
        """Append the array's bytes; the reference to them."""
        ref = Ref("constants", self.size)
        data = np.ascontiguousarray(array).tobytes()
        data += bytes(-len(data) % ALIGNMENT)
        self.chunks.append(data)
        self.size += len(data)
        return ref

    def image(self) -> bytes:
        """The whole segment."""
        return b"".join(self.chunks)


def launches(plan: Plan, target: Target) -> tuple[list[Launch], bytes]:
    """Every launch of the Plan in order, and the image of the constants segment."""
    lowering = _Lowering(plan, target)
    result = [launch for step in plan.steps for launch in lowering.step(step)]
    return result, lowering.constants.image()


class _Lowering:
    def __init__(self, plan: Plan, target: Target):
        self.plan, self.target = plan, target
        self.constants = Constants()

    def step(self, step: Step) -> Iterator[Launch]:
        yield from self.margins(step)
        match step.op:
            case "conv":
                yield from self.conv(step)
            case "relayout":
                yield self.relayout(step)
            case "softmax":
                yield self.softmax(step)
            case "activation" | "affine" | "add" | "sub" | "mul":
                yield self.element(step)
            case _:
                yield self.pool(step)

    def at(self, value: str, elements: int = 0) -> Ref:
        """The place of a value's first element inside the halo, plus some elements."""
        place = self.plan.places[value]
        inside = place.layout.origin(place.shape)
        return Ref(segment_of(value, place), place.offset + 4 * (inside + elements))

    def room(self, value: str, elements: int = 0) -> int:
        """Elements from `at(value, elements)` to the end of the value's memory."""
        place = self.plan.places[value]
        return place.layout.size(place.shape) - place.layout.origin(place.shape) - elements

    # -- convolution -------------------------------------------------------------------------

    def conv(self, step: Step) -> Iterator[Launch]:
        strips = [strip[0] for strip in self.plan.weights[step.weight].strips]
        first_row = 0
        for height, group in groupby(strips, key=lambda tile: tile.rows.size):
            region = list(group)
            yield from self.conv_rows(step, first_row, height, region)
            first_row += height * len(region)

    def conv_rows(self, step: Step, row: int, height: int, strips: list[Tile]) -> Iterator[Launch]:
        x, y = self.plan.places[step.inputs[0]], self.plan.places[step.name]
        spatial = output_positions(self.plan, step)
        sizes = self.conv_sizes(step, x, y, spatial)
        sizes["F"] = height * len(strips)
        kernel = self.conv_kernel(step, height, (1, 1), x, y)
        packed = self.pack(step, kernel, strips, row, sizes)
        assert step.schedule is not None
        for (h0, h1, th), (w0, w1, tw) in regions(spatial, step.schedule.tile):
            tiled = replace(kernel, tile=(th, tw))
            region = dict(sizes)
            if len(spatial) > 1:
                region["OH"] = h1 - h0
            if spatial:
                region["OW"] = w1 - w0
            yield self.conv_launch(step, tiled, packed, region, row, h0, w0)

    def conv_kernel(
        self, step: Step, rows: int, tile: tuple[int, int], x: Place, y: Place
    ) -> ConvKernel:
        s = step.schedule
        if s is None:
            raise PlanError(f"{step.name}: has no schedule")
        stride = dict(step.attributes).get("stride", ())
        return ConvKernel(
            rank=len(x.shape) - 2,
            rows=rows,
            lanes=s.lanes,
            tile=tile,
            run=s.run,
            x_block=x.layout.block,
            y_block=y.layout.block,
            stride_w=stride[-1] if stride else 1,
            activation=step.activation,
            residual=bool(step.residual),
            filters_first=s.filters_first,
            fused=self.target.has("fma"),
            grid=self.target.grid,
        )

    def conv_sizes(
        self, step: Step, x: Place, y: Place, spatial: tuple[int, ...]
    ) -> dict[str, int]:
        attributes = dict(step.attributes)
        letters = _AXES[3 - len(spatial) :]
        channels = self.plan.weights[step.weight].shape[1]
        assert step.schedule is not None
        sizes = {"N": x.shape[0], "C": channels}
        sizes["NB"] = -(-channels // step.schedule.channel_block)
        sizes |= _stride_params("X", x) | _stride_params("Y", y, len(spatial))
        if step.residual:
            sizes |= _stride_params("Z", self.plan.places[step.residual], len(spatial))
        taps = self.plan.weights[step.weight].shape[2:]
        for i, a in enumerate(letters):
            o, k, s, t = spatial[i], taps[i], attributes["stride"][i], attributes["dilation"][i]
            sizes |= {f"O{a}": o, f"K{a}": k, f"S{a}": s, f"T{a}": t}
            sizes[f"I{a}"] = (o - 1) * s + (k - 1) * t + 1
        return sizes

    def pack(
        self, step: Step, kernel: ConvKernel, strips: list[Tile], row: int, sizes: dict[str, int]
    ) -> dict[str, Ref]:
        """values, offset, first and bias of one region of strips, put into the constants."""
        values, offsets, first = self.tables(step, kernel, strips, sizes)
        bias = np.zeros(kernel.rows * len(strips), np.float32)
        given = self.plan.constants[step.bias].array[row : row + bias.size]
        bias[: given.size] = given
        sizes |= {"J": offsets.size, "VALUESL": values.size}
        named = {"values": values, "offset": offsets, "first": first, "bias": bias}
        return {name: self.constants.add(array) for name, array in named.items()}

    def tables(
        self, step: Step, kernel: ConvKernel, strips: list[Tile], sizes: Mapping[str, int]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(values, byteless offsets of every run of columns, first run of every block)."""
        shape = self.plan.weights[step.weight].shape
        names = [f"k{a}" for a in kernel.axes]
        assert step.schedule is not None
        distance = evaluator(column_offset(naive(kernel)), lambda *_: 0)
        block, blocks = step.schedule.channel_block, sizes["NB"]
        values, offsets, first = [], [], [0]
        for tile in strips:
            runs = tile.columns[:: kernel.run].astype(np.int64)
            channel, *positions = np.unravel_index(runs, shape[1:])
            env = {"c": channel, **dict(zip(names, positions, strict=True)), **sizes}
            offsets.append(np.broadcast_to(np.asarray(distance(env)), runs.shape))
            counts = np.bincount(channel // block, minlength=blocks)
            first += list(first[-1] + np.cumsum(counts))
            values.append(tile.values.reshape(-1))
        joined = np.concatenate(offsets) if offsets else np.zeros(0)
        if joined.size and joined.max() >= 2**31:
            raise PlanError(f"{step.name}: the input is too large for 32-bit offsets")
        return (np.concatenate(values), joined.astype(np.int32), np.array(first, np.int32))

    def conv_launch(
        self,
        step: Step,
        kernel: ConvKernel,
        packed: Mapping[str, Ref],
        sizes: dict[str, int],
        row: int,
        h0: int,
        w0: int,
    ) -> Launch:
        x, y = self.plan.places[step.inputs[0]], self.plan.places[step.name]
        x_skip = _corner(x, dict(step.attributes).get("padding", ()), sizes, h0, w0)
        y_skip = _row_offset(y, row, len(kernel.axes), h0, w0)
        refs = {**packed, "x": self.at(step.inputs[0], x_skip), "y": self.at(step.name, y_skip)}
        sizes |= {"XL": self.room(step.inputs[0], x_skip), "YL": self.room(step.name, y_skip)}
        if step.residual:
            z_skip = _row_offset(self.plan.places[step.residual], row, len(kernel.axes), h0, w0)
            refs["z"] = self.at(step.residual, z_skip)
            sizes["ZL"] = self.room(step.residual, z_skip)
        return replace(_launch(step, kernel, refs, sizes), first_row=row)

    # -- everything else ---------------------------------------------------------------------

    def margins(self, step: Step) -> Iterator[Launch]:
        """Zero what the step's own kernels leave: the halo, slab by slab, and tail lanes."""
        place = self.plan.places[step.name]
        memory, layout = place.layout.physical(place.shape), place.layout
        origin, block_step = layout.origin(place.shape), layout.strides(place.shape)[1]
        if self.written_slots(step) < memory[1] * layout.block:
            yield self.zeros(step, (memory[1] - 1) * block_step - origin, {"C": layout.block})
        letters = _AXES[5 - len(place.shape) :]
        strides = layout.strides(place.shape)[2:]
        for axis, (lo, hi) in enumerate(layout.halo):
            for depth, begin in ((lo, 0), (hi, memory[2 + axis] - hi)):
                if depth:
                    yield self.zeros(
                        step, begin * strides[axis] - origin, {f"O{letters[axis]}": depth}
                    )

    def written_slots(self, step: Step) -> int:
        """Channel slots that the step's kernels write at every position."""
        place = self.plan.places[step.name]
        if step.op == "conv":
            return sum(strip[0].rows.size for strip in self.plan.weights[step.weight].strips)
        if step.op in ("relayout", "softmax"):
            return place.shape[1]
        return place.layout.physical(place.shape)[1] * place.layout.block

    def zeros(self, step: Step, skip: int, box: Mapping[str, int]) -> Launch:
        """Zero a box of the value's memory, `skip` elements from the first one inside the halo."""
        place = self.plan.places[step.name]
        memory = place.layout.physical(place.shape)
        sizes = {"N": memory[0], "C": memory[1] * place.layout.block}
        letters = _AXES[5 - len(place.shape) :]
        sizes |= {f"O{a}": e for a, e in zip(letters, memory[2:-1], strict=True)}
        sizes |= {**box, **_stride_params("Y", place), "YL": self.room(step.name, skip)}
        kernel = HaloKernel(len(letters), place.layout.block, self.target.grid)
        return _launch(step, kernel, {"y": self.at(step.name, skip)}, sizes)

    def relayout(self, step: Step) -> Launch:
        x, y = self.plan.places[step.inputs[0]], self.plan.places[step.name]
        if step.activation or step.residual:
            raise PlanError(f"{step.name}: a relayout computes nothing")
        whole = x if len(x.shape) >= len(y.shape) else y
        rank = len(whole.shape) - 2
        blocks = tuple(p.layout.block if len(p.shape) == rank + 2 else 1 for p in (x, y))
        sizes = {"N": whole.shape[0], "C": whole.shape[1]}
        sizes |= {f"O{a}": e for a, e in zip(_AXES[3 - rank :], whole.shape[2:], strict=True)}
        for letter, place in (("X", x), ("Y", y)):
            sizes |= _logical_strides(letter, place, whole.shape)
        refs = {"x": self.at(step.inputs[0]), "y": self.at(step.name)}
        sizes |= {"XL": self.room(step.inputs[0]), "YL": self.room(step.name)}
        return _launch(step, RelayoutKernel(rank, *blocks, grid=self.target.grid), refs, sizes)

    def softmax(self, step: Step) -> Launch:
        n, c = self.plan.places[step.name].shape
        sizes = {"O": n, "C": c, "I": 1}
        for letter, name in (("X", step.inputs[0]), ("Y", step.name)):
            place = self.plan.places[name]
            outer = place.layout.strides(place.shape)[0]
            sizes |= {f"{letter}O": outer, f"{letter}C": 1, f"{letter}I": 1}
            sizes[f"{letter}L"] = self.room(name)
        refs = {"x": self.at(step.inputs[0]), "y": self.at(step.name)}
        return _launch(step, SoftmaxKernel(grid=self.target.grid), refs, sizes)

    def channelwise(self, step: Step, names: Mapping[str, str]) -> tuple[dict, dict]:
        """(references, sizes) of buffers that hold activations, by the kernel's names."""
        y = self.plan.places[step.name]
        memory, rank = y.layout.physical(y.shape), len(y.shape) - 2
        sizes = {"N": y.shape[0], "C": memory[1] * y.layout.block}
        sizes |= {f"O{a}": e for a, e in zip(_AXES[3 - rank :], y.shape[2:], strict=True)}
        refs = {}
        for letter, value in names.items():
            refs[letter] = self.at(value)
            sizes |= _stride_params(letter.upper(), self.plan.places[value])
            sizes[f"{letter.upper()}L"] = self.room(value)
        return refs, sizes

    def element(self, step: Step) -> Launch:
        y = self.plan.places[step.name]
        names = {"x": step.inputs[0], "y": step.name}
        if len(step.inputs) > 1:
            names["z"] = step.inputs[1]
        refs, sizes = self.channelwise(step, names)
        if step.op == "affine":
            for buffer, name in (("scale", step.weight), ("shift", step.bias)):
                padded = np.zeros(sizes["C"], np.float32)
                padded[: y.shape[1]] = self.plan.constants[name].array
                refs[buffer] = self.constants.add(padded)
        kernel = ElementKernel(
            len(y.shape) - 2,
            y.layout.block,
            step.op,  # type: ignore[arg-type]
            step.activation,
            self.target.has("fma"),
            self.target.grid,
        )
        return _launch(step, kernel, refs, sizes)

    def pool(self, step: Step) -> Launch:
        x, y = self.plan.places[step.inputs[0]], self.plan.places[step.name]
        attributes = dict(step.attributes)
        refs, sizes = self.channelwise(step, {"x": step.inputs[0], "y": step.name})
        letters = _AXES[5 - len(x.shape) :]
        sizes |= {f"I{a}": e for a, e in zip(letters, x.shape[2:], strict=True)}
        if "kernel" in attributes:
            for i, a in enumerate(letters):
                lo, hi = attributes["padding"][i]
                numbers = (attributes["kernel"][i], attributes["stride"][i], lo, hi)
                sizes |= {f"{letter}{a}": n for letter, n in zip("KSPQ", numbers, strict=True)}
        maximum = step.op.endswith("max_pool")
        divisor = "none" if maximum else "window"
        if attributes.get("count_include_pad"):
            divisor = "padded_window"
        kernel = PoolKernel(
            len(letters),
            y.layout.block,
            "maximum" if maximum else "add",
            "kernel" not in attributes,
            divisor,  # type: ignore[arg-type]
            self.target.grid,
        )
        return _launch(step, kernel, refs, sizes)


def _launch(
    step: Step, kernel: Kernel, refs: Mapping[str, Ref], sizes: Mapping[str, int]
) -> Launch:
    return Launch(step.name, kernel, tuple(refs.items()), dict(sizes))


def _stride_params(letter: str, place: Place, rank: int | None = None) -> dict[str, int]:
    """<LETTER>N, C, D, H of a place; axes that the place lacks have stride 0 (extent 1)."""
    strides = place.layout.strides(place.shape)
    rank = len(place.shape) - 2 if rank is None else rank
    steps = strides[2:] if len(strides) - 2 == rank else (0,) * rank
    names = ["N", "C", *_AXES[3 - rank :]]
    named = dict(zip(names, (*strides[:2], *steps), strict=True))
    named.pop("W", None)
    return {f"{letter}{a}": s for a, s in named.items()}


def _logical_strides(letter: str, place: Place, whole: tuple[int, ...]) -> dict[str, int]:
    """Strides of (N, C block, *spatial) of `whole`, which the place holds, perhaps flattened."""
    letters = ["N", "C", *_AXES[5 - len(whole) :]]
    strides = place.layout.strides(place.shape)
    if len(place.shape) != len(whole):  # rank 2: channels of a blocked vector are contiguous
        inner = tuple(prod(whole[i + 1 :]) for i in range(1, len(whole)))
        strides = (strides[0], *inner)
    return {f"{letter}{a}": s for a, s in zip(letters, strides, strict=True)}


def _corner(
    x: Place, padding: tuple[tuple[int, int], ...], sizes: Mapping[str, int], h0: int, w0: int
) -> int:
    """Elements from x's first inner element to what output (.., h0, w0) reads first."""
    strides, letters = x.layout.strides(x.shape)[2:], _AXES[5 - len(x.shape) :]
    start = {"D": 0, "H": h0, "W": w0}
    return sum(
        (start[a] * sizes[f"S{a}"] - lo) * step
        for a, (lo, _), step in zip(letters, padding, strides, strict=True)
    )


def _row_offset(place: Place, row: int, rank: int, h0: int, w0: int) -> int:
    """Elements from a value's first inner element to filter `row` at position (.., h0, w0)."""
    strides = place.layout.strides(place.shape)
    block = place.layout.block
    total = row // block * strides[1] + row % block
    if len(place.shape) - 2 == rank and rank:
        total += w0 * strides[-1] + (h0 * strides[-2] if rank > 1 else 0)
    return total
