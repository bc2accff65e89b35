"""Launches that move a value to another layout, in tiles where its rows are long enough."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from jit.kernels.channelwise import RelayoutKernel
from jit.launches.axes import AXES, logical_strides
from jit.launches.form import Launch, Lowering, Operand, launch
from jit.target import Target
from refimpl.plan import PlanError, Step

_TURNED = (4, 8, 16)
"""Blocks of channels that the kernel can turn over in registers."""


@dataclass(frozen=True)
class Move:
    """A box of elements and where they lie on either side.

    Attributes:
        extents: of (N, C, *spatial).
        xs, ys: elements between neighbours along each axis, along C between blocks.
        x_block, y_block: channels side by side.
    """

    extents: tuple[int, ...]
    xs: tuple[int, ...]
    ys: tuple[int, ...]
    x_block: int
    y_block: int

    @property
    def rank(self) -> int:
        """Spatial axes."""
        return len(self.extents) - 2

    @property
    def block(self) -> int:
        """Channels that are moved together."""
        return max(self.x_block, self.y_block)

    @property
    def in_rows(self) -> bool:
        """Whether neighbours along the last axis are neighbours in memory but for their blocks."""
        sides = ((self.x_block, self.xs), (self.y_block, self.ys))
        return self.rank > 0 and all(block > 1 or steps[-1] == 1 for block, steps in sides)

    def sizes(self) -> dict[str, int]:
        """The parameters of a launch."""
        letters = ["N", "C", *AXES[3 - self.rank :]]
        names = ["N", "C", *(f"O{a}" for a in letters[2:])]
        sizes = dict(zip(names, self.extents, strict=True))
        for side, strides in (("X", self.xs), ("Y", self.ys)):
            sizes |= {f"{side}{a}": s for a, s in zip(letters, strides, strict=True)}
        return sizes

    def with_joined_rows(self) -> Move:
        """The same with rows that lie end to end on both sides as one."""
        *_, rows, width = self.extents
        if self.rank < 2 or any(s[-2] != width * s[-1] for s in (self.xs, self.ys)):
            return self
        extents = (*self.extents[:-2], rows * width)
        xs, ys = ((*s[:-2], s[-1]) for s in (self.xs, self.ys))
        return replace(self, extents=extents, xs=xs, ys=ys).with_joined_rows()


def relayout(to: Lowering, step: Step) -> Iterator[Launch]:
    """The same values with other blocks, or flattened."""
    x, y = to.operand(step.inputs[0]), to.operand(step.name)
    if step.activation or step.residual:
        raise PlanError(f"{step.name}: a relayout computes nothing")
    yield from moved(to, step, x, y, _move(x, y))


def fills_blocks(to: Lowering, step: Step) -> bool:
    """Whether a step is a relayout that writes zeros where the last block has no channels."""
    if step.op != "relayout":
        return False
    move = _move(to.operand(step.inputs[0]), to.operand(step.name))
    return move.y_block > 1 and _width(move, to.target) > 1


def _move(x: Operand, y: Operand) -> Move:
    whole = max(x.place.shape, y.place.shape, key=len)
    strides = [tuple(logical_strides("", o.place, whole).values()) for o in (x, y)]
    blocks = [o.place.layout.block if len(o.place.shape) == len(whole) else 1 for o in (x, y)]
    return Move(whole, strides[0], strides[1], blocks[0], blocks[1])


def moved(to: Lowering, step: Step, x: Operand, y: Operand, move: Move) -> Iterator[Launch]:
    """The launches of a move: of whole blocks of channels, and of those that the last one has."""
    width = _width(move, to.target)
    if width > 1 and move.extents[-1] % width:
        move = move.with_joined_rows()
        width = _width(move, to.target)
    kernel = RelayoutKernel(move.rank, move.x_block, move.y_block, to.target.grid, width)
    images, channels, *spatial = move.extents
    rest = channels % move.block if width > 1 else 0
    if rest < channels:
        sizes = replace(move, extents=(images, channels - rest, *spatial)).sizes()
        yield launch(step, kernel, {"x": x, "y": y}, sizes)
    if rest:
        whole = channels - rest
        ends = {"x": x.skip(whole // move.x_block * move.xs[1])}
        ends["y"] = y.skip(whole // move.y_block * move.ys[1])
        sizes = replace(move, extents=(images, rest, *spatial)).sizes()
        yield launch(step, replace(kernel, filled=rest), ends, sizes)


def _width(move: Move, target: Target) -> int:
    """Positions of a row that are moved together; 1 where they go one by one."""
    if target.grid or not move.in_rows:
        return 1
    most = move.with_joined_rows().extents[-1]
    if move.block == 1:
        most, least = min(most, target.lanes), 2
    elif move.block in _TURNED and 1 in (move.x_block, move.y_block):
        most, least = min(most, target.registers // 2), 4
    else:
        return 1
    return 1 << most.bit_length() - 1 if most >= least else 1
