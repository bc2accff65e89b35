"""Recognition: the scheme and block size of a weight, from its zeros alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl.recognise import CANDIDATES, recognise
from refimpl.schemes import (
    BCR,
    KGS,
    NM,
    Channel,
    Dense,
    Filter,
    Pattern,
    SchemeError,
    Unstructured,
    Vanilla,
)


def pruned(scheme, shape, keep, parts=1, seed=0):
    weight = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    mask = scheme.project(weight, keep, parts=parts)
    return weight * mask, mask


@pytest.mark.parametrize(
    ("scheme", "shape", "keep", "parts"),
    [
        (Dense(), (16, 8, 3, 3), 1, 1),
        (Filter(), (70, 8, 3, 3), 0.4, 1),
        (Channel(), (24, 33, 3, 3), 0.4, 1),
        (Vanilla(8, 4), (62, 30, 3, 3), 0.4, 1),
        (KGS(8, 4), (62, 30, 3, 3), 0.3, 1),
        (KGS(16, 4), (64, 32, 3, 3, 3), 0.3, 1),
        (KGS(4, 8), (24, 16, 5), 0.3, 2),
        (BCR(16, 32), (93, 70), 0.2, 3),
        (BCR(8, 16), (40, 16, 3, 3), 0.3, 1),
        (Pattern(4, 12), (32, 16, 3, 3), 0.3, 1),
        (Pattern(4, 12, 8), (32, 16, 3, 3), 0.4, 1),
        (Pattern(4, 12), (32, 1, 3, 3), 0.4, 32),
        (NM(2, 4), (33, 30), 0.5, 1),
        (Unstructured(), (33, 30, 3, 3), 0.5, 1),
    ],
)
def test_a_pruned_weight_names_its_scheme(scheme, shape, keep, parts):
    weight, mask = pruned(scheme, shape, keep, parts)
    found = recognise(weight, parts=parts)
    assert found.scheme == scheme
    assert (found.mask == mask).all()
    assert found.multiplied == np.count_nonzero(mask)
    assert found.exploited == 1
    assert (found.index_bytes == 0) == mask.all()


@given(
    st.sampled_from(CANDIDATES[1:]),
    st.tuples(st.integers(1, 20), st.integers(1, 9), st.integers(1, 3)),
    st.floats(0.1, 1),
    st.floats(0, 0.2),
)
@settings(max_examples=40, deadline=None)
def test_the_mask_keeps_every_value_and_no_candidate_multiplies_less(scheme, shape, keep, holes):
    if isinstance(scheme, NM):
        keep = scheme.n / scheme.m
    if isinstance(scheme, Pattern):
        keep *= min(1, scheme.entries / shape[2])
    weight, _ = pruned(scheme, shape, keep)
    weight[np.random.default_rng(1).random(shape) < holes] = 0
    structured = [candidate for candidate in CANDIDATES if candidate != Unstructured()]
    found = recognise(weight, structured)
    assert found.scheme.legal(found.mask) is None
    assert not weight[~found.mask].any()
    zeros = np.count_nonzero(weight == 0)
    share = np.count_nonzero(~found.mask) / zeros if zeros else 1
    assert found.exploited == share
    covers = [candidate.cover(weight != 0) for candidate in structured]
    assert found.multiplied == min(np.count_nonzero(c) for c in covers if c is not None)
    assert recognise(weight).exploited == 1


def test_zeros_that_no_block_spans_are_not_exploited():
    weight, mask = pruned(KGS(8, 4), (32, 16, 3, 3), 0.3)
    weight[tuple(np.argwhere(mask)[5])] = 0
    found = recognise(weight, [Dense(), KGS(16, 4), KGS(8, 4)])
    assert found.scheme == KGS(8, 4)
    zeros = np.count_nonzero(~mask) + 1
    assert found.exploited == (zeros - 1) / zeros


def test_an_empty_weight_and_one_that_no_candidate_fits():
    assert recognise(np.zeros((4, 4))).multiplied == 0
    with pytest.raises(SchemeError, match=r"nm\(n=1,m=4,axis=1\) can keep"):
        recognise(np.ones((4, 4)), [NM(1, 4)])
