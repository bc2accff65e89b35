"""Rules: which units of a group may stay.

Each rule gets the units of one way (see `units.py`) as two arrays over them, `kept` (bool) and
`group` (integers), and answers the same three questions: where is it broken, what is the least
that must stay besides, and how many choices does it leave.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb, log2

import numpy as np

from refimpl.schemes.distinct import distinct_rows


@dataclass(frozen=True)
class AnySubset:
    """Of every group, any of its units may stay."""

    def breach(self, kept: np.ndarray, group: np.ndarray) -> int | None:  # noqa: ARG002
        """The first group whose kept units break the rule, or None (here: always None)."""
        return None

    def cover(self, kept: np.ndarray, group: np.ndarray) -> np.ndarray | None:  # noqa: ARG002
        """The fewest units that include these and obey the rule, or None where none do."""
        return kept

    def bits(self, group: np.ndarray) -> float:
        """log2 of how many ways the rule leaves to choose the units: one bit each."""
        return float(len(group))

    def __str__(self) -> str:
        return "any subset of its units may stay"


@dataclass(frozen=True)
class Exactly:
    """Of every group, exactly `count` units stay (all of them where a group has fewer)."""

    count: int

    def breach(self, kept: np.ndarray, group: np.ndarray) -> int | None:
        """The first group that keeps another number of its units, or None."""
        sizes = np.bincount(group)
        staying = np.bincount(group, weights=kept)
        wrong = np.flatnonzero(staying != np.minimum(sizes, self.count))
        return int(wrong[0]) if len(wrong) else None

    def cover(self, kept: np.ndarray, group: np.ndarray) -> np.ndarray | None:
        """These units and the first others of every group, `count` in all; None if too many."""
        sizes = np.bincount(group)
        staying = np.bincount(group[kept], minlength=len(sizes))
        if staying.max() > self.count:
            return None
        short = np.flatnonzero((staying < np.minimum(sizes, self.count))[group])
        full = kept.copy()
        full[short] = rank_in_group(group[short], kept[short]) < self.count
        return full

    def bits(self, group: np.ndarray) -> float:
        """log2 of how many ways the rule leaves to choose the units: C(size, count) a group."""
        sizes, times = np.unique(np.bincount(group), return_counts=True)
        return float(
            sum(
                number * log2(comb(size, min(size, self.count)))
                for size, number in zip(sizes.tolist(), times.tolist(), strict=True)
            )
        )

    def __str__(self) -> str:
        return f"exactly {self.count} of its units must stay"


@dataclass(frozen=True)
class OneOfLibrary:
    """Of every group one pattern of `entries` units stays, or nothing; at most `size` patterns.

    The library is whatever patterns occur.  All groups have the same number of units, numbered
    group by group; where that number is at most `entries`, the one pattern is all of them.
    """

    entries: int
    size: int

    def breach(self, kept: np.ndarray, group: np.ndarray) -> int | None:
        """The first group with another number of units or one pattern too many, or None."""
        patterns = self._patterns(kept, group)
        staying = patterns.sum(axis=1)
        wrong = np.flatnonzero((staying != 0) & (staying != self._entries(patterns)))
        if len(wrong):
            return int(group[0] + wrong[0])
        first, _ = distinct_rows(patterns)
        first = np.sort(first[staying[first] > 0])
        return int(group[0] + first[self.size]) if len(first) > self.size else None

    def cover(self, kept: np.ndarray, group: np.ndarray) -> np.ndarray | None:
        """Every group's units, completed to a pattern; None if that takes too many patterns.

        Greedy: patterns with units to spare join one that has them all, or else are completed
        with their first free units, the fullest first.
        """
        patterns = self._patterns(kept, group)
        first, which = distinct_rows(patterns)
        found = patterns[first]
        library: list[np.ndarray] = []
        covers = np.zeros_like(found)
        for index in np.argsort(-found.sum(axis=1), kind="stable"):
            pattern = found[index]
            if not pattern.any():
                continue
            host = next((p for p in library if not (pattern & ~p).any()), None)
            if host is None:
                host = self._completed(pattern)
                library.append(host)
            if host.sum() > self.entries or len(library) > self.size:
                return None
            covers[index] = host
        return covers[which].ravel()

    def bits(self, group: np.ndarray) -> float:
        """log2 of the choices: the library out of all patterns, then one of it for each group."""
        groups = int(group[-1] - group[0]) + 1
        units = len(group) // groups
        patterns = comb(units, min(units, self.entries))
        size = min(self.size, patterns)
        return log2(comb(patterns, size)) + groups * log2(size)

    def _patterns(self, kept: np.ndarray, group: np.ndarray) -> np.ndarray:
        return kept.reshape(int(group[-1] - group[0]) + 1, -1)

    def _entries(self, patterns: np.ndarray) -> int:
        return min(self.entries, patterns.shape[1])

    def _completed(self, pattern: np.ndarray) -> np.ndarray:
        """The pattern and its first free units, `entries` in all."""
        order = np.argsort(~pattern, kind="stable")
        full = pattern.copy()
        full[order[: self.entries]] = True
        return full

    def __str__(self) -> str:
        return (
            f"{self.entries} of its units must stay, or none, in one of at most {self.size} "
            "patterns that all groups share"
        )


Rule = AnySubset | Exactly | OneOfLibrary


def rank_in_group(group: np.ndarray, *keys: np.ndarray) -> np.ndarray:
    """Every element's place in its group by falling keys, from 0.

    The first key decides, the next where it is equal, and in the end the lower number.
    """
    order = np.lexsort((*(-key.astype(np.float64) for key in reversed(keys)), group))
    sizes = np.bincount(group)
    first = np.cumsum(sizes) - sizes
    rank = np.empty(len(group), np.intp)
    rank[order] = np.arange(len(group)) - first[group[order]]
    return rank
