"""The table of operators as a whole: what its rows must have, and what they refuse."""

import inspect

import pytest

from refimpl.ops import OPERATORS, ShapeError


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_says_its_equation_and_means_its_attributes(name):
    operator = OPERATORS[name]
    assert operator.name == name
    for meaning in filter(None, (operator.evaluate, operator.fast)):
        given = inspect.signature(meaning).parameters.values()
        keywords = {p.name for p in given if p.kind is p.KEYWORD_ONLY}
        assert keywords == {*operator.attributes, *operator.weights.values()}
    text = inspect.getdoc(operator.evaluate) or ""
    assert " = " in text
    for attribute in operator.attributes:
        assert attribute in text


CONV1 = {"stride": (1,), "padding": ((0, 0),), "dilation": (1,), "groups": 1}
TILED1 = {"outputs": (2,), "padding": ((0, 0),)}
TRANSPOSE1 = {**CONV1, "output_padding": (0,)}
SLICE = {"axis": 1, "start": 0, "step": 1, "size": 2}
PAD = {"padding": ((0, 0), (1, 2)), "mode": "constant", "value": 0.0}
UPSAMPLE = {"output": (3,), "ratio": (1.0,), "mode": "nearest", "coordinates": "asymmetric"}
RNN = {"activation": "tanh", "reverse": False}
POOL2 = {"kernel": (3, 3), "stride": (1, 1), "padding": ((0, 0), (0, 0)), "ceil_mode": False}


@pytest.mark.parametrize(
    ("name", "shapes", "attributes", "rule"),
    [
        ("conv", [(1, 4, 5), (2, 3, 1)], CONV1, "4 channels"),
        ("conv", [(1, 4, 5), (3, 2, 1)], CONV1 | {"groups": 2}, "do not divide"),
        ("conv", [(1, 4, 5), (2, 4, 6)], CONV1, "does not fit"),
        ("conv", [(1, 4, 5), (2, 4, 1)], CONV1 | {"stride": (1, 1)}, "stride"),
        ("conv", [(4, 5), (2, 4)], CONV1, "spatial"),
        ("conv", [(1, 4, 5), (2, 4, 1), (3,)], CONV1, "bias"),
        ("linear", [(2, 3), (4, 5)], {}, "3 channels"),
        ("winograd_conv", [(1, 4, 5), (2, 3, 4)], TILED1, "4 channels"),
        ("winograd_conv", [(1, 4, 5), (2, 4, 2)], TILED1, "no transforms"),
        ("winograd_conv", [(1, 4, 9), (2, 4, 9)], TILED1, "no transforms"),
        ("winograd_conv", [(1, 4, 3), (2, 4, 4)], TILED1, "do not fit into"),
        ("winograd_conv", [(1, 4, 5), (2, 4, 4)], TILED1 | {"outputs": (2, 2)}, "outputs"),
        ("winograd_conv", [(1, 4, 5), (2, 4, 4), (3,)], TILED1, "bias"),
        ("conv_transpose", [(1, 4, 5), (3, 2, 1)], TRANSPOSE1, "4 channels"),
        ("conv_transpose", [(1, 3, 5), (3, 2, 1)], TRANSPOSE1 | {"groups": 2}, "do not divide"),
        ("conv_transpose", [(1, 4, 5), (4, 2, 1), (3,)], TRANSPOSE1, "bias"),
        ("conv_transpose", [(1, 4, 5), (4, 2, 1)], TRANSPOSE1 | {"padding": ((2, 3),)}, "leaves"),
        ("conv_transpose", [(1, 4, 5), (4, 2, 1)], TRANSPOSE1 | {"output_padding": (0, 0)}, "axes"),
        ("conv_transpose", [(4, 5), (4, 2)], TRANSPOSE1, "spatial"),
        ("matmul", [(3,), (3, 2)], {}, "matrices"),
        ("matmul", [(2, 3), (2, 3)], {}, "3 columns"),
        ("matmul", [(2, 2, 3), (3, 3, 2)], {}, "broadcast"),
        (
            "max_pool",
            [(1, 1, 9, 9)],
            POOL2 | {"padding": ((3, 0), (0, 0)), "dilation": (1, 1)},
            "extent",
        ),
        ("avg_pool", [(1, 1, 9)], POOL2 | {"count_include_pad": True}, "spatial axes"),
        ("batch_norm", [(2, 3), (3,), (3,), (4,), (3,)], {"eps": 0.1}, "mean"),
        ("layer_norm", [(2, 3), (2,), (2,)], {"eps": 0.1}, "trailing axes"),
        ("layer_norm", [(2, 3), (), ()], {"eps": 0.1}, "trailing axes"),
        ("layer_norm", [(2, 3), (3,), (2, 3)], {"eps": 0.1}, "beta"),
        ("rms_norm", [(3,), (1, 3)], {"eps": 0.1}, "trailing axes"),
        ("group_norm", [(2, 6, 3), (6,), (6,)], {"groups": 4, "eps": 0.1}, "do not divide"),
        ("group_norm", [(2, 6, 3), (3,), (6,)], {"groups": 2, "eps": 0.1}, "gamma"),
        ("local_response_norm", [(4,)], {"size": 3, "alpha": 0.1, "beta": 1.0, "k": 1.0}, "N, C"),
        ("add", [(2, 3), (2,)], {}, "broadcast"),
        ("prelu", [(2, 3), (2,)], {}, "broadcast"),
        ("prelu", [(2, 3), (4, 2, 3)], {}, "does not broadcast to"),
        ("concat", [(2, 3), (2, 4)], {"axis": 0}, "differ"),
        ("reshape", [(2, 3)], {"shape": (4, 2)}, "6 elements"),
        ("flatten", [(2, 3)], {"start": 1, "end": 2}, "axes"),
        ("transpose", [(2, 3)], {"order": (1, 0, 2)}, "order"),
        ("slice", [(2, 3)], SLICE | {"axis": 2}, "axis 2"),
        ("slice", [(2, 3)], SLICE | {"start": 3, "size": 1}, "slice from 3 to 3"),
        ("slice", [(2, 3)], SLICE | {"start": 1, "step": -1, "size": 3}, "slice from 1 to -1"),
        ("slice", [(2, 3)], SLICE | {"step": 2, "size": 3}, "slice from 0 to 4"),
        ("pad", [(2, 3)], PAD | {"padding": ((1, 1),)}, "every axis"),
        ("pad", [(2, 3)], PAD | {"mode": "edge", "value": 1.0}, "no value"),
        ("pad", [(2, 3)], PAD | {"mode": "reflect", "padding": ((0, 0), (3, 0))}, "exceeds 2"),
        ("pad", [(2, 3)], PAD | {"mode": "wrap", "padding": ((0, 3), (3, 0))}, "exceeds 2"),
        ("expand", [(2, 3)], {"shape": (2, 2)}, "broadcast"),
        ("expand", [(2, 3)], {"shape": (3,)}, "broadcast"),
        ("expand", [(1, 3)], {"shape": (3,)}, "broadcast"),
        ("take", [(2, 3)], {"axis": 1, "indices": (0, 3)}, "index 3"),
        ("upsample", [(2, 3)], UPSAMPLE, "spatial"),
        ("upsample", [(2, 3, 4)], UPSAMPLE | {"ratio": (1.0, 1.0)}, "ratio"),
        ("upsample", [(2, 3, 4)], UPSAMPLE | {"coordinates": "align_corners"}, "align_corners"),
        ("rnn", [(5, 2), (4, 3), (4, 4), (4,), (4,), (2, 4)], RNN, "T, N, C"),
        ("rnn", [(5, 2, 3), (4, 3), (4, 4), (4,), (4,), (3, 4)], RNN, "batch of 2"),
        ("rnn", [(5, 2, 3), (4, 2), (4, 4), (4,), (4,), (2, 4)], RNN, "w_input"),
        ("gru", [(5, 2, 3), (12, 3), (4, 4), (12,), (12,), (2, 4)], {}, "w_hidden"),
        ("gru", [(5, 2, 3), (12, 3), (12, 4), (12,), (4,), (2, 4)], {}, "b_hidden"),
        ("lstm", [(5, 2, 3), (16, 3), (16, 4), (16,), (16,), (2, 4), (4,)], {}, "c0"),
        ("embedding", [(2, 3), (4,)], {}, "table"),
        ("embedding", [(2, 3), (2**24 + 1, 1)], {}, "rows"),
        ("softmax", [(2, 3)], {"axis": 2}, "axis 2"),
        ("log_softmax", [()], {"axis": 0}, "axis 0"),
        ("mean", [(2, 3)], {"axes": (0, 2), "keepdims": True}, "axes"),
        ("max", [()], {"axes": (0,), "keepdims": False}, "axes"),
    ],
)
def test_shape_rules_refuse(name, shapes, attributes, rule):
    with pytest.raises(ShapeError, match=rule):
        OPERATORS[name].shape(tuple(shapes), attributes)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("conv", "stride", [1, 1]),
        ("conv", "stride", (1, 0)),
        ("conv", "stride", (True, 1)),
        ("conv", "padding", (1, 1)),
        ("conv", "padding", ((0, -1),)),
        ("conv", "groups", 1.0),
        ("conv_transpose", "output_padding", (0, -1)),
        ("conv", "groups", 2**40),
        ("batch_norm", "eps", 1),
        ("batch_norm", "eps", float("nan")),
        ("clamp", "lo", float("nan")),
        ("celu", "alpha", 0.0),
        ("softplus", "beta", float("inf")),
        ("gelu", "approximate", "erf"),
        ("mean", "axes", (1, 0)),
        ("mean", "axes", ()),
        ("softmax", "axis", -1),
        ("max_pool", "ceil_mode", 1),
        ("reshape", "shape", (-1, 2)),
        ("transpose", "order", (0, 2)),
        ("slice", "step", 0),
        ("slice", "start", -1),
        ("pad", "mode", "symmetric"),
        ("pad", "padding", ((0, 0, 0),)),
        ("pad", "padding", ((0, 0),) * 9),
        ("pad", "value", float("nan")),
        ("take", "indices", ()),
        ("rnn", "activation", "sigmoid"),
        ("gru", "linear_before_reset", 1),
        ("upsample", "ratio", (-1.0,)),
        ("upsample", "ratio", (1,)),
    ],
)
def test_attribute_kinds_refuse(name, key, value):
    assert not OPERATORS[name].attributes[key].accepts(value)
