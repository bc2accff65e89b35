"""Recurrent cells: from the products of one time step to the new state, for N rows.

z holds the input's part of every gate (its product and bias), s the hidden state's part; gates
lie in torch's order, G of them, H values each.  With a = z[g] + s[g] for gate g:

    rnn_tanh, rnn_relu   y = tanh(a), y = max(a, 0)
    gru                  r = sigmoid(a_r), u = sigmoid(a_z), t = tanh(z_n + r*s_n)
                         y = (1 - u)*t + u*h                      (the reset gate after the product)
    gru_reset            y = sigmoid(a_r)*h                       (the reset gate before it ...
    gru_update           u = sigmoid(a_z), t = tanh(z_n + q_n)    ... q being the product of y of
                         y = (1 - u)*t + u*h                          gru_reset; h stays the state)
    lstm                 d = sigmoid(a_f)*c + sigmoid(a_i)*tanh(a_g), y = sigmoid(a_o)*tanh(d)

So a step of the original GRU is: product of h, gru_reset, product of its y, gru_update.  gru_reset
reads gate 0 of s alone, gru_update gate 1 of s and gate 2 of q.

Buffers and the strides of their rows: z ZN, s SN, q QN, h HN, c CN (the cell before), y YN, d DN
(the cell after); ZG, SG and QG from gate to gate.  Sums a*b + c*d round the second product, then
product and sum (once if fused); every other operation rounds once, primitives by their ulps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jit.index import index
from jit.kernels.conv import multiply_add
from jit.kernels.plain import plain_buffer
from jit.program import (
    Const,
    Load,
    Param,
    Program,
    Registers,
    Role,
    Statement,
    Store,
    Value,
    call,
    nest,
)

Cell = Literal["rnn_tanh", "rnn_relu", "gru", "gru_reset", "gru_update", "lstm"]


@dataclass(frozen=True)
class CellKernel:
    """One cell; H is a multiple of `lanes`."""

    kind: Cell
    fused: bool
    lanes: int = 1
    grid: bool = False

    @property
    def name(self) -> str:
        """Kind and lanes."""
        return f"f32_{self.kind}_cell_v{self.lanes}"

    @property
    def gates(self) -> int:
        """G."""
        return {"rnn_tanh": 1, "rnn_relu": 1, "lstm": 4}.get(self.kind, 3)


_ROW = (index("n"), index("i"))
_STATES: dict[str, tuple[tuple[str, Role], ...]] = {
    "rnn_tanh": (("y", "write"),),
    "rnn_relu": (("y", "write"),),
    "lstm": (("c", "read"), ("d", "update"), ("y", "write")),
}
_GRU_STATES: tuple[tuple[str, Role], ...] = (("h", "read"), ("y", "write"))


def naive_cell(kernel: CellKernel) -> Program:
    """Value by value; sigmoids and tanhs that are used twice rest in registers."""
    states = _STATES.get(kernel.kind, _GRU_STATES)
    params = [Param("N", 1), Param("H", 1, multiple=kernel.lanes)]
    products = "zsq" if kernel.kind == "gru_update" else "zs"
    params += [Param(f"{b.upper()}{a}") for b in products for a in "NG"]
    params += [Param(f"{name.upper()}N") for name, _ in states]
    gates = [index("N"), index(kernel.gates), index("H")]
    buffers = [
        plain_buffer(b, "read", gates, [f"{b.upper()}N", f"{b.upper()}G", 1]) for b in products
    ]
    buffers += [
        plain_buffer(name, role, [index("N"), index("H")], [f"{name.upper()}N", 1])
        for name, role in states
    ]
    body = nest([("n", index("N")), ("i", index("H"))], *_step(kernel))
    return Program(kernel.name, tuple(params), tuple(buffers), (body,))


def _part(buffer: str, gate: int) -> Load:
    return Load(buffer, (index("n"), index(gate), index("i")))


def _gate(primitive: str, gate: int) -> Value:
    return call(primitive, call("add", _part("z", gate), _part("s", gate)))


def _step(kernel: CellKernel) -> tuple[Statement, ...]:
    h, c, d = (Load(name, _ROW) for name in "hcd")
    match kernel.kind:
        case "rnn_tanh":
            return (Store("y", _ROW, _gate("tanh", 0)),)
        case "rnn_relu":
            total = call("add", _part("z", 0), _part("s", 0))
            return (Store("y", _ROW, call("maximum", total, Const(0.0))),)
        case "gru":
            product = multiply_add(kernel.fused, _gate("sigmoid", 0), _part("s", 2), _part("z", 2))
            return _update(kernel, call("tanh", product))
        case "gru_reset":
            return (Store("y", _ROW, call("mul", _gate("sigmoid", 0), h)),)
        case "gru_update":
            candidate = call("add", _part("z", 2), _part("q", 2))
            return _update(kernel, call("tanh", candidate))
        case "lstm":
            entering = call("mul", _gate("sigmoid", 0), _gate("tanh", 2))
            cell = multiply_add(kernel.fused, _gate("sigmoid", 1), c, entering)
            out = call("mul", _gate("sigmoid", 3), call("tanh", d))
            return (Store("d", _ROW, cell), Store("y", _ROW, out))


def _update(kernel: CellKernel, candidate: Value) -> tuple[Statement, ...]:
    """y = (1 - u)*t + u*h with u = sigmoid(a_z) and t the candidate."""
    u, t = (Load(name, (index(0),)) for name in "ut")
    rest = call("mul", call("sub", Const(1.0), u), t)
    return (
        Registers("u", (1,)),
        Registers("t", (1,)),
        Store("u", u.subscript, _gate("sigmoid", 1)),
        Store("t", t.subscript, candidate),
        Store("y", _ROW, multiply_add(kernel.fused, u, Load("h", _ROW), rest)),
    )
