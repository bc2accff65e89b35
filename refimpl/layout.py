"""Layout: how an activation lies in memory, and the packing between it and a plain array.

A tensor (N, C, *spatial) lies as [N][C/block][spatial + halo][block]: NC(D)HWc with c = block, or
plain NC(D)HW when block is 1.  The halo is a margin of zeros that a consumer's padding reads; its
producer writes it on every run.  When the block does not divide C, the tail lanes of the last
block exist in memory but mean nothing: no consumer's result depends on them.

A shape of fewer than two axes lies as if it had leading axes of size 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

Shape = tuple[int, ...]
Halo = tuple[tuple[int, int], ...]


class LayoutError(ValueError):
    """An array or shape that does not fit a layout."""


def plain(shape: Shape) -> Layout:
    """Row-major, without blocks or halo: how a caller's array lies."""
    return Layout(1, ((0, 0),) * max(len(shape) - 2, 0))


@dataclass(frozen=True)
class Layout:
    """Channels per block, and the zero margin (before, after) of every spatial axis."""

    block: int
    halo: Halo = ()

    def __post_init__(self) -> None:
        if self.block < 1 or any(lo < 0 or hi < 0 for lo, hi in self.halo):
            raise LayoutError(f"{self} is not a layout: block >= 1 and halo >= 0 are needed")

    def physical(self, shape: Shape) -> Shape:
        """The shape in memory: (N, blocks, *padded spatial, block)."""
        n, c, *spatial = self._checked(shape)
        padded = (s + lo + hi for s, (lo, hi) in zip(spatial, self.halo, strict=True))
        return (n, -(-c // self.block), *padded, self.block)

    def size(self, shape: Shape) -> int:
        """Elements in memory, halo and tail included."""
        return prod(self.physical(shape))

    def strides(self, shape: Shape) -> tuple[int, ...]:
        """Elements between neighbours along (N, block of channels, *spatial)."""
        memory = self.physical(shape)
        return tuple(prod(memory[i + 1 :]) for i in range(len(memory) - 1))

    def origin(self, shape: Shape) -> int:
        """Elements before the first one inside the halo."""
        steps = self.strides(shape)[2:]
        return sum(lo * step for (lo, _), step in zip(self.halo, steps, strict=True))

    def pack(self, array: np.ndarray) -> np.ndarray:
        """The memory image of (N, C, *spatial): flat, halo and tail lanes zero."""
        n, c, *spatial = self._checked(array.shape)
        blocks = -(-c // self.block)
        margins = [(0, 0), (0, blocks * self.block - c), *self.halo]
        padded = np.pad(array.reshape(n, c, *spatial), margins)
        split = padded.reshape(n, blocks, self.block, *padded.shape[2:])
        return np.moveaxis(split, 2, -1).reshape(-1).copy()

    def unpack(self, memory: np.ndarray, shape: Shape) -> np.ndarray:
        """The array (N, C, *spatial) that lies in a flat memory image."""
        n, c, *spatial = self._checked(shape)
        if memory.size != self.size(shape):
            raise LayoutError(f"{memory.size} elements are not {self} of {shape}")
        blocked = np.moveaxis(memory.reshape(self.physical(shape)), -1, 2)
        whole = blocked.reshape(n, -1, *blocked.shape[3:])[:, :c]
        inside = [slice(lo, lo + s) for s, (lo, _) in zip(spatial, self.halo, strict=True)]
        return whole[(slice(None), slice(None), *inside)].reshape(shape).copy()

    def halo_mask(self, shape: Shape) -> np.ndarray:
        """Flat booleans, True where the memory image is halo."""
        _, _, *spatial = self._checked(shape)
        mask = np.ones(self.physical(shape), bool)
        inside = [slice(lo, lo + s) for s, (lo, _) in zip(spatial, self.halo, strict=True)]
        mask[(slice(None), slice(None), *inside)] = False
        return mask.reshape(-1)

    def _checked(self, shape: Shape) -> Shape:
        """The shape with at least two axes."""
        whole = (1,) * (2 - len(shape)) + tuple(shape)
        if len(whole) - 2 != len(self.halo):
            raise LayoutError(
                f"shape {shape} has {len(whole) - 2} spatial axes, {self} is for {len(self.halo)}"
            )
        return whole

    def axis_strides(self, shape: Shape) -> tuple[int, ...]:
        """Elements between neighbours along every axis of the shape.

        Raises:
            LayoutError: channels lie in blocks with positions between them, so that no one
                distance separates neighbours.
        """
        if self.block > 1 and len(shape) > 2:
            raise LayoutError(f"{self} of {shape}: channels are not evenly apart")
        steps = self.strides(shape)
        whole = (steps[0], 1 if self.block > 1 else steps[1], *steps[2:])
        return whole[len(whole) - len(shape) :]

    def __str__(self) -> str:
        name = "plain" if self.block == 1 else f"c{self.block}"
        margin = ",".join(f"{lo}+{hi}" if lo != hi else str(lo) for lo, hi in self.halo)
        return f"{name} halo {margin}" if any(lo or hi for lo, hi in self.halo) else name


def walks_in_blocks(y: Shape, values: Sequence[Shape]) -> bool:
    """Whether an elementwise result can be computed block by block of channels.

    The first value has its shape; the others have all its channels and, along each other axis, all
    of its positions or one.
    """
    return values[0] == y and all(
        len(s) == len(y) and s[1] == y[1] and all(a in (1, b) for a, b in zip(s, y, strict=True))
        for s in values[1:]
    )
