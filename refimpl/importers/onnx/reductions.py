"""Reductions over axes, and softmax."""

from __future__ import annotations

import math
from collections.abc import Callable

from refimpl.importers.onnx.call import Call
from refimpl.importers.onnx.operands import Operand

Rule = Callable[[Call], Operand]
Reduce = Callable[[str, Operand], Operand]
Form = Callable[[Call, Operand, Reduce], Operand]


def reduction(form: Form, axes_are_input_since: int = 18) -> Rule:
    """The rule of a reduction.

    Args:
        form: how it is composed: (call, x, reduce), where reduce(op, y) is `op` over the node's
            axes.
        axes_are_input_since: the opset in which `axes` became an input.
    """

    def rule(call: Call) -> Operand:
        x = call.operand(0)
        given = call.ints_or_attribute(1, "axes", axes_are_input_since)
        keep_all = bool(call.attribute("noop_with_empty_axes", 0))
        keepdims = bool(call.attribute("keepdims", 1))
        if not given:
            given = () if keep_all else range(len(x.shape))
        axes = tuple(sorted(call.axes(given, len(x.shape))))

        def reduce(op: str, y: Operand) -> Operand:
            return call.add(op, y, axes=axes, keepdims=keepdims) if axes else y

        return form(call, x, reduce)

    return rule


def plain(op: str) -> Form:
    """A reduction that the Graph has as it is."""
    return lambda _, x, reduce: reduce(op, x)


def l1(call: Call, x: Operand, reduce: Reduce) -> Operand:
    """Sum of |x|."""
    return reduce("sum", call.add("abs", x))


def l2(call: Call, x: Operand, reduce: Reduce) -> Operand:
    """Square root of the sum of squares."""
    return call.add("sqrt", sum_of_squares(call, x, reduce))


def sum_of_squares(call: Call, x: Operand, reduce: Reduce) -> Operand:
    """Sum of x^2."""
    return reduce("sum", call.add("mul", x, x))


def log_of_sum(call: Call, x: Operand, reduce: Reduce) -> Operand:
    """log of the sum of x."""
    return call.add("log", reduce("sum", x))


def log_of_sum_of_powers(call: Call, x: Operand, reduce: Reduce) -> Operand:
    """log of the sum of exp(x), relative to the maximum, so that no power overflows."""
    top = reduce("max", x)
    if top is x:
        return x
    # The maximum under x's axes, whichever of them the reduction keeps.
    spread = call.reshape(top, _with_ones(call, x))
    powers = call.add("exp", call.add("sub", x, spread))
    return call.add("add", call.add("log", reduce("sum", powers)), top)


def _with_ones(call: Call, x: Operand) -> tuple[int, ...]:
    axes = call.ints_or_attribute(1, "axes", 18) or range(len(x.shape))
    reduced = call.axes(axes, len(x.shape))
    return tuple(1 if axis in reduced else size for axis, size in enumerate(x.shape))


def softmax(op: str) -> Rule:
    """Softmax, LogSoftmax: along one axis; before opset 13 over all axes from one on, as one."""

    def rule(call: Call) -> Operand:
        x = call.operand(0)
        rank = len(x.shape)
        axis = call.attribute("axis", -1 if call.opset >= 13 else 1)
        if call.opset >= 13:
            return call.add(op, x, axis=call.axis(axis, rank))
        # ONNX allows the end here too: then every row is one value.
        axis = rank if axis == rank else call.axis(axis, rank)
        rows = math.prod(x.shape[:axis])
        flat = call.reshape(x, (rows, math.prod(x.shape[axis:])))
        return call.reshape(call.add(op, flat, axis=1), x.shape)

    return rule
