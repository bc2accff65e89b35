"""Files that are damaged or lie: one sentence, soon, and without the memory they ask for."""

import contextlib
import itertools
import os
import tracemalloc

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx_models import I64, model, noise

from refimpl.graph import evaluate
from refimpl.importers import CaptureError
from refimpl.importers.onnx import capture

RELU = "(float[2] x) => (y) { y = Relu(x) }"
SUM = "(float[2,3] x) => (y) { y = Add(x, w) }"

VICTIMS = [
    model(
        "(float[1,2,5,6] x) => (float[1,3] y) { c = Conv<pads=[1,1,1,1], strides=[2,1]>(x, w, b) "
        "n = BatchNormalization(c, b, b, b, s) r = Relu(n) p = GlobalAveragePool(r) "
        "s4 = Shape(p) t = Slice(s4, zero, two) y = Reshape(p, t) }",
        w=noise(3, 2, 3, 3),
        b=noise(3),
        s=noise(3) ** 2,
        zero=np.array([0], I64),
        two=np.array([2], I64),
    ),
    model(
        "(float[4,N,3] x, int64[4] i) => (y, h) { y, h = GRU<linear_before_reset=1, "
        'direction="reverse">(x, w, r, b) e = Gather(t, i) }',
        w=noise(1, 6, 3),
        r=noise(1, 6, 2),
        b=noise(1, 12),
        t=noise(5, 3),
    ),
    model(
        "(float[1,4,2,3] x) => (y) { a = Resize(x, , sc) b = Pad(a, p) c, d = Split<axis=1>(b) "
        "e = Tile(c, r) f = Expand(d, q) g = Concat<axis=0>(e, f) y = Softmax<axis=1>(g) }",
        13,
        sc=np.float32([1, 1, 2, 2]),
        p=np.array([0, 0, 1, 0, 0, 0, 0, -1], I64),
        r=np.array([2, 1, 1, 1], I64),
        q=np.array([1, 1, 1], I64),
    ),
]
BYTES = [victim.SerializeToString() for victim in VICTIMS]


def captured(path, data):
    path.write_bytes(data)
    with contextlib.suppress(CaptureError):
        capture(path, shapes={"x": (4, 2, 3)} if b"linear_before" in data else None)


@settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    victim=st.sampled_from(BYTES),
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=4),
    cut=st.none() | st.integers(0, 10**6),
)
def test_changed_bytes_raise_nothing_but_capture_errors(tmp_path, victim, changes, cut):
    data = bytearray(victim)
    for place, value in changes:
        data[place % len(data)] = value
    captured(tmp_path / "x.onnx", bytes(data if cut is None else data[: cut % len(data)]))


def test_the_models_that_are_damaged_are_sound():
    shapes = {"x": (4, 2, 3)}
    for victim, given_shapes in zip(VICTIMS, ({}, shapes, {}), strict=True):
        assert capture(victim, shapes=given_shapes).nodes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no graph"),
        (b"import torch\n" * 100, "is not an ONNX model"),
        (BYTES[0][:-20], "is cut off or damaged"),
        (None, "cannot be read"),
    ],
)
def test_files_that_are_no_models(tmp_path, content, message):
    path = tmp_path / "x.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CaptureError, match=message):
        capture(path)


def test_folders_and_giants_are_refused_unread(tmp_path):
    with pytest.raises(CaptureError, match="is not a file"):
        capture(tmp_path)
    path = tmp_path / "giant.onnx"
    path.touch()
    os.truncate(path, 2**32)
    with pytest.raises(CaptureError, match=r"at most 2 GiB.*save_as_external_data"):
        capture(path)


ABSURD = {
    "constant_of_shape": ("y = ConstantOfShape(n)", {"n": np.array([2**30, 2**10], I64)}),
    "expand": ("e = Expand(w, n) y = Add(x, e)", {"n": np.array([2**20, 2**20, 3], I64)}),
    "tile": ("e = Tile(w, n) y = Add(x, e)", {"n": np.array([2**31 - 1, 2**20], I64)}),
    "range": ("y = Range(a, b, a)", {"a": np.array(1, I64), "b": np.array(2**62, I64)}),
    "float_range": ("y = Range(a, b, a)", {"a": np.float32(1e-30), "b": np.float32(1e30)}),
    "outer": (
        "o = ConstantOfShape(n) t = Transpose(o) y = Add(o, t)",
        {"n": np.array([2**16, 1], I64)},
    ),
    "pad": ("y = Pad(w, n)", {"n": np.array([0, 0, 2**40, 2**20], I64)}),
    "resize": ("y = Resize(w, , n)", {"n": np.float32([1e9, 1e9])}),
    "gather": (
        "i = ConstantOfShape<value = int64[1] {0}>(n) y = Gather(w, i)",
        {"n": np.array([2**24, 2**10], I64)},
    ),
    "reshape": ("y = Reshape(x, n)", {"n": np.array([2**62, 2**62], I64)}),
    "huge_value": (
        "e = Expand(x, n) f = Expand(e, n) y = Relu(f)",
        {"n": np.array([2**30, 2**30, 1, 1], I64)},
    ),
}


@pytest.mark.parametrize("case", ABSURD)
def test_absurd_sizes_are_refused_before_anything_is_allocated(case):
    body, constants = ABSURD[case]
    built = model(f"(float[2,3] x) => (y) {{ {body} }}", w=noise(2, 3), **constants)
    tracemalloc.start()
    try:
        with pytest.raises(CaptureError):
            capture(built)
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()


def test_many_values_together_are_bounded_too():
    """Each is small, but a file of a few kilobytes does not justify thousands of them."""
    body = "".join(f"c{i} = ConstantOfShape(n) " for i in range(100))
    body += "y = Sum(x, " + ", ".join(f"c{i}" for i in range(100)) + ")"
    built = model(f"(float[1024,1024] x) => (y) {{ {body} }}", n=np.array([1024, 1024], I64))
    with pytest.raises(CaptureError, match="more than the size of the model justifies"):
        capture(built)


def with_tensor(**fields):
    """The model x + w, with a tensor w of these fields."""
    built = model(SUM)
    tensor = TensorProto(name="w", dims=[2, 3], data_type=TensorProto.FLOAT)
    for name, value in fields.items():
        if isinstance(value, list):
            del getattr(tensor, name)[:]
            getattr(tensor, name).extend(value)
        else:
            setattr(tensor, name, value)
    built.graph.initializer.append(tensor)
    return built


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"raw_data": b"\0" * 23}, "has 23 bytes; its shape .* 24"),
        ({"float_data": [1.0] * 5}, "has 5 values in float_data, its shape .* 6"),
        ({"raw_data": b"\0" * 24, "float_data": [1.0]}, "its data twice"),
        ({"int32_data": [1] * 6}, "has 0 values in float_data"),
        ({"dims": [2**40, 2**40], "raw_data": b""}, "has 0 bytes"),
        ({"dims": [-2, -3], "raw_data": b"\0" * 24}, "no tensor has"),
        ({"dims": [1] * 100, "raw_data": b"\0" * 4}, "no tensor has"),
        ({"data_type": 99}, "of the unknown type 99"),
        ({"data_type": TensorProto.STRING}, "is string"),
        ({"data_type": TensorProto.BFLOAT16}, "is bfloat16"),
        ({"data_type": TensorProto.INT8, "int32_data": [300] * 6}, "values that are no int8"),
    ],
)
def test_tensors_that_do_not_fit_their_data(fields, message):
    with pytest.raises(CaptureError, match=message):
        capture(with_tensor(**fields))


def outside(tmp_path, **entries):
    """A file whose tensor lies elsewhere."""
    built = with_tensor(data_location=TensorProto.EXTERNAL)
    for key, value in entries.items():
        built.graph.initializer[0].external_data.add(key=key, value=value)
    path = tmp_path / "model" / "x.onnx"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(built.SerializeToString())
    return path


def test_external_tensors_are_read_where_they_say(tmp_path):
    w = noise(2, 3)
    path = outside(tmp_path, location="data/w.bin", offset="8", length="24")
    (path.parent / "data").mkdir()
    (path.parent / "data" / "w.bin").write_bytes(b"12345678" + w.tobytes() + b"rest")
    assert np.array_equal(evaluate(capture(path), np.zeros((2, 3)))[0], w)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"location": "../secret"}, "not a plain file in the model's folder"),
        ({"location": "link"}, "not a plain file in the model's folder"),
        ({"location": "folder/secret"}, "not a plain file in the model's folder"),
        ({"location": "{absolute}"}, "not a plain file in the model's folder"),
        ({"location": "."}, "not a plain file in the model's folder"),
        ({"location": "w/../w"}, "does not exist|not a plain file"),
        ({"location": "missing"}, "does not exist beside the model"),
        ({"location": "loop"}, "does not exist beside the model"),
        ({"location": ""}, "is no path"),
        ({"location": "a\nb"}, "is no path"),
        ({"location": "..\\secret"}, "is no path"),
        ({"location": "w" * 5000}, "does not exist beside the model"),
        ({"location": "w", "offset": "8"}, "ends behind the end of w"),
        ({"location": "w", "offset": "-8"}, "is no number of bytes"),
        ({"location": "w", "offset": "9" * 30}, "is no number of bytes"),
        ({"location": "w", "length": "12"}, "says it has 12 bytes"),
        ({"location": "w", "length": "1_2"}, "is no number of bytes"),
    ],
)
def test_external_tensors_that_lie_elsewhere_or_lie(tmp_path, entries, message):
    (tmp_path / "secret").write_bytes(b"\0" * 24)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "w").write_bytes(b"\0" * 24)
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "folder").symlink_to(tmp_path)
    (folder / "loop").symlink_to("loop")
    entries = {k: v.replace("{absolute}", str(tmp_path / "secret")) for k, v in entries.items()}
    with pytest.raises(CaptureError, match=message):
        capture(outside(tmp_path, **entries))


def test_a_model_in_memory_has_no_folder():
    built = with_tensor(data_location=TensorProto.EXTERNAL)
    with pytest.raises(CaptureError, match="lies outside the model; capture the file"):
        capture(built)


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31m", "n" * 2000, "a\u202eb"])
def test_hostile_names_are_refused(name):
    built = model(RELU)
    built.graph.node[0].output[0] = built.graph.output[0].name = name
    with pytest.raises(CaptureError, match="the model has the name") as refusal:
        capture(built)
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 300


def test_text_that_is_not_utf8_is_refused(tmp_path):
    path = tmp_path / "x.onnx"
    built = model("(float[2] x) => (yy) { yy = Relu(x) }")
    path.write_bytes(built.SerializeToString().replace(b"yy", b"\xff\xfe"))
    with pytest.raises(CaptureError, match="the model has the name"):
        capture(path)


FUNCTION = '<domain: "own", opset_import: ["": 17, "own": 1]>'


def test_functions_in_a_circle_and_functions_that_explode_are_refused():
    head = f'<ir_version: 8, opset_import: ["": 17, "own": 1]> net {RELU.replace("Relu", "own.f0")}'
    circle = (
        f"{FUNCTION} f0 (a) => (b) {{ b = own.f1(a) }} {FUNCTION} f1 (a) => (b) {{ b = own.f0(a) }}"
    )
    with pytest.raises(CaptureError, match="call one another in a circle: 'f0', 'f1'"):
        capture(onnx.parser.parse_model(f"{head} {circle}"))
    hidden = (
        f"{FUNCTION} f0 (a) => (b) {{ b = If(a) <then_branch = t () => (c) {{ c = own.f0(a) }}, "
        "else_branch = e () => (d) { d = Relu(a) }> }"
    )
    with pytest.raises(CaptureError, match="in a circle: 'f0'"):
        capture(onnx.parser.parse_model(f"{head} {hidden}"))
    bodies = [
        f"{FUNCTION} f{i} (a) => (b) {{ c = own.f{i + 1}(a) b = own.f{i + 1}(c) }}"
        for i in range(40)
    ]
    last = f"{FUNCTION} f40 (a) => (b) {{ b = Relu(a) }}"
    with pytest.raises(CaptureError, match="nodes with its functions, over"):
        capture(onnx.parser.parse_model(" ".join([head, *bodies, last])))


def nested(depth):
    """A serialised model in which an If holds an If, and so on."""

    def field(number, content):
        size, length = len(content), b""
        while True:
            size, low = size >> 7, size & 127
            length += bytes([low | 128 if size else low])
            if not size:
                return bytes([number << 3 | 2]) + length + content

    node, graph = field(4, b"If"), b""
    for _ in range(depth):
        # An attribute "then_branch" of type GRAPH, in a node, in a graph.
        attribute = field(1, b"then_branch") + field(6, graph) + b"\xa0\x01\x05"
        node = field(2, b"y") + field(4, b"If") + field(5, attribute)
        graph = field(1, node)
    built = model(RELU)
    del built.graph.node[:]
    return built.SerializeToString() + field(7, field(1, node))


@pytest.mark.parametrize("depth", [2, 20, 1000])
def test_nested_graphs_are_refused_however_deep(tmp_path, depth):
    path = tmp_path / "x.onnx"
    path.write_bytes(nested(depth))
    message = "If|defines|no attribute|missing" if depth <= 20 else "is not an ONNX model"
    with pytest.raises(CaptureError, match=message):
        capture(path)


def test_too_many_nodes_are_refused():
    built = model(RELU)
    built.graph.node.extend([built.graph.node[0]] * 100_000)
    with pytest.raises(CaptureError, match="has 100001 nodes, more than 100000"):
        capture(built)


def test_long_chains_are_walked_without_recursion():
    built = model(RELU)
    del built.graph.node[:]
    names = ["x", *(f"v{i}" for i in range(4999)), "y"]
    built.graph.node.extend(
        helper.make_node("Relu", [a], [b]) for a, b in itertools.pairwise(names)
    )
    assert len(capture(built).nodes) == 5000
