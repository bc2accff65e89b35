"""The networks, captured: narrow ones compute what the module does, full ones have their size."""

import pytest
import torch

from bench.networks.definitions import DEFINITIONS, build
from refimpl.graph import macs
from refimpl.importers.pt2 import capture as capture_file
from refimpl.importers.torch import capture
from tests.test_capture_aten import compare

NARROW = {
    "vgg16": (1 / 16, (2, 3, 32, 32)),
    "vgg16_bn": (1 / 16, (2, 3, 40, 32)),
    "resnet18": (1 / 16, (2, 3, 33, 40)),
    "resnet50": (1 / 16, (2, 3, 40, 33)),
    "mobilenet_v2": (1 / 8, (2, 3, 40, 33)),
    "efficientnet_b0": (1 / 8, (2, 3, 40, 33)),
    "c3d": (1 / 32, (1, 3, 16, 112, 112)),
    "r2plus1d_18": (1 / 16, (2, 3, 5, 20, 17)),
    "s3d": (1 / 16, (1, 3, 16, 224, 224)),
    "unet": (1 / 16, (2, 3, 32, 16)),
    "gru": (1 / 128, (5, 2, 39)),
    "bidirectional_lstm": (1 / 32, (5, 2, 39)),
    "transformer": (1 / 16, (2, 7)),
}


@pytest.mark.parametrize("name", NARROW)
def test_narrow_networks_compute_what_the_module_does(name):
    width, shape = NARROW[name]
    compare(build(name, width), DEFINITIONS[name].example(shape), rtol=1e-6)


@pytest.mark.parametrize("name", ["mobilenet_v2", "unet", "bidirectional_lstm", "transformer"])
def test_saved_networks_are_the_same_graph(name, tmp_path):
    width, shape = NARROW[name]
    module, example = build(name, width), (DEFINITIONS[name].example(shape),)
    torch.export.save(torch.export.export(module, example), tmp_path / "net.pt2")
    saved, captured = capture_file(tmp_path / "net.pt2"), capture(module, example)
    assert saved.constants == captured.constants
    assert [node.op for node in saved.nodes] == [node.op for node in captured.nodes]


@pytest.mark.parametrize("name", DEFINITIONS)
def test_full_networks_have_their_published_size(name):
    known = DEFINITIONS[name]
    with torch.device("meta"):
        module = known.make(1.0)
    if known.parameters is not None:
        assert sum(p.numel() for p in module.parameters()) == known.parameters
    if known.gmacs is not None:
        # Memory that is never written to takes none.
        graph = capture(module.to_empty(device="cpu"), (known.example(),))
        total = sum(dense for dense, _ in macs(graph).values())
        assert total / 1e9 == pytest.approx(known.gmacs, rel=0.01)


def test_networks_are_the_same_for_the_same_seed():
    first, again, other = (build("resnet18", 1 / 16, seed) for seed in (1, 1, 2))
    assert all(map(torch.equal, first.state_dict().values(), again.state_dict().values()))
    assert not torch.equal(first.stem[0].weight, other.stem[0].weight)
