"""Turning by squares: as many rows and columns as a vector has lanes, loaded by the ones and
stored by the others, so that memory is only ever touched by whole vectors."""

from __future__ import annotations

from dataclasses import replace

from jit.index import index
from jit.kernels.turn import TurnKernel
from jit.program import Load, Program, Registers, Statement, Store, Value, call, loop


def turn(program: Program, kernel: TurnKernel) -> Program:
    """The program over squares of `lanes` rows and columns."""
    lanes, k, v = kernel.lanes, index("k"), index("v")
    row, column = index("ib") * lanes, index("jb") * lanes
    value: Value = Load("tile", (v, k))
    if kernel.bias:
        value = call("add", value, Load("bias", (row + v,)))
    square = (
        Registers("tile", (lanes, lanes)),
        _each(lanes, Store("tile", (k, v), Load("x", (row + k, column + v)))),
        _each(lanes, Store("y", (column + k, row + v), value)),
    )
    blocks = [index(name) // lanes for name in "RC"]
    body = loop("ib", blocks[0], loop("jb", blocks[1], *square))
    return replace(program, body=(body,))


def _each(lanes: int, store: Store) -> Statement:
    return loop("k", lanes, loop("v", lanes, store, kind="vector"), kind="unroll")
