"""The scratch of a contraction whose vectors hold positions: values beside its result.

planar  x as neighbouring positions read it: [N][C][D][H][stride along width][W / stride], only
        what the kernel reaches, halo included; without spatial axes [C][N].  One vector more
        at the end, since whole vectors are read
panel   [threads][tiles][columns of a block * positions of a tile, and one vector more]
sums    [threads][tiles][rows of all strips][positions of a tile]

A step with a `storage` reads x where it is planar: there is no panel, one tile has its sums at a
time, and what a tile reads may be past the end by a whole one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from refimpl.graph import Shape
from refimpl.layout import plain
from refimpl.plan.form import Place, Schedule, Step


@dataclass(frozen=True)
class Panels:
    """What the sizes depend on.

    weight: (F, C, *K); output: (N, *spatial), one position along axes that the kernel covers.
    """

    weight: Shape
    output: Shape
    stride: Shape
    dilation: Shape
    schedule: Schedule
    threads: int

    @property
    def reach(self) -> Shape:
        """Input positions read along every spatial axis."""
        axes = zip(self.output[1:], self.stride, self.weight[2:], self.dilation, strict=True)
        return tuple((o - 1) * s + (k - 1) * t + 1 for o, s, k, t in axes)

    @property
    def planar(self) -> Shape:
        """Extents of the planar copy, without the vector at its end."""
        if not self.stride:
            return (self.weight[1], self.output[0])
        *outer, width = self.reach
        phases = self.stride[-1]
        return (self.output[0], self.weight[1], *outer, phases, -(-width // phases))

    @property
    def positions(self) -> int:
        """Positions of a tile."""
        return prod(self.schedule.tile)

    @property
    def tiles(self) -> int:
        """Tiles of all positions."""
        return -(-prod(self.output) // self.positions)

    @property
    def room(self) -> int:
        """Elements of one tile's panel."""
        columns = min(self.schedule.channel_block, self.weight[1]) * prod(self.weight[2:])
        return columns * self.positions + self.schedule.lanes

    @property
    def rows(self) -> int:
        """Rows of all strips."""
        return -(-self.weight[0] // self.schedule.rows) * self.schedule.rows

    @property
    def slack(self) -> int:
        """Elements behind the planar copy that may be read."""
        return self.positions if self.schedule.storage else self.schedule.lanes

    @property
    def sizes(self) -> dict[str, int]:
        """Elements of every value, by its name, in order."""
        planar = prod(self.planar) + self.slack
        tiles = self.threads * max(self.schedule.panel, 1)
        sums = tiles * self.rows * self.positions
        if self.schedule.storage:
            return {"planar": planar, "sums": sums}
        return {"planar": planar, "panel": tiles * self.room, "sums": sums}

    def places(self, name: str) -> dict[str, Place]:
        """The places of the scratch of a step of that name."""
        shapes = {f"{name}:{part}": (1, size) for part, size in self.sizes.items()}
        return {n: Place(s, plain(s), "arena") for n, s in shapes.items()}


def panels_of(step: Step, weight: Sequence[int], output: Sequence[int], threads: int) -> Panels:
    """The panels of a scheduled convolution; `output` as in `Panels`."""
    assert step.schedule is not None
    attributes = dict(step.attributes)
    stride, dilation = attributes.get("stride", ()), attributes.get("dilation", ())
    return Panels(tuple(weight), tuple(output), stride, dilation, step.schedule, threads)
