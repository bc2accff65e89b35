"""Planes and rows of a kernel that meet padding only are left out, and nothing else is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jit.decide import plan
from jit.decide.repack import repacked
from jit.decide.taps import Axis, kinds_of_tiles, useful_share
from jit.executable import open_executable
from jit.interpret_plan import differences
from refimpl.graph import evaluate
from refimpl.importers.build import Builder
from refimpl.plan import Schedule
from refimpl.plan import evaluate as plan_values

SIZES = st.integers(1, 6)
AXES = st.builds(Axis, SIZES, SIZES, SIZES, st.integers(1, 3), st.integers(1, 3), st.integers(0, 4))


def met(axis: Axis, output: int) -> set[int]:
    """The taps that meet the input, one by one."""
    at = output * axis.stride - axis.before
    return {k for k in range(axis.taps) if 0 <= at + k * axis.dilation < axis.inputs}


@settings(max_examples=200, deadline=None)
@given(AXES, SIZES)
def test_every_product_with_the_input_is_kept(axis, together):
    for begin in range(0, axis.outputs, together):
        end = min(begin + together, axis.outputs)
        taps = set().union(*(met(axis, o) for o in range(begin, end)))
        used = axis.used(begin, end)
        assert taps <= set(used)
        assert not taps or {used[0], used[-1]} <= taps
    assert 0 <= useful_share(axis, together) <= 1
    assert useful_share(axis, 1) == pytest.approx(
        sum(len(met(axis, o)) for o in range(axis.outputs)) / (axis.outputs * axis.taps)
    )


def test_a_third_of_two_planes_is_padding():
    assert useful_share(Axis(2, 2, 3, 1, 1, 1), 1) == pytest.approx(2 / 3)
    assert useful_share(Axis(7, 7, 3, 1, 1, 1), 1) == pytest.approx(19 / 21)
    assert useful_share(Axis(7, 7, 3, 1, 1, 1), 3) == pytest.approx(20 / 21)


def test_rows_of_tiles_of_one_kind_share_their_lists():
    depth, height = Axis(2, 2, 3, 1, 1, 1), Axis(7, 7, 3, 1, 1, 1)
    kinds, kind = kinds_of_tiles([depth, height], (0, 7, 1))
    assert len(kinds) == 6
    assert [kinds[k] for k in kind[:3]] == [
        (range(1, 3), range(1, 3)),
        (range(1, 3), range(3)),
        (range(1, 3), range(3)),
    ]
    assert kinds[kind[-1]] == (range(2), range(2))
    assert kinds_of_tiles([height], (6, 7, 1)) == ([(range(1), range(2))], [0])
    assert kinds_of_tiles([], (0, 1, 1)) == ([(range(1), range(1))], [0])


LAYERS = {
    "planes and rows": ((5, 3, 3, 3, 3), (2, 4, 3), ((1, 1),) * 3, 1, 1),
    "padding wider than the kernel": ((2, 2, 3, 2), (3, 3), ((4, 3), (0, 1)), 1, 1),
    "strides": ((9, 4, 3, 3), (7, 6), ((1, 1), (1, 1)), 2, 1),
    "holes": ((3, 2, 3, 3, 1), (2, 5, 4), ((2, 2), (2, 2), (0, 0)), 1, 2),
    "rows that stay inside": ((3, 2, 2, 3, 3), (4, 3, 3), ((1, 0), (0, 0), (0, 0)), 1, 1),
}


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("layer", LAYERS)
def test_layers_without_their_padding_are_the_layers(layer, rows):
    """Whole numbers: every sum is exact, so nothing may differ."""
    weight_shape, spatial, sides, stride, dilation = LAYERS[layer]
    rng = np.random.default_rng(0)
    builder = Builder([("x", (2, weight_shape[1], *spatial))])
    builder.constant("w", rng.integers(-4, 5, weight_shape).astype(np.float32))
    steps = {"stride": (stride,) * len(spatial), "dilation": (dilation,) * len(spatial)}
    graph = builder.graph(
        "net", [builder.add("y", "conv", ("x", "w"), padding=sides, groups=1, **steps)], {}
    )
    x = rng.integers(-4, 5, (2, weight_shape[1], *spatial)).astype(np.float32)
    made = plan(graph, "x86-64-sse", algorithms=("direct",))
    step = next(s for s in made.steps if s.op == "conv")
    height, width = made.places[step.name].shape[-2:]
    tile = (min(rows, height), width if rows > 1 else min(width, 2))
    made = repacked(made, step.name, Schedule(4, 4, tile, 1, 2, False))
    with open_executable(made, "host-isolated") as net:
        (found,) = net(x)
    np.testing.assert_array_equal(found, evaluate(graph, x)[0].astype(np.float32))
    assert max(differences(made, plan_values(made, x), x).values()) == 0


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
