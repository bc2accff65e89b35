"""Capture of ONNX models: what onnxruntime computes, the Graph computes, in every opset."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import model, noise

from refimpl.graph import evaluate, parse
from refimpl.importers import CaptureError
from refimpl.importers.onnx import capture

PADS = np.array([0, 0, 1, 2, 0, 0, 2, 1])
I64 = np.int64


def same(text, opset=17, inputs=None, **constants):
    """The Graph computes what onnxruntime does; the Graph."""
    runtime = pytest.importorskip("onnxruntime")
    built = model(text, opset, **constants)
    graph = capture(built)
    assert parse(str(graph), graph.constants, graph.sparsity) == graph
    xs = inputs or [noise(*shape, seed=i) for i, (_, shape) in enumerate(graph.inputs)]
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    session = runtime.InferenceSession(built.SerializeToString(), options)
    feed = {value.name: x for value, x in zip(built.graph.input, xs, strict=True)}
    for ours, theirs in zip(evaluate(graph, *xs), session.run(None, feed), strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, 1e-4, 1e-5)
    return graph


CASES = {
    "conv_same_upper": (
        '(float[2,3,7,8] x) => (y) { y = Conv<auto_pad="SAME_UPPER", strides=[2,3]>(x, w, b) }',
        17,
        {"w": noise(4, 3, 2, 4), "b": noise(4)},
    ),
    "conv_same_lower": (
        '(float[1,4,9] x) => (y) { y = Conv<auto_pad="SAME_LOWER", group=2>(x, w) }',
        11,
        {"w": noise(6, 2, 4)},
    ),
    "conv_asymmetric": (
        "(float[1,2,5,6,7] x) => (y) { y = Conv<pads=[0,1,2,1,0,0]>(x, w) }",
        22,
        {"w": noise(3, 2, 2, 2, 3)},
    ),
    "conv_transpose": (
        "(float[2,4,5,3] x) => (y) { y = ConvTranspose<strides=[2,3], pads=[1,0,0,2], "
        "output_padding=[1,2], group=2, dilations=[1,2]>(x, w, b) }",
        11,
        {"w": noise(4, 3, 3, 2), "b": noise(6)},
    ),
    "conv_transpose_shape": (
        "(float[1,3,5] x) => (y) { y = ConvTranspose<strides=[3], output_shape=[14]>(x, w) }",
        11,
        {"w": noise(3, 2, 4)},
    ),
    "conv_transpose_same": (
        '(float[1,3,5] x) => (y) { y = ConvTranspose<strides=[2], auto_pad="SAME_UPPER">(x, w) }',
        11,
        {"w": noise(3, 2, 5)},
    ),
    "gemm_bias": (
        "(float[3,5] x) => (y) { y = Gemm<transB=1>(x, w, b) }",
        9,
        {"w": noise(7, 5), "b": noise(7)},
    ),
    "gemm_scaled": (
        "(float[5,3] x) => (y) { y = Gemm<transA=1, alpha=0.5, beta=2.0>(x, w, b) }",
        13,
        {"w": noise(5, 7), "b": noise(3, 1)},
    ),
    "gemm_of_values": ("(float[3,5] x, float[7,5] w) => (y) { y = Gemm<transB=1>(x, w) }", 13, {}),
    "matmul_weight": ("(float[2,3,5] x) => (y) { y = MatMul(x, w) }", 9, {"w": noise(5, 4)}),
    "matmul_values": ("(float[2,1,3,5] x, float[4,5,2] z) => (y) { y = MatMul(x, z) }", 13, {}),
    "matmul_vectors": ("(float[5] x, float[2,5,3] z) => (y) { y = MatMul(x, z) }", 13, {}),
    "matmul_left": ("(float[5,3] x) => (y) { y = MatMul(w, x) }", 13, {"w": noise(2, 5)}),
    "max_pool_ceil": (
        "(float[1,2,7,8] x) => (y) { y = MaxPool<kernel_shape=[3,2], strides=[2,3], "
        "pads=[1,0,0,1], dilations=[1,2], ceil_mode=1>(x) }",
        12,
        {},
    ),
    "average_pool": (
        "(float[1,2,7,8] x) => (y) { y = AveragePool<kernel_shape=[3,3], strides=[2,2], "
        "pads=[1,0,1,2], count_include_pad=1>(x) }",
        11,
        {},
    ),
    "average_pool_same": (
        "(float[1,2,7,8] x) => (y) { y = AveragePool<kernel_shape=[2,3], strides=[2,2], "
        'auto_pad="SAME_LOWER">(x) }',
        10,
        {},
    ),
    "old_batch_norm": (
        "(float[2,3,4] x) => (y) { y = BatchNormalization<epsilon=0.01, momentum=0.5>"
        "(x, s, b, m, v) }",
        7,
        {"s": noise(3), "b": noise(3, seed=1), "m": noise(3, seed=2), "v": noise(3) ** 2},
    ),
    "layer_norm": (
        "(float[2,3,4,5] x) => (y) { y = LayerNormalization<axis=-2>(x, s) }",
        17,
        {"s": noise(4, 5)},
    ),
    "lrn": ("(float[1,7,3,2] x) => (y) { y = LRN<size=5, alpha=0.5, bias=2.0>(x) }", 13, {}),
    "instance_norm": (
        "(float[2,3,4,5] x) => (y) { y = InstanceNormalization(x, s, b) }",
        13,
        {"s": noise(3), "b": noise(3, seed=1)},
    ),
    "hard_sigmoid": ("(float[3,5] x) => (y) { y = HardSigmoid<alpha=0.3, beta=0.4>(x) }", 13, {}),
    "old_clip": ("(float[3,5] x) => (y) { y = Clip<min=-0.5>(x) }", 6 + 1, {}),
    "clip_one": ("(float[3,5] x) => (y) { y = Clip(x, , hi) }", 13, {"hi": np.float32(0.25)}),
    "clip_by_values": ("(float[3,5] x, float lo) => (y) { y = Clip(x, lo) }", 13, {}),
    "prelu": ("(float[2,3,4] x) => (y) { y = PRelu(x, s) }", 16, {"s": noise(3, 1)}),
    "selu_of_other_constants": ("(float[9] x) => (y) { y = Selu<alpha=2.0, gamma=0.5>(x) }", 7, {}),
    "activations": (
        "(float[7] x) => (a, b, c, d, e, f) { a = Elu<alpha=0.5>(x) b = LeakyRelu(x) "
        "c = Softplus(x) d = Softsign(x) e = HardSwish(x) f = Celu<alpha=0.7>(x) }",
        14,
        {},
    ),
    "old_softmax": ("(float[2,3,4] x) => (y) { y = Softmax(x) }", 11, {}),
    "log_softmax": ("(float[2,3,4] x) => (y) { y = LogSoftmax<axis=1>(x) }", 13, {}),
    "variadic": (
        "(float[2,3] x, float[3] z) => (a, b, c, d) { a = Max(x, z, x) b = Min(x, z) "
        "c = Sum(x, z, z) d = Mean(x, z, z) }",
        13,
        {},
    ),
    "powers": (
        "(float[2,3] x) => (a, b, c) { a = Pow(x, two) b = Pow(x, three) c = Pow(x, one) }",
        13,
        {"two": np.float32([2]), "three": np.array(3, I64), "one": np.float32([[-1]])},
    ),
    "reduce_attribute": ("(float[2,3,4] x) => (y) { y = ReduceMean<axes=[-1,0]>(x) }", 13, {}),
    "reduce_input": (
        "(float[2,3,4] x) => (y) { y = ReduceLogSumExp<keepdims=0>(x, axes) }",
        18,
        {"axes": np.array([1], I64)},
    ),
    "reduce_nothing": (
        "(float[2,3] x) => (y) { y = ReduceSum<noop_with_empty_axes=1>(x) }",
        13,
        {},
    ),
    "reduce_norms": (
        "(float[2,3,4] x) => (a, b, c) { a = ReduceL1<axes=[1]>(x) b = ReduceL2(x) "
        "c = ReduceSumSquare<axes=[2], keepdims=0>(x) }",
        11,
        {},
    ),
    "old_slice": (
        "(float[5,6,7] x) => (y) { y = Slice<starts=[-4,1], ends=[9999,-1], axes=[0,2]>(x) }",
        9,
        {},
    ),
    "slice_back": (
        "(float[5,6] x) => (y) { y = Slice(x, starts, ends, axes, steps) }",
        13,
        {
            "starts": np.array([-1, 4], I64),
            "ends": np.array([-(2**63), 0], I64),
            "axes": np.array([1, -2], I64),
            "steps": np.array([-2, -1], I64),
        },
    ),
    "old_split": ("(float[5,4] x) => (a, b) { a, b = Split<split=[2,3]>(x) }", 11, {}),
    "split_unequal": ("(float[5,4] x) => (a, b) { a, b = Split<num_outputs=2>(x) }", 18, {}),
    "squeeze": (
        "(float[1,3,1,2] x) => (a, b, c) { a = Squeeze<axes=[0]>(x) b = Squeeze(x) "
        "c = Unsqueeze<axes=[0,-1]>(b) }",
        11,
        {},
    ),
    "reshape": (
        "(float[2,3,4] x) => (a, b, c) { a = Reshape(x, s) b = Flatten<axis=2>(x) c = Flatten(x) }",
        13,
        {"s": np.array([0, -1, 2], I64)},
    ),
    "expand_and_tile": (
        "(float[3,1] x) => (a, b) { a = Expand(x, s) b = Tile(x, r) }",
        13,
        {"s": np.array([2, 1, 4], I64), "r": np.array([2, 3], I64)},
    ),
    "pad_reflect": (
        '(float[1,2,4,5] x) => (y) { y = Pad<mode="reflect">(x, p) }',
        13,
        {"p": PADS},
    ),
    "pad_and_cut": (
        "(float[4,5] x) => (y) { y = Pad(x, p, v) }",
        13,
        {"p": np.array([-1, 2, 1, -2], I64), "v": np.float32(0.5)},
    ),
    "old_pad": ('(float[4,5] x) => (y) { y = Pad<mode="edge", pads=[0,1,2,0]>(x) }', 7, {}),
    "pad_axes": (
        "(float[4,5] x) => (y) { y = Pad(x, p, , a) }",
        18,
        {"p": np.array([1, 2], I64), "a": np.array([-1], I64)},
    ),
    "gather": (
        "(float[4,5] x) => (a, b, c) { a = Gather<axis=1>(x, i) b = Gather(x, k) c = Gather(x, e) }",
        13,
        {
            "i": np.array([[0, -1], [3, 3]], I64),
            "k": np.array(-2, I64),
            "e": np.array([3, 1], np.int32),
        },
    ),
    "depth_to_space": (
        "(float[1,8,2,3] x) => (a, b, c) { a = DepthToSpace<blocksize=2>(x) "
        'b = DepthToSpace<blocksize=2, mode="CRD">(x) c = SpaceToDepth<blocksize=2>(a) }',
        13,
        {},
    ),
    "old_upsample": (
        '(float[1,2,3,4] x) => (y) { y = Upsample<mode="nearest">(x, s) }',
        9,
        {"s": np.float32([1, 1, 2, 3])},
    ),
    "resize_10": (
        '(float[1,2,3,4] x) => (y) { y = Resize<mode="linear">(x, s) }',
        10,
        {"s": np.float32([1, 1, 2, 1.5])},
    ),
    "resize_linear": (
        '(float[1,2,3,4] x) => (y) { y = Resize<mode="linear", '
        'coordinate_transformation_mode="align_corners">(x, , , s) }',
        13,
        {"s": np.array([1, 2, 5, 7], I64)},
    ),
    "resize_half_pixel": (
        '(float[1,2,3,4] x) => (y) { y = Resize<mode="linear", '
        'coordinate_transformation_mode="pytorch_half_pixel">(x, , , s) }',
        13,
        {"s": np.array([1, 2, 1, 7], I64)},
    ),
    "resize_nearest": (
        "(float[1,2,4,6] x) => (y) { y = Resize(x, , , s) }",
        13,
        {"s": np.array([1, 2, 2, 9], I64)},
    ),
    "resize_ceil": (
        '(float[1,2,4,6] x) => (y) { y = Resize<nearest_mode="ceil", '
        'coordinate_transformation_mode="asymmetric">(x, , s) }',
        13,
        {"s": np.float32([1, 1, 1.5, 2])},
    ),
    "swap_of_axes": ("(float[2,3,4] x) => (y) { y = Transpose(x) }", 13, {}),
    "dropout_and_identity": (
        "(float[2,3] x) => (y) { a = Dropout<ratio=0.3>(x) b = Identity(a) y = Cast<to=1>(b) }",
        7,
        {},
    ),
    "masked_attention": (
        "(float[1,2,3,4] q, float[1,2,3,4] k) => (y) { t = Transpose<perm=[0,1,3,2]>(k) "
        "s = MatMul(q, t) one = ConstantOfShape<value = bool[1] {1}>(n) u = Trilu<upper=0>(one) "
        "m = Where(u, zero, inf) a = Add(s, m) p = Softmax(a) y = MatMul(p, k) }",
        14,
        {"n": np.array([3, 3], I64), "zero": np.float32(0), "inf": np.float32(-np.inf)},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_operators_of_every_opset_compute_what_the_runtime_does(case):
    text, opset, constants = CASES[case]
    same(text, opset, **constants)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(
    "op", ["RNN", "GRU<linear_before_reset=0>", "GRU<linear_before_reset=1>", "LSTM"]
)
@pytest.mark.parametrize("states", [False, True])
def test_recurrences(op, direction, states):
    """Time 4, batch 2, 3 channels, 5 hidden."""
    d, gates = (2 if direction == "bidirectional" else 1), {"R": 1, "G": 3, "L": 4}[op[0]]
    name, _, given = op.rstrip(">").partition("<")
    weights = {"w": noise(d, gates * 5, 3), "r": noise(d, gates * 5, 5), "b": noise(d, gates * 10)}
    cell = op == "LSTM"
    outputs = "y, h, c" if cell else "y, h"
    inputs = f", float[{d},2,5] h0" * states + f", float[{d},2,5] c0" * (states and cell)
    extra = ", , h0" * states + ", c0" * (states and cell)
    listed = ", ".join(filter(None, [given, "hidden_size=5", f'direction="{direction}"']))
    text = f"(float[4,2,3] x{inputs}) => ({outputs}) {{ {outputs} = {name}<{listed}>(x, w, r, b{extra}) }}"
    graph = same(text, 14, **weights)
    assert sum(node.op == name.lower() for node in graph.nodes) == d


def test_recurrence_of_relu_without_bias():
    same(
        '(float[3,1,2] x) => (y) { y = RNN<hidden_size=3, activations=["Relu"]>(x, w, r) }',
        14,
        w=noise(1, 3, 2),
        r=noise(1, 3, 3),
    )


def test_even_windows_of_lrn_have_their_longer_half_above():
    """ONNX: channels c - floor((size-1)/2) to c + ceil((size-1)/2)."""
    x = noise(1, 7, 3).astype(np.float64)
    graph = capture(model("(float[1,7,3] x) => (y) { y = LRN<size=4, alpha=0.5, bias=2.0>(x) }"))
    squares = np.stack([(x[:, max(0, c - 1) : c + 3] ** 2).sum(1) for c in range(7)], 1)
    expected = x / (2 + 0.5 / 4 * squares) ** 0.75
    np.testing.assert_allclose(evaluate(graph, x)[0], expected, 1e-12)


def test_embeddings_take_integers():
    ids = np.array([[3, 0, 6], [1, 1, 2]], I64)
    graph = same(
        "(int64[2,3] i) => (y) { u = Unsqueeze<axes=[1]>(i) e = Gather(t, u) y = Relu(e) }",
        11,
        inputs=[ids],
        t=noise(7, 5),
    )
    assert [node.op for node in graph.nodes] == ["reshape", "embedding", "relu"]


def test_shapes_are_computed_at_capture():
    """The reshape of a model that computes its shape leaves nothing behind but the reshape."""
    graph = same(
        "(float[2,3,4] x) => (y) { s = Shape(x) n = Gather(s, zero) u = Unsqueeze<axes=[0]>(n) "
        "k = Constant<value = int64[1] {-1}>() c = Concat<axis=0>(u, k) y = Reshape(x, c) }",
        11,
        zero=np.array(0, I64),
    )
    assert [node.op for node in graph.nodes] == ["flatten"]
    assert not graph.constants


def test_arithmetic_of_shapes_is_that_of_integers():
    built = model(
        "(float[7,5] x) => (y) { s = Shape(x) h = Div(s, minus_two) a = Abs(h) m = Mod(s, minus_two)"
        " f = Cast<to=1>(a) q = Floor(f) i = Cast<to=7>(q) e = Sub(i, m) y = Slice(x, i, e) }",
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
    "(float[2,2] x, float[2] s) => (y) { y = Pow(x, s) }": "the exponent is computed as the network",
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
