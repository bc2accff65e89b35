"""BCR, block-based column-row: rows and columns of every block come and go (GRIM).

GRIM (arXiv 2108.11033): the matrix view is cut into blocks, and in each block some rows and some
columns are removed, independently of other blocks, so that a smaller dense block is left.  In
Automatic Mapping (arXiv 2111.11581) it is the block-based pruning of linear layers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import ClassVar

import numpy as np

from refimpl.schemes.rules import AnySubset
from refimpl.schemes.scheme import Scheme, SchemeError, Scope, check_keep
from refimpl.schemes.select import highest
from refimpl.schemes.units import Shape, Units, Way, strip_of

_ROUNDS = 8  # rows and columns are chosen in turn at most so often; two or three settle it


@dataclass(frozen=True)
class BCR(Scheme):
    """The rows of a `br` x `bc` block of the matrix view are units, and so are its columns.

    Units overlap: a weight stays iff its row and its column of the block both stay.  Row units are
    numbered row by row, in each by block; column units strip by strip, in each by column.

    `rows` says how `project` splits a rate between them, in percent: rows keep keep^(rows / 100),
    columns the rest; 0 removes columns only, 100 rows only.  It has no part in which masks are
    legal, so schemes that differ in nothing else are equal.
    """

    br: int
    bc: int
    rows: int = field(default=50, compare=False)
    name: ClassVar[str] = "bcr"
    smallest: ClassVar[dict[str, int]] = {"rows": 0}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rows > 100:
            raise SchemeError(f"{self}: the rows' part of the rate is 0 to 100 percent.")

    def _units(self, shape: Shape, parts: int) -> Units:
        width = prod(shape[1:])
        strip, block = strip_of(shape, self.br, parts), np.arange(width) // self.bc
        strips, blocks = int(strip[-1]) + 1, int(block[-1]) + 1
        row_group = strip[:, None] * blocks + np.arange(blocks)
        column_group = np.arange(strips)[:, None] * blocks + block + strips * blocks
        return Units(
            shape,
            (
                Way(np.arange(shape[0]), block, AnySubset()),
                Way(strip, np.arange(width), AnySubset()),
            ),
            group=np.concatenate([row_group.ravel(), column_group.ravel()]),
            strip=strip,
        )

    def grain(self, shape: Shape, *, parts: int = 1) -> tuple[int, int]:  # noqa: ARG002
        """Tiles lie within strips of `br` rows."""
        return self.br, 1

    def project(
        self, weight: np.ndarray, keep: float, *, scope: Scope = "layer", parts: int = 1
    ) -> np.ndarray:
        """A legal mask of large norm that keeps about the share `keep` of the weights.

        The nearest one is a hard combinatorial problem (a heaviest sub-rectangle in every block),
        so this chooses columns, then rows among what the columns leave, and each again given the
        other while the kept norm grows.

        Args:
            weight: float (F, C, *kernel).
            keep: in (0, 1].
            scope: one threshold a way for the layer, or equal shares in every strip of `br` rows.
            parts: as everywhere.

        Raises:
            SchemeError: `keep` is out of range, or a value is not finite.
        """
        check_keep(self, keep)
        units = self.units(weight.shape, parts=parts)
        energy, strip = self._energy(weight), self._strips(units, scope)
        column_budget = keep ** (1 - self.rows / 100) * weight.size
        row_budget = keep * weight.size if self.rows else weight.size
        row_way, column_way = units.spans
        kept, best = np.ones(units.count, bool), np.zeros(weight.shape, bool)
        for _ in range(_ROUNDS):
            score, _ = self._given(units, energy, units.stays(0, kept))
            cost = units.size()[column_way]
            kept[column_way] = highest(score[column_way], cost, strip[column_way], column_budget)
            score, left = self._given(units, energy, units.stays(1, kept))
            kept[row_way] = highest(score[row_way], left[row_way], strip[row_way], row_budget)
            mask = units.mask(kept)
            if best.any() and energy[mask].sum() <= energy[best].sum():
                break
            best = mask
        return best

    def _given(
        self, units: Units, energy: np.ndarray, left: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Every unit's score and size by the weights that the other way has `left` of it.

        A unit with nothing left ranks below all others.
        """
        size = units.total(left)
        score = np.sqrt(units.total(energy * left) / np.maximum(size, 1))
        return np.where(size > 0, score, -1.0), size
