"""Contractions from lists of kept weights, one filter at a time, as CSR and FKW store them.

    y[q, f] = act(bias[f] + sum over kept k of w[f, k] * x[q, k] (+ z[q, f]))

These are for comparison.  Vectors hold positions, as in `jit.kernels.panel`, whose letters and
tables these Programs share, but nothing is packed: x is read where it lies planar.  A tile is so
many elements of the planar copy, one after another, from where its first position reads; some of
them, between two rows, stand for no position, and their sums are left behind.

Kept weights come in groups of `entries` that one index serves.  In FKW they are the weights of a
kernel, which says its channel, and its pattern says the rest; in CSR a group is one weight, and
there is one pattern, which says nothing.

    x[corner[q] + group[j] + tap[t, e]]    what position q reads for entry e of group j, pattern t
    first[i, t]                            the first group of row i that has pattern t

Names in the Programs, beside those of panels: i row, g tile; t pattern, j group, e entry of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from jit.kernels.activation import Activation


@dataclass(frozen=True)
class ListedKernel:
    """What one compiled kernel fixes.

    entries: weights that an index serves; lanes: positions in a vector; vectors: of a tile; block:
    channels per block of y and z; fused: multiply-adds round once.
    """

    entries: int
    lanes: int
    vectors: int
    block: int
    activation: Activation | None
    residual: bool
    fused: bool

    @property
    def name(self) -> str:
        """Kind, weights of an index x positions, lanes, epilogue."""
        parts = [f"f32_listed_{self.entries}x{self.positions}", f"v{self.lanes}to{self.block}"]
        parts += [self.activation[0]] if self.activation else []
        parts += ["add"] if self.residual else []
        return "_".join(parts)

    @property
    def positions(self) -> int:
        """Elements of a tile."""
        return self.lanes * self.vectors
