"""The states of a recurrent layer, each judged on the states before it that the machine computed.

Errors do not pile up over time this way: one cell is bounded, not the chain.  With the product
s = h W^T + b (a sum of products as any other) and the input's part z, all given by the machine,

    rnn                 a(z + s)
    lstm                c = f * c + i * g,  h = o * tanh(c)     of i, f, o = sigmoid(z + s),
                                                                   g = tanh(z + s)
    gru                 (1 - u) * n + u * h                     of r, u = sigmoid(z + s),
                                                                   n = tanh(z + r * s)
    gru_reset_first     the same with n = tanh(z + s'), s' = (r * h) W^T + b: the error of r * h
                        enters s' times |W|

where every sum and product is one of `Arithmetic`, and a gate carries the error of its argument
by its Lipschitz constant (1/4 for sigmoid, 1 for tanh and relu) beside its own.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from refimpl.bounds.activations import activation_bound
from refimpl.bounds.arithmetic import Arithmetic, Near, known
from refimpl.bounds.contractions import stored_products
from refimpl.ops import OPERATORS
from refimpl.plan import Plan, Step, states
from refimpl.plan.meaning import hidden_product
from refimpl.plan.recurrence import KINDS, rows


def recurrence(
    plan: Plan,
    step: Step,
    given: Mapping[str, np.ndarray],
    computed: np.ndarray,
    machine: Arithmetic,
) -> Near:
    """The table of states.

    Args:
        plan, step: of the operation `recurrence`.
        given: what the step reads.
        computed: the table [S*(T+1)*N, H] as the machine computed it.
        machine: what computed it.
    """
    table = states(plan, step)
    z, *first = (given[name] for name in step.inputs)
    exact, error = np.zeros(computed.shape), np.zeros(computed.shape)
    for state, value in enumerate(first):
        rows(exact, table, state, table.given)[:] = value
    cell = _Cell(plan, step, machine)
    for at, before, after in table.order():
        inputs = z[at * table.batch : (at + 1) * table.batch]
        held = [rows(computed, table, state, before) for state in range(table.count)]
        for state, new in enumerate(cell.states(inputs, held)):
            rows(exact, table, state, after)[:] = new.exact
            rows(error, table, state, after)[:] = new.error
    return Near(exact, error)


class _Cell:
    """One time of the layer."""

    def __init__(self, plan: Plan, step: Step, machine: Arithmetic):
        self.plan, self.step, self.machine = plan, step, machine
        self.kind = str(dict(step.attributes)["kind"])
        self.product = hidden_product(plan, step, fast=True)

    def states(self, inputs: np.ndarray, held: list[np.ndarray]) -> list[Near]:
        """The states after the input's part [N, G*H] and those before, each [N, H]."""
        z, h = self._gates(known(inputs)), known(held[0])
        s = self._gates(self._hidden(h))
        match self.kind:
            case "rnn_tanh" | "rnn_relu":
                return [self._gate(self.kind.removeprefix("rnn_"), z[0], s[0])]
            case "lstm":
                return self._lstm(z, s, known(held[1]))
        return [self._gru(z, s, h)]

    def _lstm(self, z: list[Near], s: list[Near], c: Near) -> list[Near]:
        add, mul = self.machine.add, self.machine.mul
        names = ("sigmoid", "sigmoid", "tanh", "sigmoid")
        i, f, g, o = (self._gate(*gate) for gate in zip(names, z, s, strict=True))
        c = add(mul(f, c), mul(i, g))
        return [mul(o, self._activate("tanh", c)), c]

    def _gru(self, z: list[Near], s: list[Near], h: Near) -> Near:
        add, sub, mul = self.machine.add, self.machine.sub, self.machine.mul
        r, u = (self._gate("sigmoid", z[k], s[k]) for k in (0, 1))
        held = self._gates(self._hidden(mul(r, h)))[2] if self.kind != "gru" else mul(r, s[2])
        n = self._gate("tanh", z[2], held)
        return add(mul(sub(known(1.0), u), n), mul(u, h))

    def _gate(self, name: str, z: Near, s: Near) -> Near:
        return self._activate(name, self.machine.add(z, s))

    def _activate(self, name: str, a: Near) -> Near:
        exact = OPERATORS[name].evaluate(a.exact)
        error = activation_bound((name, ()), a.exact, a.error, self.machine)
        return self.machine.bounded(exact, error)

    def _hidden(self, h: Near) -> Near:
        """h W^T + b."""
        error = stored_products(self.plan, self.step, h, self.machine)
        return self.machine.bounded(self.product(h.exact), error)

    def _gates(self, values: Near) -> list[Near]:
        size = values.exact.shape[1] // KINDS[self.kind]
        return [values[:, k * size : (k + 1) * size] for k in range(KINDS[self.kind])]
