"""The step `recurrence`: all states of one recurrent layer in one direction, one after another.

The part of the gates that depends on the input is computed before, for all times at once, as one
product: z [T*N, G*H] = x W_input^T + b_input, with G gates.  What remains for every time is

    s = h W_hidden^T + b_hidden,    (h, c) = cell(z at this time, s, h, c)

with the cells of `refimpl.ops.recurrent`.  The value of the step is the table of states

    [S * (T+1) * N, H]     S states (h; for an LSTM h, then c), T+1 times, N sequences

whose first time is the given one, or the last where the layer runs backwards: a time's state lies
beside that of the time it was computed from, so every row can be judged by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

KINDS = {"rnn_tanh": 1, "rnn_relu": 1, "gru": 3, "gru_reset_first": 3, "lstm": 4}
"""Gates of every kind of cell.  `gru_reset_first` is a GRU without linear_before_reset."""

Hidden = Callable[[np.ndarray], np.ndarray]
"""h [N, H] to h W_hidden^T + b_hidden [N, G*H]."""


@dataclass(frozen=True)
class States:
    """The table of states of a recurrent layer: which rows hold what.

    Attributes:
        kind: of KINDS. reverse: time runs backwards. steps: T. batch: N.
    """

    kind: str
    reverse: bool
    steps: int
    batch: int

    @property
    def count(self) -> int:
        """States that a cell carries: h, and c in an LSTM."""
        return 2 if self.kind == "lstm" else 1

    @property
    def rows(self) -> int:
        """Rows of the whole table."""
        return self.count * (self.steps + 1) * self.batch

    def row(self, state: int, time: int) -> int:
        """First row of a state (0 is h, 1 is c) at one of the T+1 times."""
        return (state * (self.steps + 1) + time) * self.batch

    @property
    def given(self) -> int:
        """The time of the given state."""
        return self.steps if self.reverse else 0

    @property
    def last(self) -> int:
        """The time of the final state."""
        return 0 if self.reverse else self.steps

    @property
    def outputs(self) -> int:
        """The time at which the T states begin that the layer passes on."""
        return 0 if self.reverse else 1

    def order(self) -> list[tuple[int, int, int]]:
        """(time of the input, time that is read, time that is written), in running order."""
        if self.reverse:
            return [(t, t + 1, t) for t in reversed(range(self.steps))]
        return [(t, t, t + 1) for t in range(self.steps)]


def run(table: States, z: np.ndarray, given: list[np.ndarray], hidden: Hidden) -> np.ndarray:
    """The table of states.

    Args:
        table: how it is laid out.
        z: [T*N, G*H], the input's part.
        given: [N, H] for each state.
        hidden: the product with the hidden weight.
    """
    result = np.zeros((table.rows, given[0].shape[1]))
    for state, value in enumerate(given):
        _put(result, table, state, table.given, value)
    for at, before, after in table.order():
        inputs = z[at * table.batch : (at + 1) * table.batch]
        held = [rows(result, table, state, before) for state in range(table.count)]
        for state, value in enumerate(cell(table.kind, inputs, hidden, held)):
            _put(result, table, state, after, value)
    return result


def rows(values: np.ndarray, table: States, state: int, time: int) -> np.ndarray:
    """[N, H]: one state at one time."""
    start = table.row(state, time)
    return values[start : start + table.batch]


def _put(values: np.ndarray, table: States, state: int, time: int, new: np.ndarray) -> None:
    start = table.row(state, time)
    values[start : start + table.batch] = new


def cell(kind: str, z: np.ndarray, hidden: Hidden, held: list[np.ndarray]) -> list[np.ndarray]:
    """The states after one time, from those before; z is [N, G*H]."""
    h = held[0]
    parts = np.split(z, KINDS[kind], axis=1)
    products = np.split(hidden(h), KINDS[kind], axis=1)
    if kind == "rnn_tanh":
        return [np.tanh(z + products[0])]
    if kind == "rnn_relu":
        return [np.maximum(z + products[0], 0.0)]
    sums = [a + b for a, b in zip(parts, products, strict=True)]
    if kind == "lstm":
        i, f, g, o = _sigmoid(sums[0]), _sigmoid(sums[1]), np.tanh(sums[2]), _sigmoid(sums[3])
        c = f * held[1] + i * g
        return [o * np.tanh(c), c]
    r, u = _sigmoid(sums[0]), _sigmoid(sums[1])
    if kind == "gru":
        n = np.tanh(parts[2] + r * products[2])
    else:
        n = np.tanh(parts[2] + np.split(hidden(r * h), 3, axis=1)[2])
    return [(1 - u) * n + u * h]


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))
