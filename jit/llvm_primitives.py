"""How each primitive is spelled in LLVM IR, for a scalar or a vector of float32.

A spelling takes a `Lines` to append to and returns the operand that holds the result.  Only
instructions every target has, and `llvm.fma` where `jit.primitives` asks for the feature: nothing
here may become a library call.  Transcendental functions are range reduction and a polynomial.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from typing import Protocol

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


class Lines(Protocol):
    """Where IR goes; `arch` and `fused` say what the target can do."""

    arch: str
    fused: bool
    declared: set[str]

    def op(self, text: str) -> str:
        """Append `%t = text`; return the name."""
        ...


def literal(number: float) -> str:
    """A float32 constant in LLVM's syntax (the bits of the value as a double)."""
    with np.errstate(over="ignore"):
        single = float(np.float32(number))
    return f"0x{struct.unpack('<Q', struct.pack('<d', single))[0]:016X}"


def vector_type(lanes: int, element: str = "float") -> str:
    """The IR type of a value of so many lanes; one lane is a scalar."""
    return element if lanes == 1 else f"<{lanes} x {element}>"


def constant(number: float, lanes: int) -> str:
    """A constant operand of so many lanes."""
    return literal(number) if lanes == 1 else f"splat (float {literal(number)})"


def _integer(number: int, lanes: int) -> str:
    return str(number) if lanes == 1 else f"splat (i32 {number})"


def intrinsic(out: Lines, name: str, lanes: int, *args: str) -> str:
    """A call of llvm.NAME on float32 values."""
    t = vector_type(lanes)
    suffix = "f32" if lanes == 1 else f"v{lanes}f32"
    out.declared.add(f"declare {t} @llvm.{name}.{suffix}({', '.join([t] * len(args))})")
    return out.op(f"call {t} @llvm.{name}.{suffix}({', '.join(f'{t} {a}' for a in args)})")


def _binary(instruction: str) -> Callable[..., str]:
    def spell(out: Lines, lanes: int, a: str, b: str) -> str:
        return out.op(f"{instruction} {vector_type(lanes)} {a}, {b}")

    return spell


_add, _sub, _mul, _div = (_binary(name) for name in ("fadd", "fsub", "fmul", "fdiv"))


def _fma(out: Lines, lanes: int, a: str, b: str, c: str) -> str:
    return intrinsic(out, "fma", lanes, a, b, c)


def _mad(out: Lines, lanes: int, a: str, b: str, c: str) -> str:
    """a*b + c inside a polynomial: fused where it can be, either way within its ULP budget."""
    if out.fused:
        return _fma(out, lanes, a, b, c)
    return _add(out, lanes, _mul(out, lanes, a, b), c)


def _extreme(name: str, compare: str) -> Callable[..., str]:
    def spell(out: Lines, lanes: int, a: str, b: str) -> str:
        if out.arch == "aarch64":
            return intrinsic(out, name, lanes, a, b)
        if not b.startswith("%"):
            # x86's max returns its second operand when either is NaN, so with a constant
            # first, `constant > a ? constant : a` is one instruction and carries NaN on.
            return select(out, lanes, f"fcmp {compare} {vector_type(lanes)} {b}, {a}", b, a)
        best = select(out, lanes, f"fcmp {compare} {vector_type(lanes)} {b}, {a}", b, a)
        return select(out, lanes, f"fcmp uno {vector_type(lanes)} {b}, {b}", b, best)

    return spell


def select(out: Lines, lanes: int, condition: str, yes: str, no: str) -> str:
    """condition ? yes : no, lane by lane."""
    c, t = out.op(condition), vector_type(lanes)
    return out.op(f"select {vector_type(lanes, 'i1')} {c}, {t} {yes}, {t} {no}")


def _clamped(out: Lines, lanes: int, x: str, lo: float, hi: float) -> str:
    x = _extreme("maximum", "ogt")(out, lanes, x, constant(lo, lanes))
    return _extreme("minimum", "olt")(out, lanes, x, constant(hi, lanes))


# 1.5 * 2^23: adding it rounds to an integer and leaves that integer in the low bits.
_ROUNDER = 12582912.0


def _reduce(out: Lines, lanes: int, x: str) -> tuple[str, str]:
    """(n as i32, r) with x = n*ln 2 + r and |r| <= ln 2 / 2."""
    c = constant
    rounded = _mad(out, lanes, x, c(1 / math.log(2), lanes), c(_ROUNDER, lanes))
    whole = _sub(out, lanes, rounded, c(_ROUNDER, lanes))
    r = _mad(out, lanes, whole, c(-LN2_HIGH, lanes), x)
    r = _mad(out, lanes, whole, c(-LN2_LOW, lanes), r)
    i = vector_type(lanes, "i32")
    bits = out.op(f"bitcast {vector_type(lanes)} {rounded} to {i}")
    return out.op(f"sub {i} {bits}, {_integer(_bits(_ROUNDER), lanes)}"), r


def _power_of_two(out: Lines, lanes: int, n: str) -> str:
    """2^n as float32 for n in [-126, 127]."""
    i = vector_type(lanes, "i32")
    biased = out.op(f"add {i} {n}, {_integer(127, lanes)}")
    bits = out.op(f"shl {i} {biased}, {_integer(23, lanes)}")
    return out.op(f"bitcast {i} {bits} to {vector_type(lanes)}")


def _horner(out: Lines, lanes: int, x: str, coefficients: Sequence[float]) -> str:
    """The polynomial at x."""
    total = constant(coefficients[-1], lanes)
    for coefficient in reversed(coefficients[:-1]):
        total = _mad(out, lanes, total, x, constant(coefficient, lanes))
    return total


def _exp(out: Lines, lanes: int, x: str) -> str:
    """e^x = 2^n e^r; the power is applied in two halves, so that denormals come out right."""
    n, r = _reduce(out, lanes, _clamped(out, lanes, x, -105.0, 89.0))
    tail = _horner(out, lanes, r, exp_series(1, 7))
    value = _mad(out, lanes, tail, r, constant(1.0, lanes))
    i = vector_type(lanes, "i32")
    half = out.op(f"ashr {i} {n}, {_integer(1, lanes)}")
    rest = out.op(f"sub {i} {n}, {half}")
    value = _mul(out, lanes, value, _power_of_two(out, lanes, half))
    return _mul(out, lanes, value, _power_of_two(out, lanes, rest))


def _expm1(out: Lines, lanes: int, x: str) -> str:
    """e^x - 1: a polynomial near zero, where subtracting would cancel; e^x - 1 elsewhere."""
    near = _clamped(out, lanes, x, -0.5, 0.5)
    small = _mul(out, lanes, near, _horner(out, lanes, near, exp_series(1, 9)))
    large = _sub(out, lanes, _exp(out, lanes, x), constant(1.0, lanes))
    inside = f"fcmp oeq {vector_type(lanes)} {x}, {near}"
    return select(out, lanes, inside, small, large)


def _tanh(out: Lines, lanes: int, x: str) -> str:
    """tanh x = m / (m + 2) with m = e^(2x) - 1; 1 beyond |x| = 10 in float32."""
    bounded = _clamped(out, lanes, x, -10.0, 10.0)
    m = _expm1(out, lanes, _add(out, lanes, bounded, bounded))
    return _div(out, lanes, m, _add(out, lanes, m, constant(2.0, lanes)))


def _sigmoid(out: Lines, lanes: int, x: str) -> str:
    """1 / (1 + e^-x)."""
    e = _exp(out, lanes, _sub(out, lanes, constant(0.0, lanes), x))
    one = constant(1.0, lanes)
    return _div(out, lanes, one, _add(out, lanes, one, e))


def _unary(name: str) -> Callable[..., str]:
    def spell(out: Lines, lanes: int, x: str) -> str:
        return intrinsic(out, name, lanes, x)

    return spell


def _widen(out: Lines, lanes: int, x: str) -> str:
    return out.op(f"fpext {vector_type(lanes, 'half')} {x} to {vector_type(lanes)}")


def _neg(out: Lines, lanes: int, x: str) -> str:
    return out.op(f"fneg {vector_type(lanes)} {x}")


def _bits(number: float) -> int:
    return struct.unpack("<i", struct.pack("<f", number))[0]


def _mantissa(out: Lines, lanes: int, x: str) -> tuple[str, str]:
    """(e, m) as floats with x = 2^e m and m between sqrt(1/2) and sqrt(2), for finite x > 0."""
    c, t, i = constant, vector_type(lanes), vector_type(lanes, "i32")
    small = f"fcmp olt {t} {x}, {c(2.0**-126, lanes)}"
    scaled = select(out, lanes, small, _mul(out, lanes, x, c(2.0**24, lanes)), x)
    bits = out.op(f"bitcast {t} {scaled} to {i}")
    above = out.op(f"sub {i} {bits}, {_integer(_bits(math.sqrt(0.5)), lanes)}")
    exponent = out.op(f"ashr {i} {above}, {_integer(23, lanes)}")
    shift = out.op(f"shl {i} {exponent}, {_integer(23, lanes)}")
    rest = out.op(f"sub {i} {bits}, {shift}")
    mantissa = out.op(f"bitcast {i} {rest} to {t}")
    e = out.op(f"sitofp {i} {exponent} to {t}")
    return select(out, lanes, small, _sub(out, lanes, e, c(24.0, lanes)), e), mantissa


def _log(out: Lines, lanes: int, x: str) -> str:
    """log x = e ln 2 + log(1 + f), and log(1 + f) = f - s (f - R(s^2)) with s = f / (2 + f)."""
    c, t = constant, vector_type(lanes)
    e, m = _mantissa(out, lanes, x)
    f = _sub(out, lanes, m, c(1.0, lanes))
    s = _div(out, lanes, f, _add(out, lanes, f, c(2.0, lanes)))
    z = _mul(out, lanes, s, s)
    rest = _sub(out, lanes, f, _mul(out, lanes, z, _horner(out, lanes, z, ATANH)))
    low = _mul(out, lanes, e, c(-LN2_LOW, lanes))
    near = _sub(out, lanes, f, _mad(out, lanes, s, rest, low))
    value = _mad(out, lanes, e, c(LN2_HIGH, lanes), near)
    value = select(out, lanes, f"fcmp olt {t} {x}, {c(math.inf, lanes)}", value, x)
    value = select(out, lanes, f"fcmp olt {t} {x}, {c(0.0, lanes)}", c(math.nan, lanes), value)
    return select(out, lanes, f"fcmp oeq {t} {x}, {c(0.0, lanes)}", c(-math.inf, lanes), value)


def _log1p(out: Lines, lanes: int, x: str) -> str:
    """log u + (x - (u - 1)) / u with u = 1 + x: the second term is what rounding u lost."""
    c, t, one = constant, vector_type(lanes), constant(1.0, lanes)
    u = _add(out, lanes, x, one)
    whole = _log(out, lanes, u)
    lost = _sub(out, lanes, x, _sub(out, lanes, u, one))
    value = _add(out, lanes, whole, _div(out, lanes, lost, u))
    value = select(out, lanes, f"fcmp ogt {t} {x}, {c(-1.0, lanes)}", value, whole)
    return select(out, lanes, f"fcmp olt {t} {x}, {c(2.0**24, lanes)}", value, whole)


def _erf(out: Lines, lanes: int, x: str) -> str:
    """x + x P(x^2) near zero; sign(x) (1 - e^Q(|x|)) elsewhere."""
    c, t = constant, vector_type(lanes)
    size = intrinsic(out, "fabs", lanes, x)
    bounded = _extreme("minimum", "olt")(out, lanes, size, c(ERF_END, lanes))
    below = _exp(out, lanes, _horner(out, lanes, bounded, ERF_TAIL))
    far = intrinsic(out, "copysign", lanes, _sub(out, lanes, c(1.0, lanes), below), x)
    # The series of what is far would overflow, and is not chosen.
    square = _mul(out, lanes, bounded, bounded)
    near = _mad(out, lanes, x, _horner(out, lanes, square, ERF_NEAR), x)
    return select(out, lanes, f"fcmp olt {t} {size}, {c(ERF_EDGE, lanes)}", near, far)


SPELLINGS: dict[str, Callable[..., str]] = {
    "add": _add,
    "sub": _sub,
    "mul": _mul,
    "div": _div,
    "fma": _fma,
    "maximum": _extreme("maximum", "ogt"),
    "minimum": _extreme("minimum", "olt"),
    "abs": _unary("fabs"),
    "neg": _neg,
    "sqrt": _unary("sqrt"),
    "exp": _exp,
    "expm1": _expm1,
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "log": _log,
    "log1p": _log1p,
    "erf": _erf,
    "widen": _widen,
}
