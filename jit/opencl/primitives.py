"""How each primitive is spelled in OpenCL C, for a scalar or a vector of float32.

Simple ones are operators and `fma`; the others are functions that go in front of the kernels, one
for each width in use.  The library's own exp (3 ULP) and tanh (5 ULP) are too loose for
`jit.primitives` and its max loses NaN, so only what OpenCL 1.2 rounds correctly is called: fma,
rint, ldexp, and division and sqrt where `rounded-divide` is had.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from string import Template

import numpy as np

from jit.polynomials import (
    ATANH,
    ERF_EDGE,
    ERF_END,
    ERF_NEAR,
    ERF_TAIL,
    LN2_HIGH,
    LN2_LOW,
    exp_series,
)

Spelling = Callable[..., str]


def vector_type(lanes: int, element: str = "float") -> str:
    """The type of a value of so many lanes; one lane is a scalar."""
    return element if lanes == 1 else f"{element}{lanes}"


def literal(number: float) -> str:
    """A float32 constant: the shortest decimal that reads back as the same float32."""
    with np.errstate(over="ignore"):
        single = np.float32(number)
    if np.isnan(single):
        return "NAN"
    if np.isinf(single):
        return "INFINITY" if single > 0 else "-INFINITY"
    text = str(single)
    return f"{text}f" if "." in text or "e" in text else f"{text}.0f"


def _operator(symbol: str) -> Spelling:
    def spell(_lanes: int, a: str, b: str) -> str:
        return f"({a} {symbol} {b})"

    return spell


def _function(name: str) -> Spelling:
    def spell(lanes: int, *args: str) -> str:
        return f"{name}_{lanes}({', '.join(args)})"

    return spell


SPELLINGS: dict[str, Spelling] = {
    "add": _operator("+"),
    "sub": _operator("-"),
    "mul": _operator("*"),
    "div": _operator("/"),
    "fma": lambda _lanes, a, b, c: f"fma({a}, {b}, {c})",
    "abs": lambda _lanes, a: f"fabs({a})",
    "neg": lambda _lanes, a: f"(-{a})",
    "sqrt": lambda _lanes, a: f"sqrt({a})",
    **{name: _function(name) for name in ("maximum", "minimum", "exp", "expm1", "tanh", "sigmoid")},
    **{name: _function(name) for name in ("log", "log1p", "erf")},
}


def _horner(x: str, coefficients: Sequence[float]) -> str:
    """The polynomial at x."""
    total = f"($T)({literal(coefficients[-1])})"
    for coefficient in reversed(coefficients[:-1]):
        total = f"fma({total}, {x}, ($T)({literal(coefficient)}))"
    return total


# $T is the type, $I its integers and $W its lanes.  A comparison that holds is 1 for scalars and
# -1 in each lane of vectors, which is what `?:` wants of either.
_DEFINITIONS: dict[str, tuple[tuple[str, ...], str]] = {
    "maximum": ((), "static $T maximum_$W($T a, $T b) { return (a >= b) | isnan(a) ? a : b; }"),
    "minimum": ((), "static $T minimum_$W($T a, $T b) { return (a <= b) | isnan(a) ? a : b; }"),
    "exp": (
        ("maximum", "minimum"),
        f"""\
static $T exp_$W($T x) {{
    x = minimum_$W(maximum_$W(x, ($T)({literal(-105)})), ($T)({literal(89)}));
    const $T n = rint(x * {literal(1 / math.log(2))});
    $T r = fma(n, ($T)({literal(-LN2_HIGH)}), x);
    r = fma(n, ($T)({literal(-LN2_LOW)}), r);
    const $T tail = {_horner("r", exp_series(1, 7))};
    return ldexp(fma(tail, r, ($T)(1.0f)), convert_$I(n));
}}""",
    ),
    "expm1": (
        ("exp",),
        f"""\
static $T expm1_$W($T x) {{
    const $T r = minimum_$W(maximum_$W(x, ($T)({literal(-0.5)})), ($T)({literal(0.5)}));
    const $T near = r * {_horner("r", exp_series(1, 9))};
    return x == r ? near : exp_$W(x) - 1.0f;
}}""",
    ),
    "tanh": (
        ("expm1",),
        f"""\
static $T tanh_$W($T x) {{
    const $T r = minimum_$W(maximum_$W(x, ($T)({literal(-10)})), ($T)({literal(10)}));
    const $T m = expm1_$W(r + r);
    return m / (m + 2.0f);
}}""",
    ),
    "sigmoid": (("exp",), "static $T sigmoid_$W($T x) { return 1.0f / (1.0f + exp_$W(-x)); }"),
    "log": (
        (),
        f"""\
static $T log_$W($T x) {{
    const $T scaled = x < ($T)({literal(2.0**-126)}) ? x * {literal(2.0**24)} : x;
    const $I bits = as_$I(scaled);
    const $I exponent = (bits - as_$I(($T)({literal(math.sqrt(0.5))}))) >> 23;
    const $T whole = convert_$T(exponent);
    const $T e = x < ($T)({literal(2.0**-126)}) ? whole - 24.0f : whole;
    const $T f = as_$T(bits - (exponent << 23)) - 1.0f;
    const $T s = f / (f + 2.0f);
    const $T z = s * s;
    const $T rest = f - z * {_horner("z", ATANH)};
    const $T near = f - fma(s, rest, e * {literal(-LN2_LOW)});
    $T value = fma(e, ($T)({literal(LN2_HIGH)}), near);
    value = x < ($T)(INFINITY) ? value : x;
    value = x < ($T)(0.0f) ? ($T)(NAN) : value;
    return x == ($T)(0.0f) ? ($T)(-INFINITY) : value;
}}""",
    ),
    "log1p": (
        ("log",),
        f"""\
static $T log1p_$W($T x) {{
    const $T u = x + 1.0f;
    const $T whole = log_$W(u);
    $T value = whole + (x - (u - 1.0f)) / u;
    value = x > ($T)(-1.0f) ? value : whole;
    return x < ($T)({literal(2.0**24)}) ? value : whole;
}}""",
    ),
    "erf": (
        ("minimum", "exp"),
        f"""\
static $T erf_$W($T x) {{
    const $T size = fabs(x);
    const $T t = minimum_$W(size, ($T)({literal(ERF_END)}));
    const $T far = copysign(1.0f - exp_$W({_horner("t", ERF_TAIL)}), x);
    const $T square = t * t;
    const $T near = fma(x, {_horner("square", ERF_NEAR)}, x);
    return size < ($T)({literal(ERF_EDGE)}) ? near : far;
}}""",
    ),
}


def definitions(used: Iterable[tuple[str, int]]) -> list[str]:
    """The functions that (primitive, lanes) pairs need, each after those that it calls."""
    done: dict[tuple[str, int], str] = {}

    def need(name: str, lanes: int) -> None:
        calls, text = _DEFINITIONS.get(name, ((), ""))
        if not text or (name, lanes) in done:
            return
        for other in calls:
            need(other, lanes)
        types = {"T": vector_type(lanes), "I": vector_type(lanes, "int"), "W": str(lanes)}
        done[name, lanes] = Template(text).substitute(types)

    for name, lanes in sorted(used):
        need(name, lanes)
    return list(done.values())
