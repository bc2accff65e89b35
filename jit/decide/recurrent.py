"""Recurrent layers as drafts: the input's part as one product, the states, what is passed on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jit.decide.draft import Draft, Folding, reshaped
from refimpl.graph import Node, attributes
from refimpl.plan.recurrence import States

OPERATORS = ("rnn", "gru", "lstm")


def recurrent(state: Folding, node: Node) -> None:
    """The drafts of one layer in one direction; see `refimpl.plan.recurrence`."""
    x, _, _, _, _, *given = node.inputs
    steps, batch, channels = state.shapes[x]
    table = States(_kind(node), node.attrs["reverse"], steps, batch)
    rows = state.between(f"{node.name}.rows", (steps * batch, channels))
    state.add(reshaped(rows, state.source(x), state.shapes[x], state.shapes[rows]))
    z = _input_part(state, node, rows)
    hidden, stored = state.array(node, 2), state.mask(node, 2)
    states = state.between(f"{node.name}.states", (table.rows, hidden.shape[1]))
    state.emit(
        node,
        Draft(
            states,
            "recurrence",
            (z, *map(state.source, given)),
            attributes(kind=table.kind, reverse=table.reverse),
            hidden,
            stored,
            state.array(node, 4),
            dense_weights=hidden.size,
        ),
    )
    _pass_on(state, node.outputs, table, states)


def _kind(node: Node) -> str:
    match node.op:
        case "rnn":
            return f"rnn_{node.attrs['activation']}"
        case "gru":
            return "gru" if node.attrs["linear_before_reset"] else "gru_reset_first"
    return node.op


def _input_part(state: Folding, node: Node, rows: str) -> str:
    weight: np.ndarray = state.array(node, 1)
    name = state.between(f"{node.name}.input", (state.shapes[rows][0], len(weight)))
    bias = state.array(node, 3)
    nowhere = attributes(stride=(), padding=(), dilation=())
    return state.add(
        Draft(
            name,
            "conv",
            (rows,),
            nowhere,
            weight,
            state.mask(node, 1),
            bias,
            dense_weights=weight.size,
        )
    )


def _pass_on(state: Folding, outputs: Sequence[str], table: States, states: str) -> None:
    """The layer's outputs out of its table of states: y, then the final states."""
    y, *finals = outputs
    shape = (table.steps * table.batch, state.shapes[states][1])
    passed = state.between(f"{y}.passed", shape)
    state.add(_rows(passed, states, table.row(0, table.outputs), shape[0]))
    state.add(reshaped(y, passed, shape, state.shapes[y]))
    for number, name in enumerate(finals):
        state.add(_rows(name, states, table.row(number, table.last), table.batch))


def _rows(name: str, source: str, start: int, size: int) -> Draft:
    return Draft(name, "slice", (source,), attributes(axis=0, start=start, step=1, size=size))
