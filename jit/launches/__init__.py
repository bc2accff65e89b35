"""From the steps of a Plan to launches: which kernel runs on which memory with which numbers.

A step becomes one launch, or several where its shape is cut into regions (strips of two heights,
ragged ends), where it moves several things (concat) or where one time follows another
(recurrence).  Launches that zero the halo of the value it computes come first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from jit.launches import (
    channelwise,
    depthwise,
    gather,
    matmul,
    plain,
    products,
    recurrence,
    reductions,
    relayout,
)
from jit.launches.form import Launch, Lowering, Ref, segment_of
from jit.target import Target
from refimpl.plan import CONVOLUTIONS, ELEMENTWISE, Plan, Step

__all__ = ["Launch", "Ref", "launches", "segment_of"]

Rule = Callable[[Lowering, Step], Iterator[Launch]]


RULES: dict[str, Rule] = {
    **dict.fromkeys(CONVOLUTIONS, products.conv),
    "depthwise": depthwise.depthwise,
    "recurrence": recurrence.recurrence,
    "relayout": relayout.relayout,
    "affine": channelwise.element,
    "max_pool": channelwise.pool,
    "avg_pool": channelwise.pool,
    "adaptive_avg_pool": channelwise.pool,
    "adaptive_max_pool": channelwise.pool,
    **dict.fromkeys(ELEMENTWISE, plain.pairs),
    "reshape": plain.reshape,
    "transpose": plain.transpose,
    "slice": plain.slice_,
    "concat": plain.concat,
    "pad": plain.pad,
    "expand": plain.expand,
    "take": gather.take,
    "upsample": gather.upsample,
    "embedding": gather.embedding,
    "matmul": matmul.matmul,
    "softmax": reductions.softmax,
    "log_softmax": reductions.softmax,
    **dict.fromkeys(reductions.REDUCE, reductions.reduce),
    "layer_norm": reductions.norm,
    "rms_norm": reductions.norm,
    "group_norm": reductions.group_norm,
    "local_response_norm": reductions.local_response_norm,
}
"""What makes the launches of each operation."""

IN_ORDER = ("pad",)
"""Operations of which one launch may write what another one of the step wrote before, and nothing
reads in between."""


def launches(plan: Plan, target: Target) -> tuple[list[Launch], bytes]:
    """Every launch of the Plan in order, and the image of the constants segment."""
    to = Lowering(plan, target)
    result = [launch for step in plan.steps for launch in _launches(to, step)]
    return result, to.constants.image()


def _launches(to: Lowering, step: Step) -> Iterator[Launch]:
    for margin in channelwise.margins(to, step):
        yield replace(margin, piece="margin")  # corners are zeroed twice, in whatever order
    rule = channelwise.element if channelwise.in_blocks(to, step) else RULES[step.op]
    for launch in rule(to, step):
        yield launch if _in_order(step) else replace(launch, piece="region")


def _in_order(step: Step) -> bool:
    """Whether launches of the step add to what others of it left."""
    added = step.schedule is not None and not step.schedule.over_filters
    return added or step.op in IN_ORDER
