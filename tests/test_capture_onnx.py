"""Capture of ONNX models: names, sizes, what is computed at capture, and what is refused."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import I64, model, noise

from refimpl.graph import evaluate
from refimpl.importers import CaptureError
from refimpl.importers.onnx import capture


def test_shapes_are_computed_at_capture():
    """The reshape of a model that computes its shape leaves nothing behind but the reshape."""
    built = model(
        "(float[2,3,4] x) => (y) { s = Shape(x) n = Gather(s, zero) u = Unsqueeze<axes=[0]>(n) "
        "k = Constant<value = int64[1] {-1}>() c = Concat<axis=0>(u, k) y = Reshape(x, c) }",
        11,
        zero=np.array(0, I64),
    )
    graph = capture(built)
    assert [node.op for node in graph.nodes] == ["flatten"]
    assert not graph.constants


def test_arithmetic_of_shapes_is_that_of_integers():
    built = model(
        "(float[7,5] x) => (y) { s = Shape(x) h = Div(s, minus_two) a = Abs(h) "
        "m = Mod(s, minus_two) f = Cast<to=1>(a) q = Floor(f) i = Cast<to=7>(q) "
        "e = Sub(i, m) y = Slice(x, i, e) }",
        minus_two=np.array([-2, -2], I64),
    )
    # 7 / -2 is -3 as in C, 7 mod -2 is -1 as in Python.
    graph = capture(built)
    x = noise(7, 5)
    assert np.array_equal(evaluate(graph, x)[0], x[3:4, 2:3])


def test_names_are_those_of_the_model():
    graph = capture(
        model(
            "(float[1,2,4] x) => (y) { h = Conv(x, w) p = HardSigmoid<alpha=0.5>(h) y = Relu(p) }",
            w=noise(3, 2, 1),
        )
    )
    assert [node.name for node in graph.nodes] == ["h", "p.mul", "p.add", "p", "y"]
    assert set(graph.constants) == {"w", "p.alpha", "p.beta"}
    assert graph.outputs == ("y",)
    assert graph.name == "net"


def test_outputs_keep_their_names_where_only_an_identity_names_them():
    graph = capture(
        model(
            "(float[2] x) => (a, b, c, d) { r = Relu(x) a = Identity(r) b = Identity(r) "
            "c = Identity(x) t = Tanh(r) d = Dropout(t) }"
        )
    )
    assert graph.outputs == ("a", "a", "x", "d")


def test_what_no_output_needs_is_left_out():
    graph = capture(
        model(
            "(float[2,2] x) => (y) { y = Relu(x) z = Tan(x) v = Add(x, w) }",
            w=noise(2, 2),
        )
    )
    assert [node.op for node in graph.nodes] == ["relu"]
    assert not graph.constants


def test_open_sizes_are_bound_by_name():
    built = model(
        "(float[N,3] x, float[N,M] z) => (float[N,3] y) { s = ReduceSum(z) y = Add(x, s) }"
    )
    graph = capture(built, shapes={"z": (5, 2)})
    assert dict(graph.inputs) == {"x": (5, 3), "z": (5, 2)}
    for shapes, message in (
        ({}, r"'x' leaves sizes open, \(N, 3\).*--shape x=1x3"),
        ({"x": (5, 3)}, r"'z' leaves sizes open, \(5, M\).*--shape z=5x1"),
        ({"x": (5, 4), "z": (5, 2)}, "contradicts the model, which has 3 for 4"),
        ({"x": (4, 3), "z": (5, 2)}, "makes 'N' both 4 and 5"),
        ({"x": (5,), "z": (5, 2)}, "has not the 2 axes"),
        ({"x": (5, 3), "w": (5, 2)}, "'w'; the model's inputs are 'x', 'z'"),
        ({"x": (0, 3), "z": (0, 2)}, "not an int of 1 or more"),
    ):
        with pytest.raises(CaptureError, match=message):
            capture(built, shapes=shapes)


def test_local_functions_are_inlined():
    text = """<ir_version: 8, opset_import: ["": 17, "own": 1]>
    net (float[3] x) => (float[3] y) { y = own.twice(x) }
    <domain: "own", opset_import: ["": 17]>
    twice (a) => (c) { b = Relu(a) c = Add(b, b) }"""
    graph = capture(onnx.parser.parse_model(text))
    assert [node.op for node in graph.nodes] == ["relu", "add"]


IF = (
    "(float[1,3] x) => (y) { s = Shape(x) n = Gather(s, zero) c = Equal(n, one) "
    "y = If(c) <then_branch = t () => (a) { k = Relu(x) a = Squeeze(k) }, "
    "else_branch = e () => (b) { b = Tan(x) }> }"
)


def test_of_a_branch_that_is_known_the_graph_is_taken():
    built = model(IF, 11, zero=np.array(0, I64), one=np.array(1, I64))
    graph = capture(built)
    assert [(node.op, node.name) for node in graph.nodes] == [("relu", "k"), ("reshape", "y")]
    with pytest.raises(CaptureError, match=r"Tan \(node 'b'"):
        capture(model(IF, 11, zero=np.array(0, I64), one=np.array(2, I64)))
    with pytest.raises(CaptureError, match="the condition is computed as the network runs"):
        capture(
            model(
                "(float[1,3] x, float[1] c) => (y) { y = If(c) <then_branch = t () => (a) "
                "{ a = Relu(x) }, else_branch = e () => (b) { b = Tanh(x) }> }"
            )
        )
    with pytest.raises(CaptureError, match="defines 'x' twice"):
        capture(model(IF.replace("k", "x"), 11, zero=np.array(0, I64), one=np.array(1, I64)))


def test_sparse_constants_are_read_densely():
    built = model("(float[2,3] x) => (float[2,4] y) { y = Gemm<transB=1>(x, w) }")
    w = np.zeros((4, 3), np.float32)
    w[1, 2], w[3, 0] = 5, -1
    values = numpy_helper.from_array(np.float32([5, -1]), "w")
    indices = numpy_helper.from_array(np.array([5, 9], I64), "places")
    # The parser takes no free names that are initialisers only here, so the order is ours.
    built.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4, 3]))
    graph = capture(built)
    assert np.array_equal(graph.constants["w"].array, w)


def test_constants_listed_among_the_inputs_are_constants():
    built = model("(float[2] x, float[2] w) => (y) { y = Add(x, w) }", w=noise(2))
    assert [name for name, _ in capture(built).inputs] == ["x"]


def test_an_unrolled_recurrence_is_refused_with_the_way_out():
    steps = "".join(f"p{i} = MatMul(h{i}, w) h{i + 1} = Tanh(p{i}) " for i in range(20))
    text = f"(float[1,3] h0) => (h20) {{ {steps} }}"
    with pytest.raises(CaptureError, match=r"'w.T' is applied 20 times.*RNN, GRU or LSTM"):
        capture(model(text, w=noise(3, 3)))
    # As often, but side by side: a shared layer, not a recurrence.
    beside = "".join(f"p{i} = MatMul(x, w) h{i} = Tanh(p{i}) " for i in range(20))
    total = ", ".join(f"h{i}" for i in range(20))
    capture(model(f"(float[1,3] x) => (y) {{ {beside} y = Sum({total}) }}", w=noise(3, 3)))


REFUSED = {
    "(float[2] x) => (y) { a = Tan(x) b = Foo(a) y = own.Bar(b) }": (
        r"Tan \(node 'a', opset 17\).*\n.*Foo.*\n.*own\.Bar"
    ),
    "(float[2] x) => (y) { y = Floor(x) }": r"Floor \(node 'y', opset 17\).*only of constants",
    "(float[1,2,4] x) => (y, i) { y, i = MaxPool<kernel_shape=[2]>(x) }": "output 'i' is not comp",
    "(float[2] x) => (y) { y = Relu<alpha=1.0>(x) }": "no attribute 'alpha'",
    "(float[2] x) => (y) { y = Softmax<axis=1>(x) }": "axis 1 is not one of 1 axes",
    "(float[2] x) => (y) { y = Softmax<axis=1.5>(x) }": "axis is not of its type",
    "(float[2] x) => (y) { y = Cast<to=7>(x) }": "another type of a value that is float32",
    "(float[2] x) => (y) { y = Add(x) }": "1 inputs instead of 2",
    "(float[2] x, float[3] z) => (y) { y = Add(x, z) }": "do not broadcast",
    "(float16[2] x) => (y) { y = Relu(x) }": "input 'x' is float16",
    "(int64[2] x) => (y) { y = Add(x, x) }": "computes with integers as the network runs",
    "(int64[2] x) => (y) { y = Identity(x) }": "output 'y' is not float32",
    "(float[2] x) => (float[3] y) { y = Relu(x) }": r"declared as \(3,\), but is \(2,\)",
    "(float[2,2] x, float[2] s) => (y) { y = Pow(x, s) }": "exponent is computed as the network",
    "(float[1,3] x) => (y) { s = Shape(x) y = Gather(x, s) }": "not all in an axis",
    "(float[1,3] x, int64[1] i) => (y) { y = Gather(x, i) }": "rows of a constant are looked up",
    "(float[1,2,4] x) => (y) { y = AveragePool<kernel_shape=[2], ceil_mode=1, "
    'auto_pad="VALID">(x) }': "ambiguous",
    "(float[1,2,4] x) => (y) { y = MaxPool<kernel_shape=[2], pads=[1,1], "
    'auto_pad="VALID">(x) }': "contradict",
    "(float[1,2,4] x) => (y) { y = MaxPool<kernel_shape=[2], strides=[0]>(x) }": "stride would be",
    "(float[2] x) => (y) { y = Relu(z) }": "reads 'z', which nothing before it defines",
    "(float[2] x) => (y) { a = Relu(b) b = Relu(a) y = Add(a, x) }": "in a circle or out of order",
    "(float[2] x) => (y) { y = Relu(x) y = Tanh(x) }": "defines 'y' twice",
}


@pytest.mark.parametrize("text", REFUSED)
def test_refusals_name_the_operator_and_the_reason(text):
    with pytest.raises(CaptureError, match=REFUSED[text]):
        capture(model(text))


@pytest.mark.parametrize("opset", [6, 29])
def test_other_opsets_are_refused(opset):
    built = model("(float[2] x) => (y) { y = Relu(x) }")
    built.opset_import[0].version = opset
    with pytest.raises(CaptureError, match=f"of opset {opset}; those from 7 to 28"):
        capture(built)


def test_double_constants_are_refused_by_name():
    built = model("(float[2] x) => (y) { y = Add(x, w) }", w=np.ones(2))
    with pytest.raises(CaptureError, match="constant 'w' is float64; only float32 is computed"):
        capture(built)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ("clip=3.0", "clip has no counterpart"),
        ('activations=["Relu","Tanh","Tanh"]', "activations .* have no counterpart"),
        ("input_forget=1", "input_forget=1"),
        ('direction="sideways"', "direction='sideways' is unknown"),
        ("hidden_size=4", "hidden_size is not that of the weights, 5"),
    ],
)
def test_forms_of_lstm_that_the_graph_has_not_are_refused(attributes, message):
    built = model(
        f"(float[4,2,3] x) => (y) {{ y = LSTM<{attributes}>(x, w, r) }}",
        14,
        w=noise(1, 20, 3),
        r=noise(1, 20, 5),
    )
    with pytest.raises(CaptureError, match=message):
        capture(built)


def test_sequences_of_unequal_length_are_refused():
    built = model(
        "(float[4,2,3] x) => (y) { y = LSTM(x, w, r, , n) }",
        14,
        w=noise(1, 20, 3),
        r=noise(1, 20, 5),
        n=np.array([4, 3], np.int32),
    )
    with pytest.raises(CaptureError, match=r"sequence_lens \[3, 4\] are not all 4"):
        capture(built)


def test_types_of_inputs_that_are_no_tensors_are_refused():
    sequence = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, [2])
    built = model("(float[2] x) => (y) { y = Relu(x) }")
    built.graph.input.append(sequence)
    with pytest.raises(CaptureError, match="input 's' is no tensor"):
        capture(built)
