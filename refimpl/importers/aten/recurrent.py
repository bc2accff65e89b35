"""nn.RNN, nn.GRU, nn.LSTM and their cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from refimpl.importers import recurrent
from refimpl.importers.aten.arguments import Rule
from refimpl.importers.call import Call, Value
from refimpl.importers.recurrent import Direction, Op
from refimpl.ops import ShapeError


def _layers(op: Op, **attributes: Any) -> Rule:
    """The rule of a whole module: all its layers and directions."""

    def rule(
        call: Call,
        input: Value,
        hx: Value | Sequence[Value],
        params: Sequence[Value],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> Sequence[str]:
        call.require(not train or dropout == 0, "it drops values at random, as in training")
        ways = 2 if bidirectional else 1
        rows = _rows(call, params, has_biases, num_layers * ways)
        states = _states(call, op, hx)
        initial = [_rows_of_states(call, state, num_layers * ways) for state in states]
        directions = [
            Direction(*row, states=tuple(s[i] for s in initial), reverse=i % ways == 1)
            for i, row in enumerate(rows)
        ]
        layers = [directions[i : i + ways] for i in range(0, len(directions), ways)]
        return _add(call, op, input, layers, batch_first, attributes)

    return rule


def _states(call: Call, op: Op, given: Value | Sequence[Value]) -> Sequence[Value]:
    """The initial states: h0, and of an lstm c0."""
    states = [given] if isinstance(given, Value) else given
    wanted = 2 if op == "lstm" else 1
    call.require(len(states) == wanted, f"it has {len(states)} initial states, not {wanted}")
    return states


def _rows(
    call: Call, params: Sequence[Value], has_biases: bool, count: int
) -> list[tuple[str, str, str, str]]:
    """Both weights and both biases of each direction of each layer."""
    each = 4 if has_biases else 2
    call.require(
        len(params) == each * count and count > 0,
        f"it has {len(params)} parameters where {count} directions have {each} each; "
        f"projections (proj_size) have no counterpart here",
    )
    runs = (params[i : i + each] for i in range(0, len(params), each))
    return [_operands(call, *run) for run in runs]


def _operands(
    call: Call, w_ih: Value, w_hh: Value, b_ih: Value | None = None, b_hh: Value | None = None
) -> tuple[str, str, str, str]:
    call.require(len(w_ih.shape) == len(w_hh.shape) == 2, "its weights are not matrices")
    b_input, b_hidden = (
        recurrent.zeros(call.builder, f"{call.path}.bias", w_hh.shape[0])
        if b is None
        else call.name(b)
        for b in (b_ih, b_hh)
    )
    return call.name(w_ih), call.name(w_hh), b_input, b_hidden


def _rows_of_states(call: Call, states: Value, count: int) -> Sequence[str]:
    """The initial state of each direction of each layer, [N, H]."""
    fits = len(states.shape) == 3 and states.shape[0] == count
    call.require(fits, f"its states {states.shape} are not [{count}, N, H]")
    if states.array is not None:
        return [call.constant("state", row) for row in states.array]
    return recurrent.split_states(call.builder, _node_name(call), call.name(states))


def _add(
    call: Call,
    op: Op,
    x: Value,
    layers: Sequence[Sequence[Direction]],
    batch_first: bool,
    attributes: dict[str, Any],
) -> Sequence[str]:
    """Time to the front and back again, where the module wants the batch there."""
    call.require(len(x.shape) == 3, f"its input {x.shape} is not [T, N, C]")
    wanted = _node_name(call)
    first = call.add("transpose", x, order=(1, 0, 2)) if batch_first else call.name(x)
    try:
        y, finals = recurrent.add_layers(call.builder, wanted, op, first, layers, **attributes)
    except ShapeError as error:
        call.refuse(str(error))
    if batch_first:
        y = call.add("transpose", y, order=(1, 0, 2))
    return y, *(recurrent.join_states(call.builder, wanted, final) for final in finals)


def _cell(op: Op, **attributes: Any) -> Rule:
    """The rule of a cell: a sequence of one step."""

    def rule(
        call: Call,
        input: Value,
        hx: Value | Sequence[Value],
        w_ih: Value,
        w_hh: Value,
        b_ih: Value | None = None,
        b_hh: Value | None = None,
    ) -> str | Sequence[str]:
        states = _states(call, op, hx)
        step = call.add("reshape", input, shape=(1, *input.shape))
        direction = Direction(
            *_operands(call, w_ih, w_hh, b_ih, b_hh), tuple(call.name(state) for state in states)
        )
        try:
            found = recurrent.add_direction(
                call.builder, _node_name(call), op, step, direction, **attributes
            )
        except ShapeError as error:
            call.refuse(str(error))
        return found[1:] if len(states) > 1 else found[1]

    return rule


def _node_name(call: Call) -> str:
    return call.path.replace(".", "_")


RECURRENT: dict[str, Rule] = {
    "aten.rnn_tanh.input": _layers("rnn", activation="tanh"),
    "aten.rnn_relu.input": _layers("rnn", activation="relu"),
    "aten.gru.input": _layers("gru", linear_before_reset=True),
    "aten.lstm.input": _layers("lstm"),
    "aten.rnn_tanh_cell.default": _cell("rnn", activation="tanh"),
    "aten.rnn_relu_cell.default": _cell("rnn", activation="relu"),
    "aten.gru_cell.default": _cell("gru", linear_before_reset=True),
    "aten.lstm_cell.default": _cell("lstm"),
}
