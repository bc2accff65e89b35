"""A small constant matrix times a vector, as few operations.

Winograd's matrices have pairs of rows, and pairs of columns, that differ by signs alone: points a
and -a.  What two rows both need, such as x3 - 4 x1 for -4 x1 - 4 x2 + x3 + x4 and
4 x1 - 4 x2 - x3 + x4, is summed once.  No term is multiplied twice but by powers of two, so that
sums round no more often than a row of the matrix does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations

from jit.kernels.conv import multiply_add
from jit.program import Const, Value, call

Terms = tuple[tuple[int, Fraction], ...]
"""(which, coefficient): which is an input or, from `inputs` on, a shared sum."""


@dataclass(frozen=True)
class Sums:
    """The rows of a matrix over its inputs and over sums of two that several rows share.

    `order` is that in which rows need the shared ones one after another.
    """

    inputs: int
    shared: tuple[Terms, ...]
    rows: tuple[Terms, ...]

    @property
    def order(self) -> list[int]:
        """The rows, those of the same shared sums together."""
        return sorted(range(len(self.rows)), key=lambda i: self.needs(i))

    def needs(self, row: int) -> list[int]:
        """The shared sums of a row."""
        return sorted(which for which, _ in self.rows[row] if which >= self.inputs)

    @property
    def operations(self) -> int:
        """Additions, multiplications and multiply-adds for one vector."""
        rows = sum(len(row) - any(abs(c) == 1 for _, c in row) for row in self.rows)
        return rows + len(self.shared)


def sums(matrix: Sequence[Sequence[Fraction]]) -> Sums:
    """The matrix's rows with what they share in pairs taken out, most used first."""
    rows = [{k: c for k, c in enumerate(row) if c} for row in matrix]
    inputs, shared = len(matrix[0]), []
    while pair := _most_shared(rows, inputs):
        a, b, factor = pair
        new = inputs + len(shared)
        shared.append(((a, Fraction(1)), (b, factor)))
        for row in rows:
            if a in row and row.get(b) == row[a] * factor:
                row[new] = row.pop(a)
                del row[b]
    return Sums(inputs, tuple(shared), tuple(tuple(row.items()) for row in rows))


def _most_shared(rows: list[dict[int, Fraction]], inputs: int) -> tuple[int, int, Fraction] | None:
    """(a, b, f): x_a + f x_b, of which at least two rows hold a multiple."""
    found: dict[tuple[int, int, Fraction], list[Fraction]] = {}
    for row in rows:
        for a, b in combinations(sorted(k for k in row if k < inputs), 2):
            found.setdefault((a, b, row[b] / row[a]), []).append(row[a])
            found.setdefault((b, a, row[a] / row[b]), []).append(row[b])
    legal = {
        key: outer
        for key, outer in found.items()
        if len(outer) > 1 and (_is_sharp(key[2]) or all(map(_is_sharp, outer)))
    }
    # Of two that are multiples of each other, the one that rows add as it is.
    return max(legal, key=lambda key: (len(legal[key]), _units(legal[key])), default=None)


def _units(coefficients: list[Fraction]) -> int:
    return sum(abs(c) == 1 for c in coefficients)


def _is_sharp(c: Fraction) -> bool:
    """Whether a product with c is not rounded: c is a power of two."""
    sizes = (abs(c.numerator), c.denominator)
    return all(size & (size - 1) == 0 for size in sizes)


def combine(terms: Terms, value: Callable[[int], Value], fused: bool) -> Value:
    """The sum of coefficient times value, which begins with a term that needs no product."""
    ordered = sorted(terms, key=lambda term: (term[1] != 1, abs(term[1]) != 1))
    (first, c), *rest = ordered
    total = value(first)
    if c != 1:
        total = call("neg", total) if c == -1 else call("mul", Const(float(c)), total)
    for which, c in rest:
        if abs(c) == 1:
            total = call("add" if c == 1 else "sub", total, value(which))
        else:
            total = multiply_add(fused, Const(float(c)), value(which), total)
    return total
