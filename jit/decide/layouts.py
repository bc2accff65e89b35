"""How every value lies: channels in blocks of the target's vector, or every axis evenly spaced.

Convolutions, pools and batch norms work on blocks; what moves, reduces or multiplies whole tensors
works on even axes; elementwise operators work on what they find.  A value lies as its producer
makes it, and readers that need it otherwise read a copy.  With two axes it is both at once: rows
of whole blocks.  Halos are as wide as the widest reader's padding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from jit.decide.draft import Draft
from jit.decide.fold import Folded
from refimpl.graph import Graph, Shape
from refimpl.layout import Layout, plain, walks_in_blocks
from refimpl.plan import CHANNELWISE, CONVOLUTIONS, ELEMENTWISE

Need = Literal["blocks", "even", "any"]

_IN_BLOCKS = (*CONVOLUTIONS, "recurrence", *CHANNELWISE)
_PADDED = (*CONVOLUTIONS, "depthwise")


class Layouts:
    """The layout of every value, and how every draft reads its values.

    Attributes:
        of: the layout that each value lies in; for an input of the Graph, that in which readers
            of blocks read it.
    """

    def __init__(self, graph: Graph, folded: Folded, lanes: int) -> None:
        self.shapes, self.lanes = folded.shapes, lanes
        self.inputs = dict(graph.inputs)
        self.constants = graph.constants
        self.readers: dict[str, list[Draft]] = {}
        for draft in folded.drafts:
            for value in {*draft.inputs, draft.residual}:
                self.readers.setdefault(value, []).append(draft)
        returned = set(folded.outputs.values())
        self.of: dict[str, Layout] = {}
        for value in self.inputs:
            few = value not in returned and self._is_few(value)
            self.of[value] = self._layout(value, 1 if few else lanes)
        for draft in folded.drafts:
            block = lanes if self._makes_blocks(draft) else 1
            self.of[draft.name] = self._layout(draft.name, block)

    def in_blocks(self, draft: Draft) -> bool:
        """Whether a draft's kernel walks over channels in blocks."""
        if draft.op in ELEMENTWISE:
            return self.of[draft.name].block > 1 and self._alike(draft)
        return draft.op in _IN_BLOCKS

    def need(self, draft: Draft, value: str) -> Need:
        """How the draft reads a value: a copy is needed where it lies otherwise."""
        rank = len(self.shapes[value])
        if draft.op == "relayout":
            return "any"
        return "blocks" if 2 <= rank <= 5 and self.in_blocks(draft) else "even"

    def in_blocks_for_readers(self, value: str) -> Layout:
        """A layout in blocks that every reader of blocks can read the value in."""
        return Layout(self.lanes, self._halo(value))

    def _layout(self, value: str, block: int) -> Layout:
        shape = self.shapes[value]
        if not 2 <= len(shape) <= 5:
            return plain(shape)
        padded = block > 1 or value in self.inputs
        return Layout(block, self._halo(value) if padded else plain(shape).halo)

    def _halo(self, value: str) -> tuple[tuple[int, int], ...]:
        """The margin of zeros that the readers' padding needs."""
        margin = [(0, 0)] * (len(self.shapes[value]) - 2)
        for draft in self.readers.get(value, []):
            if draft.op in _PADDED and value == draft.inputs[0]:
                for axis, (lo, hi) in enumerate(dict(draft.attributes)["padding"]):
                    margin[axis] = (max(margin[axis][0], lo), max(margin[axis][1], hi))
        return tuple(margin)

    def _is_few(self, value: str) -> bool:
        """Few channels that only convolutions read: a block would be mostly empty."""
        shape, readers = self.shapes[value], self.readers.get(value, [])
        # A convolution may add its own input to its result, and then reads it in blocks too.
        only = all(d.op == "conv" and d.residual != value for d in readers)
        return only and 2 < len(shape) <= 5 and shape[1] < self.lanes

    def _makes_blocks(self, draft: Draft) -> bool:
        """Whether the value of a draft lies in blocks."""
        shape = self.shapes[draft.name]
        if not 2 <= len(shape) <= 5:
            return False
        if draft.op == "reshape" and len(self.shapes[draft.inputs[0]]) == 2:
            return False  # its input's rows are padded already, and not to the same length
        if len(shape) == 2 or draft.op in _IN_BLOCKS:
            return True
        if draft.op in ELEMENTWISE:
            return self._alike(draft) and self._first_in_blocks(draft)
        return draft.op == "relayout" and self._read_in_blocks(draft.name)

    def _first_in_blocks(self, draft: Draft) -> bool:
        first = draft.inputs[0]
        if first in self.of and first not in self.inputs:
            return self.of[first].block > 1
        return self._read_in_blocks(draft.name)

    def _read_in_blocks(self, value: str) -> bool:
        return any(d.op in _IN_BLOCKS for d in self.readers.get(value, []))

    def _alike(self, draft: Draft) -> bool:
        """Whether an elementwise draft can walk over blocks of channels."""
        shape = self.shapes[draft.name]
        # Constants are repeated along channels, and wholly where they come first.
        values = [shape if v in self.constants else self.shapes[v] for v in draft.inputs]
        return 2 <= len(shape) <= 5 and walks_in_blocks(shape, values)


def over_channels(array: np.ndarray, shape: Shape, *, whole: bool) -> np.ndarray:
    """The array with the axes of `shape`: all channels, other axes as they are or, whole, all."""
    full = (1,) * (len(shape) - array.ndim) + array.shape
    sizes: Mapping[int, int] = {1: shape[1]} if not whole else dict(enumerate(shape))
    wanted = tuple(sizes.get(axis, size) for axis, size in enumerate(full))
    return np.broadcast_to(array.reshape(full), wanted)
