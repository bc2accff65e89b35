"""What properties of schemes are drawn from: schemes, weights, and rates that they can keep."""

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from refimpl.schemes import BCR, KGS, NM, Channel, Dense, Filter, Pattern, Unstructured, Vanilla

sizes = st.integers(1, 9)
partitions = st.one_of(
    st.just(Unstructured()),
    st.just(Filter()),
    st.just(Channel()),
    st.builds(Vanilla, gf=sizes, gc=sizes),
    st.builds(KGS, gf=sizes, gc=sizes),
)
nm = st.builds(
    lambda n, more, axis: NM(n, n + more, axis),
    st.integers(1, 3),
    sizes,
    st.sampled_from([0, 1, 1, 2]),
)
patterns = st.builds(Pattern, st.integers(1, 5), st.integers(1, 6), st.integers(1, 4))
bcr = st.builds(BCR, br=sizes, bc=sizes, rows=st.integers(0, 100))
schemes = st.one_of(st.just(Dense()), partitions, nm, patterns, bcr)
shapes = st.tuples(sizes, sizes, st.lists(st.integers(1, 3), max_size=3)).map(
    lambda drawn: (drawn[0], drawn[1], *drawn[2])
)
seeds = st.integers(0, 2**32 - 1)
keeps = st.floats(0.01, 1)


@st.composite
def weights(draw):
    """A weight and how many parts its filters fall into."""
    shape, parts = draw(shapes), draw(st.integers(1, 3))
    shape = (shape[0] * parts, *shape[1:])
    weight = np.random.default_rng(draw(seeds)).standard_normal(shape).astype(np.float32)
    return weight, parts


def possible(scheme, weight, keep, parts=1):
    """`keep`, or what the scheme can keep instead; drops schemes that do not fit the weight."""
    assume(not isinstance(scheme, NM) or scheme.axis < weight.ndim)
    if isinstance(scheme, Dense):
        return 1
    if isinstance(scheme, NM):
        longest = np.bincount(scheme.units(weight.shape, parts=parts).group).max()
        assume(longest > scheme.n)
        return scheme.n / scheme.m
    if isinstance(scheme, Pattern):
        return keep * min(1, scheme.entries / np.prod(weight.shape[2:]))
    return keep
