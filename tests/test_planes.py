"""Planes of a kernel that meet padding only are left out, and nothing else is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jit.decide import plan
from jit.decide.planes import useful_planes, useful_share
from jit.executable import open_executable
from refimpl.graph import evaluate
from refimpl.importers.build import Builder

SIZES = st.integers(1, 6)


@settings(max_examples=200, deadline=None)
@given(SIZES, SIZES, SIZES, st.integers(1, 3), st.integers(1, 3), st.integers(0, 4))
def test_every_product_with_the_input_is_kept(outputs, inputs, taps, stride, dilation, before):
    planes = useful_planes(outputs, inputs, taps, stride, dilation, before)
    assert [p.begin for p in planes] == [0, *(p.end for p in planes[:-1])]
    assert planes[-1].end == outputs
    for part in planes:
        for o in range(part.begin, part.end):
            used = {k for k in range(taps) if 0 <= o * stride - before + k * dilation < inputs}
            assert used == set(part.taps)
    assert 0 <= useful_share(planes, taps) <= 1


def test_a_third_of_two_planes_is_padding():
    assert useful_share(useful_planes(2, 2, 3, 1, 1, 1), 3) == pytest.approx(2 / 3)


def network(weight):
    builder = Builder([("x", (1, 2, 2, 3, 3))])
    builder.constant("w", weight)
    ones, sides = (1, 1, 1), ((2, 1), (1, 1), (1, 1))
    y = builder.add(
        "y", "conv", ("x", "w"), stride=ones, padding=sides, dilation=ones, groups=1
    )  # fmt: skip
    return builder.graph("net", [y], {})


@pytest.mark.parametrize("value", [1.0, np.inf, np.nan])
def test_beside_a_weight_that_is_not_finite_padding_counts(value):
    weight = np.ones((3, 2, 3, 3, 3), np.float32)
    weight[1, 0, 0, 1, 1] = value
    graph, x = network(weight), np.ones((1, 2, 2, 3, 3), np.float32)
    with open_executable(plan(graph, "host"), "host-isolated") as net:
        (found,) = net(x)
    np.testing.assert_array_equal(found, evaluate(graph, x)[0].astype(np.float32))
