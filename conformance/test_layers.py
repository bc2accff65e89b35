"""Every layer, drawn: right on the device, exactly or within its bound."""

import pytest
from hypothesis import strategies as st

from conformance import strategies
from conformance.suite import Suite
from jit.target import target

FAMILIES = {
    "convolutions": (strategies.conv_layers, 160),
    "convolutions over points": (strategies.point_layers, 80),
    "transposed convolutions": (strategies.transposed_layers, 30),
    "linear layers": (strategies.linear_layers, 30),
    "matrix products": (strategies.products, 40),
    "embeddings": (strategies.embeddings, 20),
    "recurrent layers": (strategies.recurrences, 60),
    "pools": (strategies.pools, 40),
    "elementwise": (strategies.elements, 80),
    "pairs": (strategies.pairs, 100),
    "movements": (strategies.movements, 60),
    "reductions": (strategies.reductions, 60),
    "norms": (strategies.norms, 40),
    "resampling": (strategies.resamplings, 40),
    "nets": (strategies.nets, 40),
    "branched nets": (strategies.branched, 20),
    "transformers": (strategies.transformers, 20),
    "texts": (strategies.texts, 20),
}
"""Per family its strategy and how many cases the quick profile draws."""
CPUS_ONLY = ("convolutions over points",)
"""What no other device is compiled for yet."""


@pytest.mark.parametrize("family", FAMILIES)
def test_drawn(suite: Suite, target_name: str, family: str) -> None:
    """Cases of a family agree with the reference step by step."""
    if family in CPUS_ONLY and target(target_name).grid:
        pytest.skip(f"{family} are compiled for CPUs only")
    structures, examples = FAMILIES[family]
    suite.hold(strategies.cases(structures()), target_name, examples)


def test_drawn_by_winograd(suite: Suite, target_name: str) -> None:
    """Convolutions tile by tile agree with the reference, whatever the tiles."""
    suite.hold(strategies.tiled_cases(strategies.tiled_layers()), target_name, 80)


def test_drawn_to_compare_with(suite: Suite, target_name: str) -> None:
    """Layers from CSR and FKW, and without optimisations, agree with the reference."""
    if target(target_name).grid:
        pytest.skip("CSR and FKW are for CPUs")
    drawn = (strategies.conv_layers(), strategies.patterned_layers(), strategies.linear_layers())
    suite.hold(strategies.compared_cases(st.one_of(*drawn)), target_name, 100)
