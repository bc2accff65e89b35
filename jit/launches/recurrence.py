"""Launches of a recurrence: for every time a product with the hidden weight, then the gates.

The kernels of one product serve every time: only where they read and write moves on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from jit.kernels.recurrent import Cell, CellKernel
from jit.launches.contraction import Contraction
from jit.launches.form import Launch, Lowering, Operand, launch
from jit.launches.plain import copy, strides_of, vectors
from jit.launches.products import product
from refimpl.plan import Step, states
from refimpl.plan.recurrence import States
from refimpl.plan.turned import own_scratch


def recurrence(to: Lowering, step: Step) -> Iterator[Launch]:
    """The given states copied to their rows, then every time after another."""
    work = _Recurrence(to, step, states(to.plan, step), to.operand(step.name))
    for state, name in enumerate(step.inputs[1:]):
        given, rows = to.operand(name), work.rows(state, work.table.given)
        shape = given.place.shape
        yield from copy(to, step, given, rows, shape, strides_of(given), strides_of(rows))
    scratch = [to.operand(name) for name in own_scratch(step)]
    product = list(work.product(work.rows(0, 0), scratch[0]))
    if work.table.kind != "gru_reset_first":
        for at, before, after in work.table.order():
            yield from (work.moved(each, before) for each in product)
            yield from work.cell(work.table.kind, at, before, after, {"s": scratch[0]})  # type: ignore[arg-type]
        return
    s, reset, q = scratch
    second = list(work.product(reset, q))
    for at, before, after in work.table.order():
        yield from (work.moved(each, before) for each in product)
        yield from work.cell("gru_reset", at, before, after, {"s": s, "y": reset})
        yield from second
        yield from work.cell("gru_update", at, before, after, {"s": s, "q": q})


@dataclass(frozen=True)
class _Recurrence:
    to: Lowering
    step: Step
    table: States
    y: Operand

    def rows(self, state: int, time: int) -> Operand:
        """One state at one time."""
        return self.y.rows(self.table.row(state, time), self.table.batch)

    def product(self, x: Operand, s: Operand) -> Iterator[Launch]:
        """The launches of s = x W_hidden^T + b_hidden."""
        yield from product(self.to, Contraction(self.step, x, s, None, ()))

    def moved(self, made: Launch, time: int) -> Launch:
        """A product of the state at time 0, made one of the state at another time."""
        start = self.rows(0, 0)
        far = self.rows(0, time).ref.offset - start.ref.offset
        begin, end = start.ref.offset, start.ref.offset + 4 * start.room
        refs = {
            n: replace(r, offset=r.offset + far)
            if r.segment == start.ref.segment and begin <= r.offset < end
            else r
            for n, r in made.buffers
        }
        return replace(made, buffers=tuple(refs.items()))

    def cell(
        self, kind: Cell, at: int, before: int, after: int, given: dict[str, Operand]
    ) -> Iterator[Launch]:
        """The gates of one time: whole vectors of channels, then the rest.

        `given` are operands beside the input's part and the states.
        """
        z = self.to.operand(self.step.inputs[0])
        operands = {"z": z.rows(at * self.table.batch, self.table.batch)}
        operands |= {"h": self.rows(0, before), "y": self.rows(0, after)}
        if self.table.kind == "lstm":
            operands |= {"c": self.rows(1, before), "d": self.rows(1, after)}
        operands |= given
        channels = self.y.place.shape[1]
        sizes = {"N": self.table.batch}
        for letter, operand in operands.items():
            sizes[f"{letter.upper()}N"] = operand.place.layout.strides(operand.place.shape)[0]
        sizes |= {f"{letter}G": channels for letter in "ZSQ"}
        machine = self.to.target
        for begin, end, width in vectors(channels, machine.lanes):
            here = {letter: operand.skip(begin) for letter, operand in operands.items()}
            kernel = CellKernel(kind, machine.has("fma"), width, grid=machine.grid)
            yield launch(self.step, kernel, here, {**sizes, "H": end - begin})
