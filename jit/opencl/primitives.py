"""How each primitive is spelled in OpenCL C, for a scalar or a vector of float32.

Simple ones are operators and `fma`; the others are functions that go in front of the kernels, one
for each width in use.  The library's own exp (3 ULP) and tanh (5 ULP) are too loose for
`jit.primitives` and its max loses NaN, so only what OpenCL 1.2 rounds correctly is called: fma,
rint, ldexp, and division where `rounded-divide` is had.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from string import Template

import numpy as np

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
    **{name: _function(name) for name in ("maximum", "minimum", "exp", "expm1", "tanh", "sigmoid")},
}


def _taylor(first: int, last: int) -> str:
    """Sum of r^(k-first)/k! for k in first..last, by Horner's rule."""
    total = f"($T)({literal(1 / math.factorial(last))})"
    for k in range(last - 1, first - 1, -1):
        total = f"fma({total}, r, ($T)({literal(1 / math.factorial(k))}))"
    return total


_LN2_HIGH, _LN2_LOW = 0.693359375, math.log(2) - 0.693359375

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
    $T r = fma(n, ($T)({literal(-_LN2_HIGH)}), x);
    r = fma(n, ($T)({literal(-_LN2_LOW)}), r);
    const $T tail = {_taylor(1, 7)};
    return ldexp(fma(tail, r, ($T)(1.0f)), convert_$I(n));
}}""",
    ),
    "expm1": (
        ("exp",),
        f"""\
static $T expm1_$W($T x) {{
    const $T r = minimum_$W(maximum_$W(x, ($T)({literal(-0.5)})), ($T)({literal(0.5)}));
    const $T near = r * {_taylor(1, 9)};
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
