"""Recognition: the scheme of a weight that was pruned elsewhere, read from its zeros.

Every candidate scheme is asked for its cover, the smallest legal mask that keeps every non-zero
weight.  What the cover keeps must be multiplied; zeros inside it are not exploited.

Trained weights have zeros by accident, and with each of them unstructured pruning multiplies one
weight less than the scheme that was used.  So counts within `SLACK` of the least are taken as
equal: a scheme that exploits nearly all zeros wins over one that exploits all of them at the price
of an index for every weight.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from refimpl.graph.form import Constant, Graph, Sparsity
from refimpl.ops import OPERATORS
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
    Unstructured(),
    *(Pattern(entries, 12, gf) for gf in (1, 8, 4) for entries in (4, 5)),
    *(NM(n, m) for n, m in ((1, 4), (2, 4), (4, 8))),
)
"""What is looked for by default."""

SLACK = 0.01
"""The share by which two counts of weights, or of bytes, may differ and be taken as equal."""

LARGE = 2**22
"""Weights up to which every candidate is tried on the whole."""

WORTHWHILE = 0.1
"""The share of a weight's multiplications that a mask must save for a Graph to take it up."""


@dataclass(frozen=True, eq=False)
class Recognition:
    """What was found.

    Attributes:
        scheme: the best of the candidates.
        mask: bool of the weight's shape, legal for the scheme, True wherever the weight is not
            zero.
        index_bytes: what the scheme's tiles take besides the weights; 0 where all are kept.
        exploited: share of the zeros that the mask prunes; 1 where there are none.
    """

    scheme: Scheme
    mask: np.ndarray
    index_bytes: int
    exploited: float

    @property
    def multiplied(self) -> int:
        """Weights that the mask keeps."""
        return int(np.count_nonzero(self.mask))

    @property
    def kept(self) -> float:
        """Share of the weights that the mask keeps."""
        return self.multiplied / self.mask.size

    @property
    def worthwhile(self) -> bool:
        """Whether the mask saves a tenth of the multiplications; fewer zeros are accidents."""
        return self.kept <= 1 - WORTHWHILE


def recognise(
    weight: np.ndarray, candidates: Sequence[Scheme] = CANDIDATES, *, parts: int = 1
) -> Recognition:
    """The candidate that leaves the fewest weights to multiply, then the fewest bytes to store.

    Within `SLACK` of the fewest, counts are equal: so less than one weight in a hundred is
    multiplied for nothing, a few accidental zeros hide no structure, and a weight with no more
    zeros than that is dense.  Bytes are those of the values and indices in the scheme's tiles.
    Of equals it is the candidate of the fewest degrees of freedom, whose rule the zeros confirm the
    most (Vanilla rather than KGS, 2:4 rather than unstructured), then the earlier.

    It takes about 0.2 microseconds a weight, and none without zeros.  Of more than `LARGE` weights
    the first `LARGE` choose, and all are tried only if the choice does worse on the whole.

    Args:
        weight: (F, C, *kernel); its zeros are what may be exploited.
        candidates: schemes, block sizes included.
        parts: equal parts of the filters that no block straddles: the groups of a convolution, the
            gates of a recurrent weight.

    Raises:
        SchemeError: a candidate has no meaning for such a weight, or none has a mask that keeps
            all its non-zero values.
    """
    nonzero = weight != 0
    if nonzero.all() and Dense() in candidates:
        return Recognition(Dense(), nonzero, 0, 1.0)
    chosen = _at_a_glance(nonzero, candidates, parts) or _choice(nonzero, candidates, parts)
    scheme, mask = chosen
    _, indices = kept_bytes(scheme, mask, parts=parts)
    zeros = np.count_nonzero(~nonzero)
    return Recognition(scheme, mask, indices, np.count_nonzero(~mask) / zeros if zeros else 1.0)


Cover = tuple[Scheme, np.ndarray]


def _at_a_glance(nonzero: np.ndarray, candidates: Sequence[Scheme], parts: int) -> Cover | None:
    """What the first filters choose, if it multiplies as few zeros among the rest; else None."""
    filters = LARGE // nonzero[0].size
    first = nonzero[: min(filters, len(nonzero) // parts)]
    if nonzero.size <= LARGE or not first.any():
        return None
    scheme, there = _choice(first, candidates, 1)
    mask = scheme.cover(nonzero, parts=parts)
    if mask is None or _waste(mask, nonzero) > _waste(there, first) * (1 + SLACK):
        return None
    return scheme, mask


def _waste(mask: np.ndarray, nonzero: np.ndarray) -> float:
    """Weights multiplied for each that is not zero."""
    return np.count_nonzero(mask) / np.count_nonzero(nonzero)


def _choice(nonzero: np.ndarray, candidates: Sequence[Scheme], parts: int) -> Cover:
    """The best candidate and its mask; see `recognise`."""
    covers = _covers(nonzero, candidates, parts)
    if not covers:
        raise SchemeError(
            f"None of {', '.join(map(str, candidates)) or 'no candidates'} can keep every non-zero "
            "value of the weight; add dense or unstructured to the candidates."
        )
    covers = _least(covers, [sum(kept_bytes(s, mask, parts=parts)) for s, mask in covers])
    # Of equal degrees of freedom `min` takes the first.
    return min(covers, key=lambda cover: cover[0].degrees_of_freedom(nonzero.shape, parts=parts))


def _covers(nonzero: np.ndarray, candidates: Sequence[Scheme], parts: int) -> list[Cover]:
    """The candidates that multiply the fewest, and their masks; never many masks at once."""
    covers: list[Cover] = []
    for scheme in candidates:
        mask = scheme.cover(nonzero, parts=parts)
        if mask is not None:
            covers.append((scheme, mask))
            covers = _least(covers, [int(np.count_nonzero(mask)) for _, mask in covers])
    return covers


def _least(covers: list[Cover], count: list[int]) -> list[Cover]:
    """Those whose count is within the slack of the least."""
    most = min(count) * (1 + SLACK)
    return [cover for cover, number in zip(covers, count, strict=True) if number <= most]


def recognise_network(
    graph: Graph, candidates: Sequence[Scheme] = CANDIDATES
) -> dict[str, Recognition]:
    """What the zeros of every weight that can be pruned say, by the weight's name.

    Weights without zeros are dense and left out, and so are those whose scheme the Graph knows.

    Raises:
        SchemeError: as `recognise`.
    """
    found = {}
    for name, parts in _prunable(graph).items():
        weight = graph.constants[name].array
        if name not in graph.sparsity and not weight.all():
            found[name] = recognise(weight, candidates, parts=parts)
    return found


def annotate(graph: Graph, recognised: Mapping[str, Recognition]) -> Graph:
    """The Graph with the schemes and masks that are worthwhile, besides those it has.

    So a network that was pruned elsewhere compiles as a pruned one.  What a mask prunes is absent,
    no zero to multiply by: infinities and NaN do not meet it.

    Args:
        graph: any.
        recognised: of weights of the Graph that have no scheme, as `recognise_network` finds them.
    """
    found = {
        name: Sparsity(recognition.scheme, Constant(recognition.mask))
        for name, recognition in recognised.items()
        if recognition.worthwhile
    }
    return replace(graph, sparsity={**graph.sparsity, **found})


def _prunable(graph: Graph) -> dict[str, int]:
    """The constants that are read as prunable weights only, and into how many parts they fall."""
    parts: dict[str, set[int]] = {}
    for node in graph.nodes:
        operator = OPERATORS[node.op]
        for position, name in enumerate(node.inputs):
            if name in graph.constants:
                as_weight = position in operator.weights
                # 0 parts: something reads it that needs all of it.
                parts.setdefault(name, set()).add(operator.parts(node.attrs) if as_weight else 0)
    return {name: max(each) for name, each in parts.items() if len(each) == 1 and max(each)}
