"""Pattern: every kernel keeps one pattern of a small library, or nothing (PatDNN).

PatDNN (arXiv 2001.00138): 3 x 3 kernels keep four weights, the centre among them, in one of the
patterns most frequent in the trained net (6 to 12 of them); connectivity pruning takes whole
kernels besides.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from refimpl.schemes.distinct import distinct_rows
from refimpl.schemes.kgs import KGS
from refimpl.schemes.rules import AnySubset, OneOfLibrary
from refimpl.schemes.scheme import Scheme, SchemeError, Scope, check_keep
from refimpl.schemes.select import highest
from refimpl.schemes.units import Shape, Units, Way, strip_of


@dataclass(frozen=True)
class Pattern(Scheme):
    """A pattern of `entries` positions per kernel, at most `library` of them; kernels come and go.

    The patterns themselves are in the mask: whichever occur are the library.  With `gf` above 1
    the kernels of `gf` filters that read the same channel share their pattern; which of them stay
    is still any subset.  Kernels of at most `entries` positions keep all of them.

    Units overlap: a weight stays iff its position (of the kernels that share a pattern) and its
    kernel both stay.  Position units are numbered as in KGS(gf, 1), then come the kernels; there
    are only the kernels where they keep all positions.
    """

    entries: int
    library: int
    gf: int = 1
    name: ClassVar[str] = "pattern"

    def _units(self, shape: Shape, parts: int) -> Units:
        strip, column = strip_of(shape, self.gf, parts), np.arange(prod(shape[1:]))
        positions, kernels = prod(shape[2:]), shape[0] * shape[1]
        by_kernel = Way(np.arange(shape[0]), column // positions, AnySubset())
        if positions <= self.entries:
            return Units(shape, (by_kernel,), group=np.zeros(kernels, int), strip=strip)
        by_position = Way(strip, column, OneOfLibrary(self.entries, self.library))
        sets = prod(by_position.sizes) // positions  # of kernels that share a pattern
        group = np.repeat(np.arange(sets + 1), [positions] * sets + [kernels])
        return Units(shape, (by_position, by_kernel), group=group, strip=strip)

    def grain(self, shape: Shape, *, parts: int = 1) -> tuple[int, int]:  # noqa: ARG002
        """The kernels of `gf` filters share what they keep of a channel, if that is a choice."""
        return (self.gf if prod(shape[2:]) > self.entries else 1), 1

    def project(
        self,
        weight: np.ndarray,
        keep: float,
        *,
        scope: Scope = "layer",
        parts: int = 1,
        library: np.ndarray | None = None,
    ) -> np.ndarray:
        """The patterns that keep the most of each kernel, then the kernels of the highest scores.

        Args:
            weight: float (F, C, *kernel).
            keep: share of the weights to keep; patterns alone leave entries / positions.
            scope: one threshold for the kernels of the layer, or equal shares in every strip of
                `gf` filters.
            parts: as everywhere.
            library: bool (patterns, positions), as `mine_patterns` finds it over many layers; by
                default it is mined from this weight.

        Raises:
            SchemeError: `keep` is more than patterns leave, the library is not one of this
                scheme for such kernels, or a value is not finite.
        """
        check_keep(self, keep)
        most = min(1.0, self.entries / prod(weight.shape[2:]))
        if keep > most * (1 + 1e-6):
            raise SchemeError(
                f"{self}: patterns keep at most {most:.3g} of this weight, so keep cannot be "
                f"{keep}."
            )
        units = self.units(weight.shape, parts=parts)
        patterned = self._patterned(weight, parts, library)
        score = self._kernel_score(weight, patterned)
        strip = self._strips(units, scope)[-len(score) :]
        size = np.full(len(score), patterned[0, 0].sum())
        kernels = highest(score, size, strip, keep * weight.size)
        return patterned & _per_kernel(kernels, weight)

    def saliency(self, weight: np.ndarray, *, parts: int = 1) -> np.ndarray:
        """The kernel's score under its pattern, and -inf outside of it."""
        patterned = self._patterned(weight, parts, None)
        return np.where(
            patterned, _per_kernel(self._kernel_score(weight, patterned), weight), -np.inf
        )

    def _patterned(self, weight: np.ndarray, parts: int, library: np.ndarray | None) -> np.ndarray:
        """The mask, bool of the weight's shape, that leaves every kernel its best pattern."""
        at = KGS(self.gf, 1).units(weight.shape, parts=parts)
        energy = self._energy_at_positions(weight, parts)
        if library is None:
            library = mine_patterns([weight], self, parts=[parts])
        self._check_library(library, energy.shape[1])
        best = library[np.argmax(energy @ library.T, axis=1)]
        return at.stays(0, best.ravel())

    def _energy_at_positions(self, weight: np.ndarray, parts: int) -> np.ndarray:
        """Squares of the weights at every position of the kernels that share a pattern.

        Returns float64 (such sets of kernels, positions).
        """
        at = KGS(self.gf, 1).units(weight.shape, parts=parts)
        return at.total(self._energy(weight)).reshape(-1, prod(weight.shape[2:]))

    def _kernel_score(self, weight: np.ndarray, patterned: np.ndarray) -> np.ndarray:
        """Every kernel's l2 norm under its pattern / sqrt(entries), float64 (kernels,)."""
        squares = (self._energy(weight) * patterned).reshape(-1, prod(weight.shape[2:]))
        return np.sqrt(squares.sum(axis=1) / patterned[0, 0].sum())

    def _check_library(self, library: np.ndarray, positions: int) -> None:
        entries = min(self.entries, positions)
        sound = (
            library.dtype == np.bool_
            and library.ndim == 2
            and library.shape[1] == positions
            and 1 <= len(library) <= self.library
            and (library.sum(axis=1) == entries).all()
        )
        if not sound:
            raise SchemeError(
                f"{self}: a library for these kernels is bool, 1 to {self.library} patterns by "
                f"{positions} positions with {entries} entries each; this one is "
                f"{library.dtype} of the shape {library.shape}."
            )


def mine_patterns(
    weights: Iterable[np.ndarray], scheme: Pattern, *, parts: Iterable[int] | None = None
) -> np.ndarray:
    """The library: the patterns most frequent among the kernels' largest weights.

    Every kernel (or set of kernels that share a pattern) votes for its `entries` positions of
    largest norm, the centre always among them where a kernel has one.

    Args:
        weights: of one kernel shape, float (F, C, *kernel) each.
        scheme: says how many entries, how many patterns, and which kernels share one.
        parts: of each weight; 1 where left out.

    Returns:
        bool (patterns, positions), most frequent first, at most `scheme.library` patterns.

    Raises:
        SchemeError: there is no weight, or kernels differ in shape.
    """
    weights = list(weights)
    kernels = {weight.shape[2:] for weight in weights}
    if len(kernels) != 1:
        raise SchemeError(
            f"{scheme}: a library is mined from weights of one kernel shape, not {sorted(kernels)}."
        )
    each = parts if parts is not None else [1] * len(weights)
    energy = np.concatenate(
        [scheme._energy_at_positions(w, part) for w, part in zip(weights, each, strict=True)]
    )
    voting = energy.any(axis=1)  # a kernel pruned before has no opinion
    votes = _largest(energy[voting] if voting.any() else energy, scheme.entries, kernels.pop())
    first, which = distinct_rows(votes)
    most_frequent = np.argsort(-np.bincount(which), kind="stable")[: scheme.library]
    return votes[first[most_frequent]]


def _largest(energy: np.ndarray, entries: int, kernel: Shape) -> np.ndarray:
    """The `entries` largest of every row and the centre, unless it is pruned already: bool."""
    rank = energy.copy()
    centre = _centre(kernel)
    if centre is not None:
        rank[rank[:, centre] > 0, centre] = np.inf
    order = np.argsort(-rank, axis=1, kind="stable")[:, :entries]
    votes = np.zeros(energy.shape, bool)
    np.put_along_axis(votes, order, True, axis=1)
    return votes


def _per_kernel(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Values (kernels,) spread to the rank of the weight."""
    return values.reshape(*weight.shape[:2], *[1] * (weight.ndim - 2))


def _centre(kernel: Shape) -> int | None:
    """The position in the middle of the kernel, or None where an even size leaves none."""
    return None if any(size % 2 == 0 for size in kernel) else prod(kernel) // 2
