"""Vectorisation over the channels of a block, for kernels that treat every channel alike."""

from __future__ import annotations

from dataclasses import replace

from jit.index import index
from jit.program import Block, For, Program, Statement, Store
from jit.rewrite import bind, map_indices, simplify


def channels(program: Program, block: int) -> Program:
    """The program with loop c as blocks cb of lanes v, and v around each Store alone.

    Legal because a channel's value never depends on another channel.
    """

    def visit(body: Block) -> Block:
        return tuple(map(rewrite, body))

    def rewrite(s: Statement) -> Statement:
        if isinstance(s, Store):
            return For("v", index(0), index(block), (s,), "vector")
        if isinstance(s, For) and s.var == "c":
            lanes = {"c": index("cb") * block + index("v")}
            return For("cb", index(0), s.hi // block, bind(visit(s.body), lanes))
        if isinstance(s, For):
            return replace(s, body=visit(s.body))
        return s

    body = map_indices(visit(program.body), lambda i: simplify(i, {"v": block}))
    return replace(program, body=body)
