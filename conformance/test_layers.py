"""Every layer, drawn: right on the device, exactly or within its bound."""

import pytest

from conformance.strategies import (
    cases,
    conv_layers,
    elements,
    linear_layers,
    nets,
    pools,
)
from conformance.suite import Suite

FAMILIES = {
    "convolutions": (conv_layers, 160),
    "linear layers": (linear_layers, 30),
    "pools": (pools, 40),
    "elementwise": (elements, 40),
    "nets": (nets, 40),
}
"""Per family its strategy and how many cases the quick profile draws."""


@pytest.mark.parametrize("family", FAMILIES)
def test_drawn(suite: Suite, target_name: str, family: str) -> None:
    """Cases of a family agree with the reference step by step."""
    structures, examples = FAMILIES[family]
    suite.hold(cases(structures()), target_name, examples)
