"""Forward error bounds: how far compiled code may be from what a step of a Plan means.

For every element of a step's value, from the case itself: |computed - exact| <= bound.  Exact is
`refimpl.plan.evaluate_step` on the values that the step was given.  What single operations of a
machine do, and how errors pass through them, is `refimpl.bounds.arithmetic`; each family of
operations has a module that says its formula.

Nothing is rounded where all partial sums are whole multiples of one power of two, below 2^24 of
it in float32 (Sterbenz's idea for sums), and where a single operation on exact operands has a
representable result: the bound is 0 there.  That is the *exact* class of cases; it sees what a
bound cannot, such as one small term missing from a long sum.

Where a partial sum or the result may pass the largest number the bound is infinite: nothing can
be said.  Infinities and NaN that come in are no matter of rounding; bounds leave them out.
"""

from refimpl.bounds.activations import activation_bound
from refimpl.bounds.arithmetic import (
    FLOAT16,
    FLOAT32,
    LARGEST,
    SMALLEST_NORMAL,
    Arithmetic,
    Format,
    U,
    gamma,
    quantum,
)
from refimpl.bounds.step import bounded_step

__all__ = [
    "FLOAT16",
    "FLOAT32",
    "LARGEST",
    "SMALLEST_NORMAL",
    "Arithmetic",
    "Format",
    "U",
    "activation_bound",
    "bounded_step",
    "gamma",
    "quantum",
]
