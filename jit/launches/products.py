"""Launches of products with packed weights, by what their vectors hold."""

from __future__ import annotations

from collections.abc import Iterator

from jit.launches.batch import batch_product
from jit.launches.block import block_product
from jit.launches.contraction import Contraction, contract
from jit.launches.form import Launch, Lowering
from jit.launches.listed import listed_conv
from jit.launches.panel import panel_conv
from jit.launches.winograd import winograd
from refimpl.plan import Step, output_positions


def conv(to: Lowering, step: Step) -> Iterator[Launch]:
    """The launches of a convolution or linear layer."""
    if step.winograd is not None:
        yield from winograd(to, step, step.winograd)
        return
    residual = to.operand(step.residual) if step.residual else None
    x, y = to.operand(step.inputs[0]), to.operand(step.name)
    work = Contraction(step, x, y, residual, output_positions(to.plan, step))
    if work.schedule.storage:
        yield from listed_conv(to, work)
    else:
        yield from panel_conv(to, work) if work.schedule.panel else product(to, work)


def product(to: Lowering, work: Contraction) -> Iterator[Launch]:
    """The launches of a contraction whose vectors hold filters."""
    if work.schedule.turned:
        yield from batch_product(to, work)
    else:
        yield from block_product(to, work) if work.schedule.strip else contract(to, work)
