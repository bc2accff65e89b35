"""Unroll and jam: the tile's loops are unrolled inside the loop over columns.

All rows and positions of a tile then use one column before the next is fetched.
"""

from __future__ import annotations

from dataclasses import replace

from jit.program import Kind, Program
from jit.rewrite import mark


def jam(program: Program) -> Program:
    """The program with the loops of the tile marked for unrolling."""
    tile: dict[str, Kind] = dict.fromkeys(("l", "fv", "th", "tw"), "unroll")
    return replace(program, body=mark(program.body, tile))
