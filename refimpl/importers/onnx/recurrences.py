"""RNN, GRU and LSTM: one node of ONNX is one layer in one or two directions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from refimpl.importers.onnx.call import Call
from refimpl.importers.onnx.indexing import take_range
from refimpl.importers.onnx.operands import Known, Operand

# Where the Graph's gates stand among ONNX's: gru r, z, n among z, r, h; lstm i, f, g, o among
# i, o, f, c.
_GATES = {"rnn": (0,), "gru": (1, 0, 2), "lstm": (0, 2, 3, 1)}
_ACTIVATIONS = {"rnn": ("tanh",), "gru": ("sigmoid", "tanh"), "lstm": ("sigmoid", "tanh", "tanh")}
_DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}


def rnn(call: Call) -> tuple[Operand, ...]:
    """RNN with tanh or relu."""
    activations = _activations(call, "rnn")
    call.require(
        len(set(activations)) == 1 and activations[0] in ("tanh", "relu"),
        f"activations {activations} have no counterpart here; only tanh and relu have",
    )
    return _recurrence(call, "rnn", activation=activations[0])


def gru(call: Call) -> tuple[Operand, ...]:
    """GRU, with the reset gate before or after the product."""
    _only_default_activations(call, "gru")
    before = bool(call.attribute("linear_before_reset", 0))
    return _recurrence(call, "gru", linear_before_reset=before)


def lstm(call: Call) -> tuple[Operand, ...]:
    """LSTM without peepholes."""
    _only_default_activations(call, "lstm")
    call.only("input_forget", 0)
    if call.given(7):
        call.require(not call.known(7, "the peepholes").any(), "peepholes have no counterpart here")
    return _recurrence(call, "lstm")


def _activations(call: Call, op: str) -> tuple[str, ...]:
    count = len(_directions(call))
    given = call.attribute("activations", _ACTIVATIONS[op] * count)
    for name in ("activation_alpha", "activation_beta"):
        call.require(not call.attribute(name, ()), f"{name} has no counterpart here")
    return tuple(name.lower() for name in given)


def _only_default_activations(call: Call, op: str) -> None:
    given, wanted = _activations(call, op), _ACTIVATIONS[op] * len(_directions(call))
    call.require(
        given == wanted, f"activations {given} have no counterpart here; only {wanted} have"
    )


def _directions(call: Call) -> tuple[bool, ...]:
    """For each direction whether it reads time backwards."""
    direction = call.attribute("direction", "forward")
    call.require(direction in _DIRECTIONS, f"direction={direction!r} is unknown")
    return _DIRECTIONS[direction]


def _recurrence(call: Call, op: str, **attributes: object) -> tuple[Operand, ...]:
    """Y [T, D, N, H], Y_h [D, N, H] and of an lstm Y_c; with layout 1 the batch comes first."""
    call.require(call.attribute("clip") is None, "clip has no counterpart here")
    call.only("layout", 0, 1)
    batch_first = call.attribute("layout", 0) == 1
    directions = _directions(call)
    x = _time_first(call, batch_first)
    weights = _weights(call, op, len(directions))
    hidden = weights[0][1].shape[1]
    call.require(
        call.attribute("hidden_size", hidden) == hidden,
        f"hidden_size is not that of the weights, {hidden}",
    )
    states = _states(call, op, (len(directions), x.shape[1], hidden), batch_first)
    found = [
        call.add_several(op, x, *weights[d], *(s[d] for s in states), reverse=back, **attributes)
        for d, back in enumerate(directions)
    ]
    ys, *finals = zip(*found, strict=True)
    y = _stack(call, ys, 1, (2, 0, 1, 3) if batch_first else None)
    order = (1, 0, 2) if batch_first else None
    return (y, *(_stack(call, parts, 0, order) for parts in finals))


def _time_first(call: Call, batch_first: bool) -> Operand:
    """The input, [T, N, C], all of whose steps count."""
    x = call.operand(0)
    call.require(len(x.shape) == 3, f"input {x.shape} is not [T, N, C]")
    x = call.add("transpose", x, order=(1, 0, 2)) if batch_first else x
    if call.given(4):
        lengths = set(call.ints(4, "sequence_lens"))
        call.require(
            lengths == {x.shape[0]},
            f"sequence_lens {sorted(lengths)} are not all {x.shape[0]}, the whole length",
        )
    return x


def _weights(call: Call, op: str, count: int) -> list[tuple[Known, ...]]:
    """For each direction: w_input, w_hidden, b_input, b_hidden; the gates in the Graph's order."""
    w, r = call.known(1, "the weight W"), call.known(2, "the weight R")
    gates = len(_GATES[op])
    call.require(
        w.ndim == r.ndim == 3 and w.shape[:2] == r.shape[:2] == (count, gates * r.shape[2]),
        f"weights {w.shape} and {r.shape} are not [{count}, {gates}*H, C] and "
        f"[{count}, {gates}*H, H]",
    )
    rows = w.shape[1]
    b = np.zeros((count, 2 * rows), w.dtype)
    if call.given(3):
        b = call.known(3, "the bias B")
        call.require(b.shape == (count, 2 * rows), f"bias {b.shape} is not [{count}, {2 * rows}]")
    roles = ("w_input", "w_hidden", "b_input", "b_hidden")
    parts = (w, r, b[:, :rows], b[:, rows:])
    for part in parts:
        call.reserve(part.shape, part.dtype)
    return [
        tuple(
            call.constant(_role(role, d, count), _reordered(part[d], op), part.dtype)
            for role, part in zip(roles, parts, strict=True)
        )
        for d in range(count)
    ]


def _role(role: str, direction: int, count: int) -> str:
    return role if count == 1 else f"{role}.{('forward', 'backward')[direction]}"


def _reordered(rows: np.ndarray, op: str) -> np.ndarray:
    """[G*H, ...] with the gates in the Graph's order."""
    order = _GATES[op]
    return rows.reshape(len(order), -1, *rows.shape[1:])[list(order)].reshape(rows.shape)


def _states(
    call: Call, op: str, shape: tuple[int, int, int], batch_first: bool
) -> list[list[Operand]]:
    """The initial h, and of an lstm c: for each direction [N, H]; zeros where they are left out."""
    found = []
    for position, role in ((5, "h0"), (6, "c0"))[: 2 if op == "lstm" else 1]:
        if not call.given(position):
            call.reserve(shape[1:], np.dtype(np.float32))
            found.append([call.constant(role, np.zeros(shape[1:]))] * shape[0])
            continue
        state = call.operand(position)
        state = call.add("transpose", state, order=(1, 0, 2)) if batch_first else state
        call.require(state.shape == shape, f"initial state {state.shape} is not {shape}")
        rows = [take_range(call, state, 0, range(d, d + 1)) for d in range(shape[0])]
        found.append([call.reshape(row, shape[1:]) for row in rows])
    return found


def _stack(
    call: Call, parts: Sequence[Operand], axis: int, order: tuple[int, ...] | None
) -> Operand:
    """The directions side by side along a new axis, then in another order."""
    shape = (*parts[0].shape[:axis], 1, *parts[0].shape[axis:])
    rows = [call.add("reshape", part, shape=shape) for part in parts]
    whole = rows[0] if len(rows) == 1 else call.add("concat", *rows, axis=axis)
    return whole if order is None else call.add("transpose", whole, order=order)


RECURRENCES: dict[str, Callable[[Call], tuple[Operand, ...]]] = {
    "RNN": rnn,
    "GRU": gru,
    "LSTM": lstm,
}
