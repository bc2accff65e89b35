"""The polynomials of transcendental functions, which both emitters evaluate by Horner's rule.

Coefficients begin with the constant term.  The series of Taylor need no source; `ERF_TAIL` was
fitted (a test derives it anew).
"""

from __future__ import annotations

import math

LN2_HIGH = 0.693359375  # 355/512: its products with an exponent are exact
LN2_LOW = math.log(2) - LN2_HIGH


def exp_series(first: int, last: int) -> tuple[float, ...]:
    """Of r: the sum of r^(k - first) / k! for k in first..last."""
    return tuple(1 / math.factorial(k) for k in range(first, last + 1))


ATANH = tuple(2 / (2 * k + 1) for k in range(1, 6))
"""Of z = s^2: (2 artanh(s)/s - 2) / z, to 2^-30 of the whole for s up to 0.172."""

ERF_EDGE, ERF_END = 0.9, 4.0
"""Where erf changes from series to tail, and where it is 1 in float32."""

ERF_NEAR = tuple(
    2 / math.sqrt(math.pi) * (-1) ** k / (math.factorial(k) * (2 * k + 1)) - (k == 0)
    for k in range(10)
)
"""Of x^2: erf(x)/x - 1 below the edge."""

ERF_TAIL = (
    0.000318539678119123,
    -1.1302310228347778,
    -0.6318238973617554,
    -0.11008716374635696,
    0.02642763778567314,
    -0.00476262578740716,
    0.0005975857493467629,
    -4.616385922417976e-05,
    1.6430636833320023e-06,
)
"""Of x: log(1 - erf(x)) between edge and end, interpolated at the Chebyshev points."""
