"""Compaction to lists: loops over every weight become, filter by filter, loops over its own.

A tile passes over all filters before the next one.  Their sums lie in `sums` until they leave it
position by position, as those of panels do:

    sums  [part][row][element of the tile]
"""

from __future__ import annotations

from dataclasses import replace

from jit.index import Index, at, index
from jit.kernels.activation import activate
from jit.kernels.conv import multiply_add
from jit.kernels.listed import ListedKernel
from jit.kernels.panel import POSITIONS, distance, epilogue
from jit.program import (
    Block,
    Buffer,
    For,
    Let,
    Load,
    Param,
    Program,
    Statement,
    Store,
    loop,
    nest,
)
from jit.stages.panel import scratch


def listed(program: Program, kernel: ListedKernel) -> Program:
    """The program over lists; its parts share no sums."""
    begin, end = index("part") * "G" // index("PARTS"), (index("part") + 1) * "G" // index("PARTS")
    rows = loop("i", "F", *_sum(kernel))
    tile = (Let("base", at("start", "g")), rows, loop("u", "F", *_store(kernel)))
    body = loop("part", "PARTS", For("g", begin, end, tile))
    params = (*program.params, *(Param(name, 1) for name in ("G", "PARTS", "P")), Param("J", 0))
    return replace(program, params=params, buffers=_buffers(program, kernel), body=(body,))


def _sum(kernel: ListedKernel) -> Block:
    """A row's sums over one tile."""
    y = Load("sums", (index("part"), index("i"), index("p")))
    start = _around(kernel, Store("sums", y.subscript, Load("bias", (index("i"),))))
    of_pattern = index("i") * "P" + index("t")
    groups = For("j", at("first", of_pattern), at("first", of_pattern + 1), _group(kernel, y))
    taps = [Let(f"tap{e}", at("tap", index("t") * kernel.entries + e) + "base")
            for e in range(kernel.entries)]  # fmt: skip
    total = loop("t", "P", *taps, groups)
    block: list[Statement] = [start, total]
    if kernel.activation and not kernel.residual:
        block.append(_around(kernel, Store("sums", y.subscript, activate(kernel.activation, y))))
    return tuple(block)


def _group(kernel: ListedKernel, y: Load) -> Block:
    """The products of one group, entry by entry."""
    products = []
    for e in range(kernel.entries):
        x = Load("x", (index(f"tap{e}") + at("group", "j") + index("p"),))
        weight = Load("values", (index("j"), index(e)))
        product = multiply_add(kernel.fused, weight, x, y)
        products.append(_around(kernel, Store("sums", y.subscript, product)))
    return tuple(products)


def _around(kernel: ListedKernel, store: Store) -> Statement:
    return nest([("p", index(kernel.positions))], store)


def _store(kernel: ListedKernel) -> Block:
    """One row's sums to the filter that it stands for, where the tile's positions are."""
    rows = [
        Let(f"{b}0", distance(kernel, b, index("u"))) for b in ("yz" if kernel.residual else "y")
    ]
    element = at("corner", "q") - index("base")
    y = Load("sums", (index("part"), index("u"), element))
    value = epilogue(kernel, y, Load("z", _at("z"))) if kernel.residual else y
    positions = For("q", at("begin", "g"), at("begin", index("g") + 1),
                    (Store("y", _at("y"), value),))  # fmt: skip
    return (*rows, positions)


def _at(buffer: str) -> tuple[Index]:
    return (at(POSITIONS[buffer], "q") + index(f"{buffer}0"),)


def _buffers(program: Program, kernel: ListedKernel) -> tuple[Buffer, ...]:
    flat, entries = (index(1),), index(kernel.entries)
    tables = {
        "group": index("J"),
        "first": index("F") * "P" + 1,
        "tap": index("P") * kernel.entries,
        "start": index("G"),
        "begin": index("G") + 1,
    }
    packed = (
        Buffer("values", "read", "f32", (index("J"), entries), (entries, index(1))),
        *(Buffer(name, "read", "i32", (size,), flat) for name, size in tables.items()),
        scratch("sums", [index("PARTS"), index("F"), index(kernel.positions)]),
    )
    result: list[Buffer] = []
    for old in program.buffers:
        result += packed if old.name == "w" else [old]
    return tuple(result)
