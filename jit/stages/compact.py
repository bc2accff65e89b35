"""Matrix reorder and compaction: loops over every weight become loops over the kept ones.

Filters are taken in strips of `rows`; a strip keeps an ordered list of columns (an input channel
at a kernel position), cut into runs of `run` and into blocks of channels.  The pruned weights are
not skipped, they are gone: `values` holds the kept ones in the order in which they are used, and
`offset[j]` says how far from the output's own corner of the input run j begins (GRIM, BCRC: the
column indices are stored once for all rows that share them).
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

from jit.index import Index, at, index
from jit.kernels.conv import ConvKernel
from jit.program import Block, Buffer, For, Load, Param, Program, Statement, map_loads, map_stores
from jit.rewrite import bind, perfect_nest, rebuild

COLUMN = ("c", "kd", "kh", "kw")


def column_offset(program: Program) -> Index:
    """Where column (c, kd, kh, kw) lies relative to the input element of column (0, 0, 0, 0).

    Derived from the naive loops: the part of x's address in which the reduction's variables
    occur. The packer evaluates it for every kept column.
    """
    return _x_address(program).split(frozenset(COLUMN))[0]


def _x_address(program: Program) -> Index:
    found: list[Index] = []
    buffer = program.buffer("x")

    def note(load: Load) -> Load:
        if load.buffer == "x":
            terms = zip(load.subscript, buffer.strides, strict=True)
            found.append(sum((i * s for i, s in terms), index(0)))
        return load

    map_stores(program.body, lambda s: replace(s, value=map_loads(s.value, note)))
    return found[0]


def compact(program: Program, kernel: ConvKernel) -> Program:
    """The program over packed weights: buffers take the place of w.

    They are `values`, `offset`, and for every block of every strip, plane by plane of the kernel
    where it has planes, its runs: from `first` up to `last`, for every kind of rows of tiles, of
    which some do not need them all (`jit.decide.taps`).
    """
    corner = _x_address(program).split(frozenset(COLUMN))[1]
    row = index("s") * kernel.rows + index("r")
    kept = Load("values", (index("j"), index("l"), index("r")))
    source = Load("x", (corner + at("offset", "j") + index("l"),))

    def repack(load: Load) -> Load:
        return {"w": kept, "x": source}.get(load.buffer, load)

    def rewrite(statement: Statement) -> Statement:
        loops, body = perfect_nest(statement)
        outer = [_strip_loop(old, kernel) for old in loops if old.var not in COLUMN]
        loops = [new for group in outer for new in group]
        if len(outer) < len(perfect_nest(statement)[0]):
            loops += _column_loops(kernel)
        body = map_stores(body, lambda s: replace(s, value=map_loads(s.value, repack)))
        return rebuild(loops, bind(body, {"f": row}))

    return replace(
        program,
        params=_params(program),
        buffers=_buffers(program, kernel),
        body=_each(program.body, rewrite),
    )


def _each(block: Block, rewrite) -> Block:
    return tuple(rewrite(statement) for statement in block)


def _strip_loop(old: For, kernel: ConvKernel) -> list[For]:
    if old.var != "f":
        return [old]
    return [
        For("s", index(0), old.hi // kernel.rows, ()),
        For("r", index(0), index(kernel.rows), ()),
    ]


def _column_loops(kernel: ConvKernel) -> list[For]:
    group = index("s") * "NB" + index("b")
    planes = [For("kd", index(0), index("KD"), ())] if kernel.rank > 2 else []
    if planes:
        group = group * "KD" + index("kd")
    listed = group * "KINDS" + at("kind", _row_of_tiles(kernel))
    return [
        For("b", index(0), index("NB"), ()),
        *planes,
        For("j", at("first", listed), at("last", listed), ()),
        For("l", index(0), index(kernel.run), ()),
    ]


def _row_of_tiles(kernel: ConvKernel) -> Index:
    """The number of a position's row of tiles, counted through the planes."""
    if kernel.rank < 2:
        return index(0)
    row = index("oh") // kernel.tile[0]
    return index("od") * (index("OH") // kernel.tile[0]) + row if kernel.rank > 2 else row


def _params(program: Program) -> tuple[Param, ...]:
    gone = {"C", *(f"{p}{a}" for p in "KTI" for a in "DHW")} - {"KD"}
    kept = [p for p in program.params if p.name not in gone]
    return (*kept, Param("NB", 1), Param("KINDS", 1), Param("J", 0), Param("XL", 1))


def _buffers(program: Program, kernel: ConvKernel) -> tuple[Buffer, ...]:
    lists = index("F") // kernel.rows * "NB" * "KINDS" * ("KD" if kernel.rank > 2 else 1)
    rows = prod(
        [index("OH") // kernel.tile[0], index("OD")][: max(kernel.rank - 1, 0)], start=index(1)
    )
    r, q = index(kernel.rows), index(kernel.run)
    packed = (
        Buffer("values", "read", kernel.weights, (index("J"), q, r), (q * r, r, index(1))),
        Buffer("offset", "read", "i32", (index("J"),), (index(1),)),
        Buffer("first", "read", "i32", (lists,), (index(1),)),
        Buffer("last", "read", "i32", (lists,), (index(1),)),
        Buffer("kind", "read", "i32", (rows,), (index(1),)),
    )
    result: list[Buffer] = []
    for old in program.buffers:
        if old.name == "w":
            result += packed
        elif old.name == "x":
            # One axis from here on: a kept column is a distance, not a coordinate.
            result.append(Buffer("x", "read", "f32", (index("XL"),), (index(1),)))
        else:
            result.append(old)
    return tuple(result)
