"""Recognition: the scheme of a weight that was pruned elsewhere, read from its zeros.

Every candidate scheme is asked for its cover, the smallest legal mask that keeps every non-zero
weight.  What the cover keeps must be multiplied; zeros inside it are not exploited.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from refimpl.schemes import (
    BCR,
    KGS,
    NM,
    Channel,
    Dense,
    Filter,
    Pattern,
    Scheme,
    SchemeError,
    Unstructured,
    Vanilla,
)
from refimpl.storage import kept_bytes

CANDIDATES: tuple[Scheme, ...] = (
    Dense(),
    Filter(),
    Channel(),
    *(Vanilla(gf, gc) for gf in (32, 16, 8, 4) for gc in (8, 4)),
    *(KGS(gf, gc) for gf in (32, 16, 8, 4) for gc in (8, 4, 1)),
    *(BCR(br, bc) for br in (32, 16, 8) for bc in (64, 32, 16)),
    *(Pattern(entries, 12, gf) for gf in (1, 8, 4) for entries in (4, 5)),
    *(NM(n, m) for n, m in ((1, 4), (2, 4), (4, 8))),
    Unstructured(),
)
"""What is looked for by default."""


@dataclass(frozen=True, eq=False)
class Recognition:
    """What was found.

    Attributes:
        scheme: the best of the candidates.
        mask: bool of the weight's shape, legal for the scheme, True wherever the weight is not
            zero.
        multiplied: weights that the mask keeps.
        index_bytes: what the scheme's tiles take besides them; 0 where everything is kept.
        exploited: share of the zeros that the mask prunes; 1 where there are none.
    """

    scheme: Scheme
    mask: np.ndarray
    multiplied: int
    index_bytes: int
    exploited: float


def recognise(
    weight: np.ndarray, candidates: Sequence[Scheme] = CANDIDATES, *, parts: int = 1
) -> Recognition:
    """The candidate that leaves the fewest weights to multiply, then the fewest index bytes.

    Of equals it is the one of the fewest degrees of freedom, whose rule the zeros confirm the
    most (Vanilla rather than KGS, 2:4 rather than unstructured), then the earlier.

    Args:
        weight: (F, C, *kernel); its zeros are what may be exploited.
        candidates: schemes, block sizes included.
        parts: equal parts of the filters that no block straddles.

    Raises:
        SchemeError: a candidate has no meaning for such a weight, or none has a mask that keeps
            all its non-zero values.
    """
    nonzero = weight != 0
    if nonzero.all() and Dense() in candidates:
        candidates = [Dense()]
    covers = [(scheme, scheme.cover(nonzero, parts=parts)) for scheme in candidates]
    kept = [(s, mask, int(np.count_nonzero(mask))) for s, mask in covers if mask is not None]
    if not kept:
        raise SchemeError(
            f"None of {', '.join(map(str, candidates)) or 'no candidates'} can keep every non-zero "
            "value of the weight; add dense or unstructured to the candidates."
        )
    fewest = min(count for _, _, count in kept)
    best = [
        (
            kept_bytes(s, mask, parts=parts)[1],
            s.degrees_of_freedom(mask.shape, parts=parts),
            s,
            mask,
        )
        for s, mask, count in kept
        if count == fewest
    ]
    size, _, scheme, mask = min(best, key=lambda found: found[:2])  # of equals the first
    zeros = weight.size - int(np.count_nonzero(nonzero))
    exploited = (weight.size - fewest) / zeros if zeros else 1.0
    return Recognition(scheme, mask, fewest, size, exploited)
