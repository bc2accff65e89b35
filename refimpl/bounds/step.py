"""The bound of a step: its operation's, then its activation's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from refimpl.bounds import contractions, elementwise, normalisation, reductions
from refimpl.bounds.activations import activation_bound
from refimpl.bounds.arithmetic import Arithmetic, finite, known
from refimpl.bounds.recurrence import recurrence
from refimpl.bounds.winograd import winograd
from refimpl.plan import Plan, Step, activate, evaluate_step, read_values

_EXACT = (
    "activation",
    "relayout",
    "reshape",
    "transpose",
    "slice",
    "concat",
    "expand",
    "take",
    "embedding",
    "maximum",
    "minimum",
    "max",
    "min",
    "max_pool",
    "adaptive_max_pool",
)
"""Operations that move or choose values; an `activation` errs in its activation alone."""


def bounded_step(
    plan: Plan, step: Step, values: Mapping[str, np.ndarray], machine: Arithmetic
) -> tuple[np.ndarray, np.ndarray]:
    """What one step computes from the values it reads, and the bound of the machine's code.

    Args:
        plan, step: the step of the plan.
        values: what the step reads but for constants, by name; for a `recurrence` also the value
            that the machine computed, under the step's name: each time is judged on the states
            before it as they were computed, and `exact` is what follows from them.
        machine: whose code is held to the bound.

    Returns:
        (exact, bound), float64 in the value's shape. Bound 0 demands equality, infinity judges
        nothing.

    Raises:
        KeyError: an operation or activation without an error model.
    """
    given = read_values(plan, step, values)
    with np.errstate(all="ignore"):
        if step.op == "recurrence":
            computed = np.asarray(values[step.name], np.float64)
            states = recurrence(plan, step, given, computed, machine)
            y, bound = states.exact, states.error
        else:
            y = evaluate_step(plan, replace(step, activation=None), given)
            error = _operation_bound(plan, step, given, y, machine)
            bound = error.reshape(y.shape) if error.size == y.size else np.full(y.shape, error)
        if step.activation is not None:
            # A 0 that was computed is of either sign, which its reciprocal would tell.
            blind = step.activation[0] == "reciprocal" and step.op != "activation"
            bound = np.where(blind & (y == 0), np.inf, bound)
            bound = activation_bound(step.activation, y, bound, machine)
            y = activate(step, y)
        return y, _whole(y, bound, machine)


def _whole(y: np.ndarray, bound: np.ndarray, machine: Arithmetic) -> np.ndarray:
    """The bound with what flushing takes from y; infinite where y may pass the largest number."""
    size = np.abs(finite(y))
    bound = np.where((y != 0) & (size < machine.lost), bound + machine.lost, bound)
    # The last factor is for the rounding of `exact` itself, float64 that it is.
    return np.where(size + bound >= machine.format.largest, np.inf, bound * (1 + 2.0**-20))


def _operation_bound(
    plan: Plan,
    step: Step,
    given: Mapping[str, np.ndarray],
    y: np.ndarray,
    machine: Arithmetic,
) -> np.ndarray:
    """Error of a step before its activation, of as many elements as y or of one; y is exact."""
    x = [given[name] for name in step.inputs]
    attributes = dict(step.attributes)
    match step.op:
        case op if op in _EXACT:
            return np.zeros(())
        case "conv" | "winograd_conv" if step.winograd is not None:
            return winograd(plan, step, given, y, machine)
        case "conv":
            return contractions.conv(plan, step, given, y, machine)
        case "depthwise":
            return contractions.depthwise(plan, step, given, y, machine)
        case "matmul":
            return contractions.matmul(x[0], x[1], machine)
        case "affine":
            return elementwise.affine(plan, step, x[0], machine).error
        case "add" | "sub" | "mul" | "div":
            return elementwise.pair(step.op, x[0], x[1], machine).error
        case "prelu":
            return elementwise.prelu(x[0], x[1], machine).error
        case "pad":
            return elementwise.pad(step, x[0], machine)
        case "upsample":
            return elementwise.upsample(step, x[0], machine)
        case "avg_pool" | "adaptive_avg_pool":
            return reductions.average_pool(step, x[0], y, machine)
        case "sum":
            return machine.total(known(x[0]), attributes["axes"]).error
        case "mean":
            return machine.mean(known(x[0]), attributes["axes"]).error
        case "softmax":
            return reductions.softmax(x[0], attributes["axis"], machine).error
        case "log_softmax":
            return reductions.log_softmax(x[0], attributes["axis"], machine).error
        case "layer_norm":
            return normalisation.layer_norm(x, attributes, machine).error
        case "group_norm":
            return normalisation.group_norm(x, attributes, machine).error
        case "rms_norm":
            return normalisation.rms_norm(x, attributes, machine).error
        case "local_response_norm":
            return normalisation.local_response_norm(x, attributes, machine).error
    raise KeyError(f"{step.name}: no bound is known for `{step.op}`")
