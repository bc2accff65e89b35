"""Capture of .pt2 files: the Graph of the module, without torch; malformed files are refused."""

import contextlib
import copy
import json
import random
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from refimpl.graph import evaluate
from refimpl.importers import CaptureError
from refimpl.importers.pt2 import capture
from refimpl.importers.torch import capture as capture_module
from tests.test_capture_aten import FUNCTIONS, MODULES
from tests.test_capture_torch import Lambda


def save(module, example, path, **options):
    torch.export.save(torch.export.export(module.eval(), example, **options), path)
    return path


class Small(nn.Module):
    """A bit of everything that a file holds."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.rnn = nn.GRU(4, 3, bidirectional=True)
        self.table = nn.Embedding(7, 4)
        self.register_buffer("places", torch.arange(4))
        self.register_buffer("factor", torch.full((1, 4, 1, 1), 0.5), persistent=False)
        self.tied = nn.Linear(4, 4)
        self.again = self.tied

    def forward(self, x, i):
        y = F.relu(self.norm(self.conv(x)) * self.factor, inplace=True)
        y += self.table(self.places)[None, :, :, None].mean(2, keepdim=True)
        rows = self.again(self.tied(y.mean(2).permute(2, 0, 1)))
        return {"y": y, "rest": [self.rnn(rows), self.table(i), y.view(y.shape[0], -1)]}


EXAMPLE = (torch.ones(2, 3, 5, 6), torch.tensor([[1, 6, 2]]))


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    torch.manual_seed(0)
    dynamic = {"x": {0: torch.export.Dim("n", max=8), 2: torch.export.Dim.AUTO}, "i": None}
    path = tmp_path_factory.mktemp("pt2") / "small.pt2"
    return save(Small(), EXAMPLE, path, dynamic_shapes=dynamic)


def assert_same(file_graph, module, *inputs):
    wanted = evaluate(capture_module(module, inputs), *(x.numpy() for x in inputs), fast=True)
    found = evaluate(file_graph, *(x.numpy() for x in inputs), fast=True)
    for ours, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(ours, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_as_in_the_module(name, tmp_path):
    function, shape = FUNCTIONS[name]
    module, x = Lambda(lambda _, x: function(x)), torch.randn(shape)
    if name == "shuffles":
        with pytest.raises(CaptureError, match=r"another view.*run_decompositions"):
            capture(save(module, (x,), tmp_path / "net.pt2"))
        return
    if name in ("constants", "taken_apart"):
        with pytest.raises(CaptureError, match=r"aten\.(linspace|einsum)\.default.*no operator"):
            capture(save(module, (x,), tmp_path / "net.pt2"))
        return
    assert_same(capture(save(module, (x,), tmp_path / "net.pt2")), module, x)


@pytest.mark.parametrize("name", MODULES)
def test_modules_as_in_memory(name, tmp_path):
    module, shape = MODULES[name]
    module = copy.deepcopy(module)
    assert_same(
        capture(save(module, (torch.randn(shape),), tmp_path / "net.pt2")),
        module,
        torch.randn(shape),
    )


def test_decomposed_programs(tmp_path):
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(True), nn.ConvTranspose2d(4, 6, 2, 2),
        nn.GroupNorm(2, 6), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5), nn.LayerNorm(5),
        nn.Softmax(-1),
    ).eval()  # fmt: skip
    x = torch.randn(2, 3, 7, 6)
    torch.export.save(torch.export.export(module, (x,)).run_decompositions(), tmp_path / "net.pt2")
    graph = capture(tmp_path / "net.pt2")
    assert "7.weight" in graph.constants
    assert_same(graph, module, x)


def test_an_unrolled_recurrence_is_refused_with_the_way_out(tmp_path):
    program = torch.export.export(nn.GRU(3, 4).eval(), (torch.randn(6, 2, 3),))
    torch.export.save(program.run_decompositions(), tmp_path / "net.pt2")
    with pytest.raises(CaptureError, match="unrolled the recurrence of this GRU"):
        capture(tmp_path / "net.pt2")


def test_open_sizes_are_bound_by_name(small):
    graph = capture(small, shapes={"x": (3, 3, 4, 6)})
    assert dict(graph.inputs) == {"x": (3, 3, 4, 6), "i": (1, 3)}
    assert graph.name == "Small"
    assert {"conv.weight", "tied.weight", "rnn.weight_hh_l0_reverse"} <= set(graph.constants)
    assert not {"again.weight", "places"} & set(graph.constants)
    torch.manual_seed(0)
    assert_same(graph, Small(), torch.randn(3, 3, 4, 6), torch.tensor([[0, 1, 5]]))


def test_sizes_made_of_symbols_are_bound_too(tmp_path):
    half = torch.export.Dim("half", min=2, max=64)
    module = Lambda(lambda _, x, y: (x.reshape(x.shape[0] // 2, -1) + y).flatten())
    dynamic = {"inputs": ({0: 2 * half}, {0: half})}
    example = torch.ones(8, 3), torch.ones(4, 6)
    saved = save(module, example, tmp_path / "net.pt2", dynamic_shapes=dynamic)
    graph = capture(saved, shapes={"inputs_0": (6, 3), "inputs_1": (3, 6)})
    assert_same(graph, module, torch.randn(6, 3), torch.randn(3, 6))
    with pytest.raises(CaptureError, match="'inputs_0' cannot have size 7 at axis 0"):
        capture(saved, shapes={"inputs_0": (7, 3)})
    with pytest.raises(CaptureError, match="'inputs_1' cannot have size 4 at axis 0: it is 3"):
        capture(saved, shapes={"inputs_0": (6, 3), "inputs_1": (4, 6)})


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({}, r"input 'x' leaves sizes open.*such as --shape x=2x3x5x6"),
        ({"y": (1,)}, r"given for 'y'; .*small\.pt2's inputs are 'x', 'i'"),
        ({"x": (1, 3, 4)}, "'x' has 4 axes, not 3"),
        ({"x": (1, 3, 4, 7)}, "'x' cannot have size 7 at axis 3: it is 6 there"),
        ({"x": (9, 3, 4, 6)}, r"exported for sizes \d to 8, not 9"),
        ({"x": (0, 3, 4, 6)}, "not an int of 1 or more"),
    ],
)
def test_shapes_that_do_not_fit(small, shapes, message):
    with pytest.raises(CaptureError, match=message):
        capture(small, shapes=shapes)


def test_torch_is_not_imported(small):
    code = (
        "import sys; from refimpl.importers.pt2 import capture; "
        f"capture({str(small)!r}, shapes={{'x': (1, 3, 4, 6)}}); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_in_place_calls_on_what_is_given_are_refused(tmp_path):
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("count", torch.zeros(1))

        def forward(self, x):
            self.count.add_(1)
            return x + self.count

    with pytest.raises(CaptureError, match=r"changes 'count' as it runs"):
        capture(save(Counting(), (torch.zeros(2),), tmp_path / "net.pt2"))
    with pytest.raises(CaptureError, match=r"changes its input 'input' as it runs"):
        capture(save(nn.ReLU(inplace=True), (torch.zeros(2),), tmp_path / "net.pt2"))


def entries(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path, contents, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in contents:
            archive.writestr(name, data)
    return path


def test_files_that_are_no_pt2_are_refused(tmp_path):
    with pytest.raises(CaptureError, match="cannot be read"):
        capture(tmp_path / "absent.pt2")
    bad = tmp_path / "bad.pt2"
    bad.write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(CaptureError, match=r"cannot be read as a \.pt2"):
        capture(bad)
    with pytest.raises(CaptureError, match="is a zip, but not one that"):
        capture(write(bad, [("a/b", b"")]))
    with pytest.raises(CaptureError, match="older torch"):
        capture(write(bad, [("serialized_exported_program.json", b"{}")]))


def test_hostile_containers_are_refused(small, tmp_path):
    found, bad = list(entries(small).items()), tmp_path / "bad.pt2"
    with pytest.raises(CaptureError, match="is compressed"):
        capture(write(bad, found, compression=zipfile.ZIP_DEFLATED))
    with pytest.raises(CaptureError, match="which is no place"):
        capture(write(bad, [*found, ("small/../../x", b"")]))
    with pytest.warns(UserWarning, match="Duplicate"):
        write(bad, [*found, found[0]])
    with pytest.raises(CaptureError, match="two entries of one name"):
        capture(bad)
    without = [(name, data) for name, data in found if not name.endswith("weight_0")]
    with pytest.raises(CaptureError, match="has no 'small/data/weights/weight_0'"):
        capture(write(bad, without))
    config = "small/data/weights/model_weights_config.json"
    huge = dict(found)[config].replace(b'"as_int": 4}', b'"as_int": 400000000}')
    with pytest.raises(CaptureError, match="is not inside its"):
        capture(write(bad, [*((n, d) for n, d in found if n != config), (config, huge)]))


def test_pickled_constants_are_not_read(small, tmp_path):
    config = "small/data/weights/model_weights_config.json"
    found = entries(small)
    parsed = json.loads(found[config])
    parsed["config"]["conv.weight"]["use_pickle"] = True
    found[config] = json.dumps(parsed).encode()
    with pytest.raises(CaptureError, match=r"'conv\.weight' is .*pickled"):
        capture(write(tmp_path / "bad.pt2", found.items()), shapes={"x": (1, 3, 4, 6)})


def only_refused(path):
    """Capture, which either works or says why not."""
    with contextlib.suppress(CaptureError):
        capture(path, shapes={"x": (2, 3, 4, 6)})


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_flipped_and_truncated_bytes_are_only_ever_refused(small, tmp_path_factory, data):
    content = bytearray(small.read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] ^= data.draw(st.integers(1, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    path = tmp_path_factory.getbasetemp() / "flipped.pt2"
    path.write_bytes(content)
    only_refused(path)


LEAVES = st.sampled_from(
    [None, True, -1, 0, 3, 2**31, 2**70, 1e308, "", "x", "conv2d", "../x", "Symbol('s9')", [], {},
     [1], {"as_int": 3}, {"as_tensor": {"name": "x"}}, {"as_ints": [2**40] * 4}, {"as_none": True}]
)  # fmt: skip


def mutate(value, chance, draw):
    """The value with something inside replaced, removed or repeated."""
    if isinstance(value, (dict, list)) and value and chance.random() < 0.93:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = chance.choice(list(keys))
        if chance.random() < 0.03:
            del value[key]
        elif isinstance(value, list) and chance.random() < 0.05:
            value.append(copy.deepcopy(value[key]))
        else:
            value[key] = mutate(value[key], chance, draw)
        return value
    return copy.deepcopy(draw(LEAVES))


@given(seed=st.integers(0, 2**32), data=st.data())
@settings(max_examples=200, deadline=None)
def test_changed_programs_are_only_ever_refused(small, tmp_path_factory, seed, data):
    chance = random.Random(seed)
    found = entries(small)
    names = [name for name in found if name.endswith(".json")]
    name = chance.choice([*names, "small/models/model.json"])
    parsed = json.loads(found[name])
    inside = parsed["graph_module"]["graph"]["nodes"] if "models" in name and seed % 3 else parsed
    for _ in range(chance.randint(1, 3)):
        mutate(inside, chance, data.draw)
    found[name] = json.dumps(parsed).encode()
    only_refused(write(tmp_path_factory.getbasetemp() / "changed.pt2", found.items()))
