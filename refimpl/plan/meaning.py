"""The interpreter of Plans: what every step computes, in float64, whatever runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from refimpl.ops import OPERATORS
from refimpl.plan.check import check
from refimpl.plan.form import Plan, Step
from refimpl.plan.recurrence import States, run
from refimpl.tiles import unpack


def evaluate(plan: Plan, *inputs: np.ndarray, fast: bool = True) -> dict[str, np.ndarray]:
    """Every value by name, float64: what the Plan computes, whatever runs it."""
    check(plan)
    values = {name: np.asarray(x, np.float64) for name, x in zip(plan.inputs, inputs, strict=True)}
    for step in plan.steps:
        with np.errstate(all="ignore"):
            values[step.name] = evaluate_step(plan, step, values, fast=fast)
    return values


def read_values(plan: Plan, step: Step, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every value that the step reads, float64; constants from the Plan, others from `values`."""
    return {name: _value(plan, name, values) for name in step.reads}


def _value(plan: Plan, name: str, values: Mapping[str, np.ndarray]) -> np.ndarray:
    constant = plan.places[name].segment == "constant"
    return np.asarray(plan.constants[name].array if constant else values[name], np.float64)


def evaluate_step(
    plan: Plan, step: Step, values: Mapping[str, np.ndarray], *, fast: bool = True
) -> np.ndarray:
    """What one step computes from the values it reads, float64, in its place's shape."""
    x = [_value(plan, name, values) for name in step.inputs]
    y = _operate(plan, step, x, fast)
    y = y.reshape(plan.places[step.name].shape)
    if step.residual:
        y = y + _value(plan, step.residual, values)
    return activate(step, y) if step.activation else y


def _operate(plan: Plan, step: Step, x: list[np.ndarray], fast: bool) -> np.ndarray:
    match step.op:
        case "conv":
            return _convolve(plan, step, x[0], fast)
        case "winograd_conv":
            weight, stored = unpack(plan.weights[step.weight])
            given = (weight.astype(np.float64), _constant(plan, step.bias))
            meaning = _meaning(step.op, fast)
            return meaning(x[0], *given, kept=stored, **dict(step.attributes))
        case "depthwise":
            return _depthwise(plan, step, x[0], fast)
        case "affine":
            scale, shift = (_constant(plan, name) for name in (step.weight, step.bias))
            each = (1, -1) + (1,) * (x[0].ndim - 2)
            return x[0] * scale.reshape(each) + shift.reshape(each)
        case "activation" | "relayout":
            return x[0]
        case "recurrence":
            return run(states(plan, step), x[0], x[1:], hidden_product(plan, step, fast))
    return _meaning(step.op, fast)(*x, **dict(step.attributes))


def states(plan: Plan, step: Step) -> States:
    """The table of states that a `recurrence` computes."""
    attributes = dict(step.attributes)
    batch = plan.places[step.inputs[1]].shape[0]
    steps = plan.places[step.inputs[0]].shape[0] // batch
    return States(attributes["kind"], attributes["reverse"], steps, batch)


def hidden_product(plan: Plan, step: Step, fast: bool) -> Callable[[np.ndarray], np.ndarray]:
    """The product of a `recurrence` with its hidden weight, and its bias."""
    return lambda h: _convolve(plan, step, h, fast)


def _convolve(plan: Plan, step: Step, x: np.ndarray, fast: bool) -> np.ndarray:
    weight, stored = unpack(plan.weights[step.weight])
    attributes = {**dict(step.attributes), "groups": 1} if x.ndim > 2 else {}
    meaning = _meaning("conv" if x.ndim > 2 else "linear", fast)
    bias = _constant(plan, step.bias)
    return meaning(x, weight.astype(np.float64), bias, kept=stored, **attributes)


def _depthwise(plan: Plan, step: Step, x: np.ndarray, fast: bool) -> np.ndarray:
    weight, bias = _constant(plan, step.weight), _constant(plan, step.bias)
    given = {**dict(step.attributes), "groups": len(weight)}
    return _meaning("conv", fast)(x, weight, bias, **given)


def _meaning(op: str, fast: bool) -> Callable[..., np.ndarray]:
    """What an operator of the Graph means, or its vectorised twin where there is one."""
    operator = OPERATORS[op]
    return operator.fast if fast and operator.fast else operator.evaluate


def _constant(plan: Plan, name: str) -> np.ndarray:
    return plan.constants[name].array.astype(np.float64)


def activate(step: Step, y: np.ndarray) -> np.ndarray:
    """The step's activation at y."""
    assert step.activation is not None
    name, numbers = step.activation
    operator = OPERATORS[name]
    return operator.evaluate(y, **dict(zip(operator.attributes, numbers, strict=True)))
