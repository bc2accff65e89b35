"""Vectorisation: the rows of a strip become vectors of `lanes` filters.

The weights of a column lie one row after another and so do the channels of NC(D)HWc, so weights
and outputs are contiguous vectors and the input is one value for all lanes: no shuffle at all.
"""

from __future__ import annotations

from dataclasses import replace

from jit.kernels.conv import ConvKernel
from jit.program import Program, Statement
from jit.rewrite import map_indices, mark, perfect_nest, reorder, simplify, split


def vectorise(program: Program, kernel: ConvKernel) -> Program:
    """The program with loop r as vectors fv of lanes v; v is innermost."""
    body = tuple(_vectorise(nest, kernel) for nest in program.body)
    ranges = {"v": kernel.lanes, "fv": kernel.rows // kernel.lanes}
    body = map_indices(body, lambda i: simplify(i, ranges))
    return replace(program, body=mark(body, {"v": "vector"}))


def _vectorise(nest: Statement, kernel: ConvKernel) -> Statement:
    nest = split(nest, "r", kernel.lanes, "fv", "v")
    order = [loop.var for loop in perfect_nest(nest)[0]]
    if kernel.filters_first and "l" in order:
        last = [var for var in ("th", "tw", "v") if var in order]
        order = [var for var in order if var not in last] + last
    return reorder(nest, order)
