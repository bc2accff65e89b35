"""The grid of a kernel: which work item does which iterations of the parallel loops.

The combinations of all `parallel` loops are numbered, the innermost loop fastest, so that work
items beside each other touch memory beside each other; work item i of a one-dimensional range does
number i.  A range is padded to whole groups of `WORK_GROUP` items, and the items too many do
nothing, so one compiled kernel serves every size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jit.index import Index, evaluator, index
from jit.program import For, Let, Program, ProgramError, walk

WORK_GROUP = 64
"""Work items of a group: one or a few of the waves in which GPUs run them."""


def grid(program: Program) -> list[For]:
    """The parallel loops, outermost first.

    Raises ProgramError unless they are nested around everything else, with bounds that depend
    on nothing but parameters.
    """
    known = {p.name for p in program.params}
    loops: list[For] = []
    block = program.body
    while block and isinstance(block[-1], For) and block[-1].kind == "parallel":
        if any(not isinstance(s, Let) for s in block[:-1]):
            break
        loops.append(block[-1])
        block = block[-1].body
    for loop in loops:
        if loop.lo.constant != 0 or not loop.hi.names <= known or loop.hi.tables:
            raise ProgramError(f"{program.name}: loop {loop.var} cannot span a grid")
    if any(isinstance(s, For) and s.kind == "parallel" for s in walk(block)):
        raise ProgramError(f"{program.name}: a parallel loop is inside something else")
    return loops


def product(loops: Sequence[For]) -> Index:
    """How many combinations the loops have."""
    total = index(1)
    for loop in loops:
        total = total * loop.hi
    return total


def work_items(program: Program, params: Mapping[str, int]) -> int:
    """Work items for those parameters, in whole groups."""
    items = evaluator(product(grid(program)), _no_table)(params)
    return -(-items // WORK_GROUP) * WORK_GROUP


def _no_table(table: str, _: int) -> int:
    raise ProgramError(f"a grid cannot depend on table {table}")
