"""Shares: which iterations of a kernel's parallel loops each of several tasks does.

The parallel loops of a Program stand one inside the other around everything else, so a range of
each, a `Share`, is a piece of the work that no other piece writes to.  `divide` cuts the whole
into at most as many pieces as there are tasks, as equal as it can.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise, product
from math import prod

import numpy as np

from jit.index import evaluator
from jit.program import For, Let, Program, ProgramError, walk
from jit.program_text import parse_index

Span = tuple[int, int]
"""Iterations [begin, end) of one loop."""
Share = tuple[Span, ...]
"""A span of every parallel loop, the outermost first."""

_CLEARLY = 0.98  # an inner loop is cut only if the largest share shrinks to less than this


def parallel_loops(program: Program) -> list[For]:
    """The parallel loops, outermost first.

    Raises:
        ProgramError: they do not stand one inside the other, around everything but other loops
            and integers, each from 0 to what the parameters say.
    """
    known = {p.name for p in program.params}
    count = sum(isinstance(s, For) and s.kind == "parallel" for s in walk(program.body))
    loops: list[For] = []
    block = program.body
    while len(loops) < count:
        inner = [s for s in block if not isinstance(s, Let)]
        if len(inner) != 1 or not isinstance(inner[0], For):
            raise ProgramError(f"{program.name}: a parallel loop stands beside something else")
        loop = inner[0]
        if loop.kind == "parallel":
            if loop.lo.constant != 0 or not loop.hi.names <= known or loop.hi.tables:
                raise ProgramError(f"{program.name}: loop {loop.var} is not bounded by parameters")
            loops.append(loop)
        block = loop.body
    return loops


def extents(program: Program) -> tuple[str, ...]:
    """How many iterations each parallel loop has, in the words of the Program."""
    return tuple(str(loop.hi) for loop in parallel_loops(program))


def whole(extents: Sequence[str], params: Mapping[str, int]) -> Share:
    """All iterations of every parallel loop, for those parameters."""
    return tuple((0, _evaluator(extent)(params)) for extent in extents)


@lru_cache(maxsize=1024)
def _evaluator(extent: str) -> Callable[[Mapping[str, int]], int]:
    return evaluator(parse_index(extent), _no_table)


def divide(all_of_it: Share, tasks: int, costs: Sequence[int] = ()) -> list[Share]:
    """At most `tasks` shares that together are the whole; one where nothing can be cut.

    Args:
        all_of_it: from `whole`.
        tasks: 1 or more.
        costs: of each iteration of the outermost loop, where they differ.
    """
    counts = tuple(end for _, end in all_of_it)
    costs = tuple(costs) if sum(costs) else ()
    parts = _parts(counts, tasks, costs)
    spans = [_cut(count, n) for count, n in zip(counts, parts, strict=True)]
    if costs:
        spans[0] = _cut_by_cost(costs, parts[0])
    return list(product(*spans))


@lru_cache(maxsize=4096)
def _parts(counts: tuple[int, ...], tasks: int, costs: tuple[int, ...]) -> tuple[int, ...]:
    """Into how many parts each loop is cut: the largest share as small as can be.

    Where it makes no difference outer loops are cut, for their tasks share least.
    """
    best = (1,) * len(counts)
    if 0 in counts:
        return best
    least = 1.0
    for parts in _factors(counts, tasks):
        largest = prod(-(-e // n) / e for e, n in zip(counts, parts, strict=True))
        if costs:
            heaviest = max(sum(costs[a:b]) for a, b in _cut_by_cost(costs, parts[0]))
            largest *= heaviest / sum(costs) * counts[0] / -(-counts[0] // parts[0])
        if largest < least * _CLEARLY:
            best, least = parts, largest
    return best


def _factors(counts: tuple[int, ...], tasks: int) -> Iterator[tuple[int, ...]]:
    """Numbers of parts whose product is at most `tasks`, outer loops cut most first."""
    if not counts:
        yield ()
        return
    for n in range(min(counts[0], tasks), 0, -1):
        for rest in _factors(counts[1:], tasks // n):
            yield (n, *rest)


def _cut(count: int, parts: int) -> list[Span]:
    """[0, count) in ranges that differ by one iteration at most."""
    return list(pairwise(count * i // parts for i in range(parts + 1)))


def _cut_by_cost(costs: Sequence[int], parts: int) -> list[Span]:
    """All iterations in contiguous ranges, each end as near to its share of the cost as it gets."""
    done = np.concatenate([[0], np.cumsum(costs)])
    ends = (int(np.argmin(np.abs(done - done[-1] * i / parts))) for i in range(1, parts))
    return list(pairwise([0, *ends, len(costs)]))


def _no_table(table: str, _: int) -> int:
    raise ProgramError(f"a parallel loop cannot be bounded by table {table}")
