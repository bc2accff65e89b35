"""Every operator of ONNX in every opset computes what onnxruntime says."""

import numpy as np
import pytest
from onnx_models import I64, model, noise

from refimpl.graph import evaluate, parse
from refimpl.importers.onnx import capture

PADS = np.array([0, 0, 1, 2, 0, 0, 2, 1])


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
        "(float[4,5] x) => (a, b, c) { a = Gather<axis=1>(x, i) b = Gather(x, k) "
        "c = Gather(x, e) }",
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
    call = f"{outputs} = {name}<{listed}>(x, w, r, b{extra})"
    text = f"(float[4,2,3] x{inputs}) => ({outputs}) {{ {call} }}"
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
