"""Recurrent networks of several layers and directions, out of single-layer nodes.

The Graph's rnn, gru and lstm are one layer in one direction; here they are put together as every
framework does it: both directions read the same input, their outputs stand side by side along the
channels, and the next layer reads that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from refimpl.importers.build import Builder

Op = Literal["rnn", "gru", "lstm"]


@dataclass(frozen=True)
class Direction:
    """The operands of one layer in one direction, all names of values.

    Attributes:
        w_input: [G*H, C], the gates in the Graph's order.
        w_hidden: [G*H, H].
        b_input, b_hidden: [G*H].
        states: h0, and of an lstm also c0; each [N, H].
        reverse: whether time is read backwards.
    """

    w_input: str
    w_hidden: str
    b_input: str
    b_hidden: str
    states: tuple[str, ...]
    reverse: bool = False


def add_layers(
    builder: Builder,
    wanted: str,
    op: Op,
    x: str,
    layers: Sequence[Sequence[Direction]],
    **attributes: Any,
) -> tuple[str, tuple[tuple[str, ...], ...]]:
    """Layers one upon another, each of one direction or of two side by side.

    Args:
        builder: of the Graph.
        wanted: the name that the nodes get, with a number behind it where that is taken.
        op: which recurrence.
        x: the input, [T, N, C].
        layers: for each layer its directions, in the order in which their outputs stand.
        attributes: of the nodes, all but `reverse`.

    Returns:
        y [T, N, D*H], and the final states: h_n of every direction of every layer, of an lstm then
        as many c_n; each [N, H].

    Raises:
        ShapeError: the operands do not fit one another.
    """
    finals = []
    for directions in layers:
        results = [add_direction(builder, wanted, op, x, d, **attributes) for d in directions]
        x = side_by_side(builder, wanted, [y for y, *_ in results])
        finals += [states for _, *states in results]
    return x, tuple(zip(*finals, strict=True))


def add_direction(
    builder: Builder, wanted: str, op: Op, x: str, direction: Direction, **attributes: Any
) -> tuple[str, ...]:
    """One layer in one direction: y [T, N, H], h_n and of an lstm c_n, both [N, H].

    Raises:
        ShapeError: the operands do not fit one another.
    """
    weights = direction.w_input, direction.w_hidden, direction.b_input, direction.b_hidden
    operands = (x, *weights, *direction.states)
    return builder.add(wanted, op, operands, reverse=direction.reverse, **attributes)


def side_by_side(builder: Builder, wanted: str, ys: Sequence[str]) -> str:
    """The outputs of a layer's directions, [T, N, H] each, as one: [T, N, D*H]."""
    return ys[0] if len(ys) == 1 else builder.add(wanted, "concat", tuple(ys), axis=2)


def split_states(builder: Builder, wanted: str, states: str) -> tuple[str, ...]:
    """The states [L, N, H] of L directions as L values [N, H]; those of a constant are constants.

    Args:
        builder: of the Graph.
        wanted: what the nodes or constants are to be called.
        states: the value to take apart.
    """
    count, *shape = builder.shapes[states]
    if states in builder.constants:
        array = builder.constants[states].array
        return tuple(builder.constant(builder.unique(wanted), row) for row in array)
    rows = (
        builder.add(wanted, "slice", (states,), axis=0, start=index, step=1, size=1)
        for index in range(count)
    )
    return tuple(builder.add(wanted, "reshape", (row,), shape=tuple(shape)) for row in rows)


def join_states(builder: Builder, wanted: str, parts: Sequence[str]) -> str:
    """L values [N, H] as one, [L, N, H]."""
    shape = (1, *builder.shapes[parts[0]])
    rows = tuple(builder.add(wanted, "reshape", (part,), shape=shape) for part in parts)
    return rows[0] if len(rows) == 1 else builder.add(wanted, "concat", rows, axis=0)


def zeros(builder: Builder, wanted: str, *shape: int) -> str:
    """A constant of zeros: the bias or the initial state that a model leaves out."""
    return builder.constant(builder.unique(wanted), np.zeros(shape, np.float32))
