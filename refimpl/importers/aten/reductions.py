"""Sums, means, extremes and what is made of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from refimpl.importers.aten.arguments import Ints, Rule, axes
from refimpl.importers.call import Call, Operand, Value

_LARGEST = float(np.finfo(np.float32).max)


def _reduction(op: str) -> Rule:
    """The rule of a reduction over some axes, or over all."""

    def rule(
        call: Call,
        self: Value,
        dim: Ints | None = None,
        keepdim: bool = False,
        dtype: str | None = None,
    ) -> str:
        _require_float32(call, dtype)
        return _reduce(call, op, self, dim, keepdim)

    return rule


def _extreme_along(op: str) -> Rule:
    """The rule of max and min along one axis, whose places have no counterpart."""

    def rule(call: Call, self: Value, dim: int, keepdim: bool = False) -> Sequence[str | None]:
        return _reduce(call, op, self, dim, keepdim), None

    return rule


def _extreme(op: str) -> Rule:
    """The rule of max and min over some axes, or over all."""

    def rule(call: Call, self: Value, dim: Ints | None = None, keepdim: bool = False) -> str:
        return _reduce(call, op, self, dim, keepdim)

    return rule


def _reduce(call: Call, op: str, x: Value, dim: Ints | None, keepdim: bool) -> str:
    if not x.shape:
        return call.add("identity", x)
    return call.add(op, x, axes=axes(call, x, dim), keepdims=keepdim)


def _require_float32(call: Call, dtype: str | None) -> None:
    call.require(
        dtype in (None, "float32"),
        f"dtype=torch.{dtype} has no counterpart here; only torch.float32 has",
    )


def _var(
    call: Call,
    self: Value,
    dim: Ints | None = None,
    unbiased: bool = True,
    correction: float | None = None,
    keepdim: bool = False,
) -> str:
    """The mean square of what is left without the mean, over one less in number by default."""
    over = axes(call, self, dim)
    count = math.prod(self.shape[a] for a in over)
    less = correction if correction is not None else int(unbiased)
    call.require(count > less, f"the variance of {count} values less {less} is not defined")
    rest = call.add("sub", self, call.add("mean", self, axes=over, keepdims=True))
    square = call.add("mul", rest, rest)
    if less == 0:
        return call.add("mean", square, axes=over, keepdims=keepdim)
    total = call.add("sum", square, axes=over, keepdims=keepdim)
    return call.add("div", total, float(count - less))


def _std(
    call: Call,
    self: Value,
    dim: Ints | None = None,
    unbiased: bool = True,
    correction: float | None = None,
    keepdim: bool = False,
) -> str:
    return call.add("sqrt", _var(call, self, dim, unbiased, correction, keepdim))


def _var_mean(
    call: Call,
    self: Value,
    dim: Ints | None = None,
    unbiased: bool = True,
    correction: float | None = None,
    keepdim: bool = False,
) -> Sequence[str]:
    var = _var(call, self, dim, unbiased, correction, keepdim)
    return var, _reduce(call, "mean", self, dim, keepdim)


def _norm(
    call: Call,
    self: Value,
    ord: float = 2,
    dim: Ints | None = None,
    keepdim: bool = False,
    dtype: str | None = None,
) -> str:
    """Of order 1, 2 or infinite."""
    _require_float32(call, dtype)
    over = axes(call, self, dim)
    if ord in (1, math.inf):
        op = "sum" if ord == 1 else "max"
        return call.add(op, call.add("abs", self), axes=over, keepdims=keepdim)
    call.require(ord == 2, f"ord={ord} has no counterpart here; 1, 2 and inf have")
    squares = call.add("mul", self, self)
    return call.add("sqrt", call.add("sum", squares, axes=over, keepdims=keepdim))


def _norm_by_p(call: Call, self: Value, p: float | None, dim: Ints, keepdim: bool = False) -> str:
    return _norm(call, self, 2 if p is None else p, dim, keepdim)


def _logsumexp(call: Call, self: Value, dim: Ints, keepdim: bool = False) -> str:
    """The maximum, plus the logarithm of the sum of what is relative to it.

    An infinite maximum is held at the largest float32: relative to itself it would be NaN.
    """
    over = axes(call, self, dim)
    top = call.add("max", self, axes=over, keepdims=True)
    top = call.add("clamp", top, lo=-_LARGEST, hi=_LARGEST)
    powers = call.add("exp", call.add("sub", self, top))
    total = call.add("log", call.add("sum", powers, axes=over, keepdims=True))
    found: Operand = call.add("add", top, total)
    return str(found) if keepdim else call.add("reshape", found, shape=call.result)


REDUCTIONS: dict[str, Rule] = {
    "aten.mean.default": _reduction("mean"),
    "aten.mean.dim": _reduction("mean"),
    "aten.sum.default": _reduction("sum"),
    "aten.sum.dim_IntList": _reduction("sum"),
    "aten.amax.default": _extreme("max"),
    "aten.amin.default": _extreme("min"),
    "aten.max.default": _extreme("max"),
    "aten.min.default": _extreme("min"),
    "aten.max.dim": _extreme_along("max"),
    "aten.min.dim": _extreme_along("min"),
    "aten.var.default": _var,
    "aten.var.dim": _var,
    "aten.var.correction": _var,
    "aten.std.default": _std,
    "aten.std.dim": _std,
    "aten.std.correction": _std,
    "aten.var_mean.default": _var_mean,
    "aten.var_mean.dim": _var_mean,
    "aten.var_mean.correction": _var_mean,
    "aten.linalg_vector_norm.default": _norm,
    "aten.norm.ScalarOpt_dim": _norm_by_p,
    "aten.logsumexp.default": _logsumexp,
}
