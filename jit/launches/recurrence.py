"""Launches of a recurrence: for every time a product with the hidden weight, then the gates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from jit.kernels.recurrent import CellKernel
from jit.launches.contraction import Contraction, contract
from jit.launches.form import Launch, Lowering, Operand, launch
from jit.launches.plain import copy, strides_of
from refimpl.plan import Step, states
from refimpl.plan.recurrence import States


def recurrence(to: Lowering, step: Step) -> Iterator[Launch]:
    """The given states copied to their rows, then every time after another."""
    table, y = states(to.plan, step), to.operand(step.name)
    for state, name in enumerate(step.inputs[1:]):
        given, rows = to.operand(name), _rows(y, table, state, table.given)
        shape = given.place.shape
        yield from copy(to, step, given, rows, shape, strides_of(given), strides_of(rows))
    products = [list(_product(to, step, y, table, name)) for name in step.scratch]
    raise NotImplementedError(products)
