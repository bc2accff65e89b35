"""Which units stay, by score: the one selection that every projection uses."""

from __future__ import annotations

import numpy as np

from refimpl.schemes.rules import rank_in_group


def highest(score: np.ndarray, size: np.ndarray, strip: np.ndarray, budget: float) -> np.ndarray:
    """The units of the highest scores, equally large a share of every strip, within a budget.

    How large a share is chosen so that the sizes of the staying units come nearest to `budget`
    (the larger of two equally near); at least one unit a strip stays.  Of units of equal score
    the larger stay first, then those of lower numbers: so what left before, whose score is 0, is
    no better a fit the next time, and projecting twice changes nothing.

    Args:
        score: (units,), none of them NaN.
        size: (units,), what keeping each costs.
        strip: integers (units,), the strip of each, numbered from 0.  A strip of fewer units than
            the largest keeps the same share of them, rounded up.
        budget: in the unit of `size`.

    Returns:
        bool (units,), True = stays.
    """
    lengths = np.bincount(strip)
    # The step, counted in units of the longest strip, at which each unit begins to stay.
    step = rank_in_group(strip, score, size) * lengths.max() // lengths[strip]
    totals = np.bincount(step, weights=size, minlength=lengths.max()).cumsum()
    nearest = len(totals) - 1 - np.abs(totals - budget)[::-1].argmin()
    return step <= nearest
