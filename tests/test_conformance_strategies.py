"""The strategies: what they draw is valid, means something, and reaches the odd corners."""

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings

from conformance import strategies
from conformance.build import build, result_shape
from conformance.layers import Embedding, Fork, Norm, Op, Pair, Recurrent
from conformance.test_layers import FAMILIES
from conformance.values import Values
from jit.decide import plan as make_plan
from jit.kernels.activation import ATTRIBUTES
from refimpl import graph as graphs
from refimpl.plan import STEP_OPS

SEARCH = settings(max_examples=3000, derandomize=True, database=None, phases=[Phase.generate],
                  deadline=None, suppress_health_check=list(HealthCheck))  # fmt: skip


def layers(net):
    """Every layer of a net, those of its forks too."""
    found = list(net.layers)
    for layer in found:
        if isinstance(layer, Fork):
            found += [*layer.left, *layer.right]
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_drawn_is_a_graph_with_a_meaning(family):
    structures, _ = FAMILIES[family]

    @settings(SEARCH, max_examples=25)
    @given(strategies.cases(structures()))
    def holds(case):
        graph, inputs = build(case.net, case.values)
        graphs.check(graph)
        y = graphs.evaluate(graph, *inputs, fast=True)
        assert y[0].shape == result_shape(case.net)
        again = build(case.net, case.values)[1]
        assert [x.tobytes() for x in inputs] == [x.tobytes() for x in again]

    holds()


def any_layer(kind, condition):
    return lambda net: any(isinstance(x, kind) and condition(x) for x in layers(net))


def op(name, condition):
    return lambda net: any(
        isinstance(x, Op) and x.op == name and condition(dict(x.attributes), net)
        for x in layers(net)
    )


def recurrent(name, **wanted):
    return any_layer(
        Recurrent, lambda x: x.op == name and dict(x.attributes).items() >= wanted.items()
    )


S = strategies
CORNERS = {
    "a dilated maximum": (S.pools, op("max_pool", lambda a, _: max(a["dilation"]) > 1)),
    "a constant less a value": (S.pairs, any_layer(
        Pair, lambda x: x.op == "sub" and x.source == "constant" and not x.first)),
    "a scalar": (S.pairs, any_layer(Pair, lambda x: x.other == ())),
    "both operands repeat": (S.pairs, lambda net: (
        1 in net.shape and 1 in net.layers[0].other
        and result_shape(net) not in (net.shape, net.layers[0].other))),
    "one slope for every channel": (S.pairs, any_layer(
        Pair, lambda x: x.op == "prelu" and x.other and x.other[-1] == 1 and max(x.other) > 1)),
    "a slice backwards": (S.movements, op("slice", lambda a, _: a["step"] < 0 and a["size"] > 1)),
    "a padding of minus infinity": (S.movements, op("pad", lambda a, _: a["value"] < 0)),
    "a padding that reflects": (S.movements, op(
        "pad", lambda a, _: a["mode"] == "reflect" and max(map(max, a["padding"])) > 0)),
    "a channel shuffle": (S.movements, lambda net: (
        [x.op for x in net.layers if isinstance(x, Op)][:2] == ["reshape", "transpose"])),
    "a sum of everything to a scalar": (S.reductions, lambda net: result_shape(net) == ()),
    "softmax along the first axis": (S.reductions, op(
        "softmax", lambda a, net: a["axis"] == 0 and len(net.shape) > 2)),
    "an instance norm": (S.norms, any_layer(
        Norm, lambda x: x.op == "group_norm" and dict(x.attributes)["groups"] > 3)),
    "a layer norm over several axes": (S.norms, any_layer(
        Norm, lambda x: x.op == "layer_norm" and x.axes > 1)),
    "a window of even size": (S.norms, op(
        "local_response_norm", lambda a, _: a["size"] % 2 == 0)),
    "fewer positions than before": (S.resamplings, op("upsample", lambda a, net: (
        a["mode"] == "linear" and max(a["output"]) < max(net.shape[2:])))),
    "aligned corners of several axes": (S.resamplings, op(
        "upsample", lambda a, _: a["coordinates"] == "align_corners" and len(a["output"]) == 3)),
    "a stack of matrices that repeats": (S.products, lambda net: (
        len(net.shape) == 4 and len(net.layers[0].other) == 4
        and 1 in net.shape[:2] and 1 in net.layers[0].other[:2])),
    "a constant matrix first": (S.products, any_layer(
        Pair, lambda x: x.source == "constant" and not x.first)),
    "output padding and groups": (S.transposed_layers, lambda net: (
        max(net.layers[0].output_padding) > 0 and net.layers[0].groups > 1)),
    "more cut away than the kernel reaches": (S.transposed_layers, lambda net: any(
        lo > d * (k - 1) for (lo, _), k, d in zip(
            net.layers[0].padding, net.layers[0].kernel, net.layers[0].dilation, strict=True))),
    "a GRU that resets first": (S.recurrences, recurrent("gru", linear_before_reset=False)),
    "a GRU as torch's": (S.recurrences, recurrent("gru", linear_before_reset=True)),
    "an LSTM backwards": (S.recurrences, recurrent("lstm", reverse=True)),
    "a plain recurrence with relu": (S.recurrences, recurrent("rnn", activation="relu")),
    "both directions": (S.recurrences, any_layer(Fork, lambda x: (
        dict(x.left[0].attributes)["reverse"] != dict(x.right[0].attributes)["reverse"]))),
    "a pruned recurrence of five times": (S.recurrences, lambda net: (
        net.shape[0] == 5 and any(x.scheme != "dense" for x in net.layers
                                  if isinstance(x, Recurrent)))),
    "attention on embedded indices": (S.transformers, lambda net: (
        isinstance(net.layers[0], Embedding))),
    "squeeze and excite": (S.branched, any_layer(Fork, lambda x: x.join == "mul")),
    "a way up by linear resampling": (S.branched, op(
        "upsample", lambda a, _: a["mode"] == "linear")),
}  # fmt: skip


@pytest.mark.parametrize("corner", CORNERS)
def test_the_strategies_reach(corner):
    structures, condition = CORNERS[corner]
    find(structures(), condition, settings=SEARCH)


def test_every_operation_of_a_plan_is_drawn():
    """By as many cases as the quick profile has."""
    missing = set(STEP_OPS)
    for structures, examples in FAMILIES.values():

        @settings(SEARCH, max_examples=examples)
        @given(structures())
        def plans(net):
            if missing:
                made = make_plan(build(net, Values("zeros"))[0], "x86-64-avx2")
                missing.difference_update(step.op for step in made.steps)

        plans()
    assert not missing


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_every_activation_that_is_compiled_is_drawn(name):
    find(strategies.parts.activations(), lambda activation: activation[0] == name, settings=SEARCH)
