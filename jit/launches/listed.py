"""Launches of contractions from CSR or FKW: x made planar, then one kernel over its tiles."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np

from jit.kernels.listed import ListedKernel
from jit.launches.contraction import Contraction
from jit.launches.form import Launch, Lowering, launch
from jit.launches.planar import (
    block_strides,
    column_table,
    int32,
    planar_copy,
    positions_tables,
)
from refimpl.plan.panels import panels_of
from refimpl.storage import CSR, FKW
from refimpl.tiles import unpack


def listed_conv(to: Lowering, work: Contraction) -> Iterator[Launch]:
    """The launches of a convolution or linear layer from the lists of its format."""
    step, x, y, s = work.step, work.x, work.y, work.schedule
    weight, stored = unpack(to.plan.weights[step.weight])
    panels = panels_of(step, weight.shape, (x.place.shape[0], *work.spatial), to.plan.threads)
    planar, sums = (to.operand(name) for name in step.scratch)
    yield from planar_copy(to, work, panels, planar)
    column = column_table(work, panels)
    # FKW without a kernel has no pattern either.
    lists = _fkw if s.storage == "fkw" and stored.any() else _csr
    tables = positions_tables(work, panels) | lists(weight, stored, column)
    start, begin = covers(tables["corner"], panels.positions)
    tables |= {"start": start, "begin": begin, "column": column}
    tables["bias"] = to.plan.constants[step.bias].array[tables["filter"]]
    patterns, entries = tables["tap"].shape
    kernel = ListedKernel(
        entries,
        s.lanes,
        panels.positions // s.lanes,
        y.place.layout.block,
        step.activation,
        work.residual is not None,
        to.target.has("fma"),
    )
    operands = {"x": planar, "y": y, "sums": sums}
    if work.residual:
        operands["z"] = work.residual
    sizes = {
        "Q": prod(panels.output),
        "F": len(weight),
        "K": column.size,
        "G": start.size,
        "PARTS": panels.threads,
        "P": patterns,
        "J": tables["group"].size,
        "VALUESL": tables["values"].size,
    } | block_strides(operands)
    for name in ("group", "tap"):
        tables[name] = int32(step, tables[name])
    refs = {name: to.constants.add(table) for name, table in tables.items()}
    yield launch(step, kernel, operands, sizes, refs)


def covers(corner: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Tiles of `reach` elements of the planar copy, each from where its first position reads.

    Args:
        corner: integers (Q,), rising: where every position reads.
        reach: elements of a tile.

    Returns:
        int32 (tiles,) where every tile starts; int32 (tiles + 1,) its first position, Q at last.
    """
    begin = [0]
    while begin[-1] < corner.size:
        begin.append(int(np.searchsorted(corner, int(corner[begin[-1]]) + reach)))
    return corner[begin[:-1]].astype(np.int32), np.array(begin, np.int32)


def _csr(weight: np.ndarray, stored: np.ndarray, column: np.ndarray) -> dict[str, np.ndarray]:
    """The lists of a kernel whose groups are single weights, of one pattern."""
    csr = CSR.pack(weight, stored)
    return {
        "values": csr.values,
        "group": column[csr.columns],
        "first": csr.offsets,
        "tap": np.zeros((1, 1), np.int64),
        "filter": np.arange(len(weight), dtype=np.int32),
    }


def _fkw(weight: np.ndarray, stored: np.ndarray, column: np.ndarray) -> dict[str, np.ndarray]:
    """The lists of a kernel whose groups are kernels: a channel each, by filter and pattern."""
    fkw = FKW.pack(weight, stored)
    first = fkw.offset[:-1, None] + fkw.stride[:, :-1]
    # A column is read as far off as its channel and its kernel position are, each by itself.
    return {
        "values": fkw.weight,
        "group": column[fkw.index * prod(weight.shape[2:])],
        "first": np.append(first, fkw.offset[-1]).astype(np.int32),
        "tap": column[fkw.patterns],
        "filter": fkw.reorder,
    }
