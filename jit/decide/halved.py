"""Weights in 16 bits: which layers' are, and how much that changes them.

Where every weight is read once for each row, time is bytes: linear layers and recurrences.  Their
weights may be stored as float16 and are widened as they are loaded; every sum stays in float32.
What a Plan means by such a layer is its weights as they are stored.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from jit.decide.draft import Draft
from jit.target import Target
from refimpl.graph import Shape
from refimpl.plan import Plan, PlanError
from refimpl.tiles import Tiles, narrowed

Weights = Literal["float32", "float16"]
"""As what the weights of linear layers and recurrences are stored."""


def check_weights(weights: str, target: Target) -> None:
    """Raise PlanError unless code for the target can read weights stored so."""
    if weights not in get_args(Weights):
        raise PlanError(f"no weights are stored as {weights!r}; float32 or float16 are possible")
    if weights == "float16" and not target.has("f16c"):
        raise PlanError(
            f"{target.name} has no instruction that widens float16; plan with float32 weights, or "
            "for a CPU that has it: aarch64, or x86-64 with AVX2"
        )


def check_stored(plan: Plan, weights: str) -> None:
    """Raise PlanError where no layer's weights are stored as was asked for."""
    if weights == "float16" and all(t.dtype == np.float32 for t in plan.weights.values()):
        raise PlanError(
            f"{plan.name}: none of its layers is linear or recurrent, and no others' weights are "
            "stored as float16; plan it with float32 weights"
        )


def is_halved(weights: str, draft: Draft, output: Shape) -> bool:
    """Whether a layer's weights are stored in 16 bits: each is read once for a row of outputs."""
    return weights == "float16" and (draft.op == "recurrence" or len(output) == 2)


def halved(name: str, tiles: Tiles) -> tuple[Tiles, float]:
    """The tiles in float16, and the largest change of a weight relative to the largest weight.

    Raises:
        PlanError: a finite weight has no finite neighbour in float16; it names the layer.
    """
    result, largest, change = narrowed(tiles), 0.0, 0.0
    for before, after in zip(tiles, result, strict=True):
        finite = np.isfinite(before.values)
        old, new = before.values[finite], after.values[finite].astype(np.float32)
        if not np.isfinite(new).all():
            raise PlanError(
                f"{name}: a weight of {np.abs(old).max():.6g} is beyond float16, which ends "
                "at 65504; plan it with float32 weights"
            )
        largest = max(largest, float(np.abs(old).max(initial=0)))
        change = max(change, float(np.abs(new - old).max(initial=0)))
    return result, change / largest if largest else 0.0
