"""Recurrent layers: one layer, one direction, unrolled over the steps of its input.

Letters: T steps, N batch, C input channels, H hidden size, G gates.  x is [T, N, C], a state
[N, H], y [T, N, H]: the hidden state after every step.  w_input is [G*H, C], w_hidden [G*H, H],
each bias [G*H]: the rows of the gates one after another, in torch's order.  In the equations
W is a gate's rows of w_input and b of b_input, R of w_hidden and d of b_hidden, h the hidden
state before the step and h' after it.

`reverse` walks the steps from last to first: y[t] is then the state after reading x[T-1] to x[t],
and the final state is y[0].  Weights that `kept` and `kept_hidden`, the masks of w_input and
w_hidden, leave out are absent, as in `refimpl.ops.contractions`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from refimpl.ops.activations import relu, sigmoid, tanh
from refimpl.ops.contractions import linear_fast
from refimpl.ops.operator import FLAG, RNN_ACTIVATION, Operator, Shape, require


def rnn(
    x: np.ndarray,
    w_input: np.ndarray,
    w_hidden: np.ndarray,
    b_input: np.ndarray,
    b_hidden: np.ndarray,
    h0: np.ndarray,
    *,
    activation: str,
    reverse: bool,
    kept: np.ndarray | None = None,
    kept_hidden: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """h' = a(W x + b + R h + d), with activation a, "tanh" or "relu".  Elman, 1990.

    Shapes, letters and reverse are those of the module's head.

    Returns:
        y, h_n.
    """
    act = {"tanh": tanh, "relu": relu}[activation]
    y, h = np.empty((*x.shape[:2], h0.shape[1])), h0
    for t in _steps(x, reverse):
        given = linear_fast(x[t], w_input, b_input, kept=kept)
        y[t] = h = act(given + linear_fast(h, w_hidden, b_hidden, kept=kept_hidden))
    return y, h


def gru(
    x: np.ndarray,
    w_input: np.ndarray,
    w_hidden: np.ndarray,
    b_input: np.ndarray,
    b_hidden: np.ndarray,
    h0: np.ndarray,
    *,
    linear_before_reset: bool,
    reverse: bool,
    kept: np.ndarray | None = None,
    kept_hidden: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """h' = (1 - z) * n + z * h; gates in the order r, z, n, reverse as in the module's head.

    r  = sigmoid(W x + b + R h + d)
    z  = sigmoid(W x + b + R h + d)
    n  = tanh(W x + b + r * (R h + d))    with linear_before_reset: torch and cuDNN
    n  = tanh(W x + b + R (r * h) + d)    without: Cho et al., 2014, and ONNX's default

    Returns:
        y, h_n.
    """
    hidden = h0.shape[1]
    gates, candidate = slice(0, 2 * hidden), slice(2 * hidden, None)
    y, h = np.empty((*x.shape[:2], hidden)), h0
    for t in _steps(x, reverse):
        given = linear_fast(x[t], w_input, b_input, kept=kept)
        held = _rows(h, gates, w_hidden, b_hidden, kept_hidden)
        r, z = np.split(sigmoid(given[:, gates] + held), 2, axis=1)
        if linear_before_reset:
            fresh = r * _rows(h, candidate, w_hidden, b_hidden, kept_hidden)
        else:
            fresh = _rows(r * h, candidate, w_hidden, b_hidden, kept_hidden)
        n = tanh(given[:, candidate] + fresh)
        y[t] = h = (1.0 - z) * n + z * h
    return y, h


def lstm(
    x: np.ndarray,
    w_input: np.ndarray,
    w_hidden: np.ndarray,
    b_input: np.ndarray,
    b_hidden: np.ndarray,
    h0: np.ndarray,
    c0: np.ndarray,
    *,
    reverse: bool,
    kept: np.ndarray | None = None,
    kept_hidden: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """h' = o * tanh(c') with the cell c' = f * c + i * g; gates in the order i, f, g, o.

    Shapes, letters and reverse are those of the module's head.

    i, f, o = sigmoid(W x + b + R h + d), each with rows of its own
    g       = tanh(W x + b + R h + d)

    Hochreiter and Schmidhuber, 1997, with the forget gate of Gers et al., 2000; no peepholes.

    Returns:
        y, h_n, c_n.
    """
    y, h, c = np.empty((*x.shape[:2], h0.shape[1])), h0, c0
    for t in _steps(x, reverse):
        given = linear_fast(x[t], w_input, b_input, kept=kept)
        gates = given + linear_fast(h, w_hidden, b_hidden, kept=kept_hidden)
        i, f, g, o = np.split(gates, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        y[t] = h = sigmoid(o) * tanh(c)
    return y, h, c


def _steps(x: np.ndarray, reverse: bool) -> range:
    return range(len(x) - 1, -1, -1) if reverse else range(len(x))


def _rows(
    h: np.ndarray, rows: slice, w: np.ndarray, b: np.ndarray, kept: np.ndarray | None
) -> np.ndarray:
    """R h + d with some of the rows of R and d."""
    return linear_fast(h, w[rows], b[rows], kept=None if kept is None else kept[rows])


def _shape_rule(gates: int, states: int) -> Callable[..., tuple[Shape, ...]]:
    """The rule of a layer with so many gates and states: y, and every state once more."""

    def shape(shapes: Sequence[Shape], _: Mapping[str, Any]) -> tuple[Shape, ...]:
        x, h0 = shapes[0], shapes[5]
        require(len(x) == 3, f"input {x} is not [T, N, C]")
        require(
            len(h0) == 2 and h0[0] == x[1],
            f"initial state {h0} is not [N, H] with the batch of {x[1]}",
        )
        hidden = h0[1]
        rows = gates * hidden
        wanted = ((rows, x[2]), (rows, hidden), (rows,), (rows,), *[h0] * states)
        for name, want, have in zip(_INPUTS, wanted, shapes[1:], strict=False):
            require(have == want, f"{name} is {have}, not {want}")
        return ((*x[:2], hidden), *[h0] * states)

    return shape


_INPUTS = ("w_input", "w_hidden", "b_input", "b_hidden", "h0", "c0")


def _layer(
    name: str, gates: int, states: int, meaning: Callable[..., Any], attributes: dict[str, Any]
) -> Operator:
    return Operator(
        name,
        (5 + states, 5 + states),
        _shape_rule(gates, states),
        meaning,
        {**attributes, "reverse": FLAG},
        results=1 + states,
        weights={1: "kept", 2: "kept_hidden"},
        parts=lambda _: gates,
        uses=lambda given, *_: dict.fromkeys((1, 2), math.prod(given[0][:2])),
    )


RECURRENT = (
    _layer("rnn", 1, 1, rnn, {"activation": RNN_ACTIVATION}),
    _layer("gru", 3, 1, gru, {"linear_before_reset": FLAG}),
    _layer("lstm", 4, 2, lstm, {}),
)
