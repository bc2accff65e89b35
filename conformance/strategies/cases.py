"""Whole cases: a net, its numbers, and how it is cut."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from conformance.cuts import Cut
from conformance.layers import Net
from conformance.strategies.parts import sizes
from conformance.values import EXACT, KINDS, Kind, Values
from jit.decide import OPTIMISATIONS
from jit.decide.candidates import ALGORITHMS, DIRECT
from jit.decide.halved import Weights


@dataclass(frozen=True)
class Case:
    """One case of the suite: a net, its numbers, how it is cut, LLVM's code generation level,
    what its convolutions may be computed by, the optimisations that it is made without, and as
    what weights are stored where they can be."""

    net: Net
    values: Values
    cut: Cut | None = None
    level: int = 0
    algorithms: tuple[str, ...] = ALGORITHMS
    without: tuple[str, ...] = ()
    weights: Weights = "float32"


@st.composite
def cuts(draw: DrawFn) -> Cut:
    """Any legal way to cut a convolution."""
    return Cut(
        vectors=draw(st.sampled_from((1, 2, 3, 4, 6, 8))),
        narrower=draw(st.integers(0, 4)),
        tile=(draw(st.integers(1, 3)), draw(st.integers(1, 6))),
        channels=draw(sizes(64)),
        filters_first=draw(st.booleans()),
        panel=draw(st.sampled_from((0, 1, 2, 3))),
        strip=draw(st.sampled_from((0, 3, 8, 16))),
        tiles=draw(st.sampled_from((0, 1, 2, 3, 7))),
        turned=draw(st.booleans()),
    )


@st.composite
def cases(
    draw: DrawFn, structures: SearchStrategy[Net], *, kinds: tuple[Kind, ...] = KINDS
) -> Case:
    """A net with numbers of one of the kinds (half of them exact), cut by the planner or not."""
    exact: tuple[Kind, ...] = tuple(kind for kind in kinds if kind in EXACT)
    either: SearchStrategy[Kind] = st.one_of(
        st.sampled_from(exact or kinds), st.sampled_from(kinds)
    )
    values = Values(draw(either), draw(st.integers(0, 2**32 - 1)))
    cut = draw(st.one_of(st.none(), cuts()))
    level = draw(st.sampled_from((0, 0, 0, 2)))
    weights: Weights = draw(st.sampled_from(("float32", "float16")))
    return Case(draw(structures), values, cut, level, weights=weights)


@st.composite
def tiled_cases(draw: DrawFn, structures: SearchStrategy[tuple[Net, tuple[int, ...]]]) -> Case:
    """A convolution and the outputs of its tiles, which Winograd must compute it by."""
    net, outputs = draw(structures)
    case = draw(cases(st.just(net)))
    name = f"winograd F({','.join(map(str, outputs))})"
    return replace(case, algorithms=(name,))


@st.composite
def compared_cases(draw: DrawFn, structures: SearchStrategy[Net]) -> Case:
    """A net computed as others do, to compare with: from CSR or FKW, or without optimisations."""
    case = replace(draw(cases(structures)), cut=None)
    how = draw(st.sampled_from((("csr",), ("csr", "fkw"), (DIRECT,))))
    if how != (DIRECT,):
        return replace(case, algorithms=how)
    names = sorted(OPTIMISATIONS)
    left_out = draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    return replace(case, algorithms=how, without=tuple(sorted(left_out)))
