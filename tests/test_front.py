"""The public functions, from a torch module with masks to numbers."""

import copy

import numpy as np
import pytest
import torch
from small_plans import small_plan
from torch import nn

import gossamer
import prune
from gossamer.front import random_inputs
from refimpl.plan import evaluate
from refimpl.schemes import KGS


def pruned_module() -> nn.Module:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.Conv2d(12, 10, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(10 * 3 * 3, 5),
    ).eval()
    prune.apply(module, {"3": (KGS(4, 4), 0.4)})
    return module


EXAMPLE = (torch.randn(2, 3, 8, 7, generator=torch.Generator().manual_seed(0)),)


def test_masks_are_captured_and_the_module_is_left_alone() -> None:
    module = pruned_module()
    before = copy.deepcopy(module.state_dict())
    graph = gossamer.capture(module, EXAMPLE)
    assert set(graph.sparsity) == {"3.weight"}
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())
    assert gossamer.capture(module, EXAMPLE[0]) == graph  # a lone tensor is one input


def test_arrays_give_arrays_and_tensors_tensors() -> None:
    module = pruned_module()
    plan = gossamer.plan(gossamer.capture(module, EXAMPLE))
    wanted = module(*EXAMPLE).detach()
    with gossamer.compile(plan, "host", cache=False) as network:
        array, tensor = network(EXAMPLE[0].numpy()), network(EXAMPLE[0])
        assert isinstance(array, np.ndarray)
        torch.testing.assert_close(tensor, wanted, atol=1e-5, rtol=1e-5)
        np.testing.assert_array_equal(array, tensor.numpy())
        assert "conv2d" in " ".join(network.kernels)


def test_a_profile_covers_every_step() -> None:
    plan = small_plan()
    with gossamer.compile(plan, "host", cache=False) as network:
        profile = network.profile(*random_inputs(plan), runs=7)
    assert [row.step for row in profile.rows] == [step.name for step in plan.steps]
    assert all(0 < row.p10 <= row.p50 <= row.p90 for row in (*profile.rows, profile.whole))
    assert "c2" in str(profile)
    assert profile.summary in str(profile)


def test_code_of_one_layer_is_part_of_all() -> None:
    plan = small_plan()
    with gossamer.compile(plan, "host", cache=False) as network:
        assert 0 < network.asm("c2").count("@function") < network.asm().count("@function")
        assert "define hidden void" in network.llvm("y")
        with pytest.raises(gossamer.ModelError, match=r"no layer 'nope'; it has .*c1"):
            network.asm("nope")


def test_a_closed_network_says_so() -> None:
    plan = small_plan()
    network = gossamer.compile(plan, "host", cache=False)
    network.close()
    network.close()
    with pytest.raises(gossamer.ERRORS, match="the session has ended"):
        network(*random_inputs(plan))


def test_saved_plans_run_as_before(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    plan = small_plan("x86-64-sse")
    gossamer.save(plan, tmp_path / "net.safetensors")
    again = gossamer.load(tmp_path / "net.safetensors")
    inputs = random_inputs(again)
    for _ in range(2):  # the second time from the cache
        with gossamer.compile(again) as network:
            wanted = evaluate(plan, *inputs)[plan.outputs[0]]
            np.testing.assert_allclose(network(*inputs), wanted, atol=1e-5)


def test_a_cache_that_cannot_be_had_is_said_and_does_no_harm(tmp_path, monkeypatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="is not kept"), gossamer.compile(small_plan()) as network:
        network(*random_inputs(network.plan))


@pytest.mark.parametrize(
    ("model", "example", "message"),
    [
        ("net.onnx", None, "are not read yet"),
        (3, None, "int cannot be captured"),
        (nn.Identity(), None, "needs example inputs"),
    ],
)
def test_what_cannot_be_captured_is_named(model, example, message) -> None:
    with pytest.raises(gossamer.ModelError, match=message):
        gossamer.capture(model, example)


def test_a_plan_for_another_machine_is_refused() -> None:
    with pytest.raises(gossamer.ERRORS, match="plan it for a target of that architecture"):
        gossamer.compile(small_plan("cortex-a76"), "host", cache=False)


def test_the_report_names_every_layer() -> None:
    plan = small_plan()
    text = str(plan)
    assert all(step.label in text for step in plan.steps)
    assert "1 of 3 layers with weights are sparse" in text
    assert "1.00x the liveness bound" in text


def test_the_wrong_form_is_named_with_what_makes_the_right_one(tmp_path) -> None:
    graph = gossamer.capture(pruned_module(), EXAMPLE)
    with pytest.raises(gossamer.ModelError, match=r"Sequential is no Graph: gossamer\.capture"):
        gossamer.plan(pruned_module())  # type: ignore[arg-type]
    for call in (gossamer.compile, gossamer.check, lambda g: gossamer.save(g, tmp_path / "x")):
        with pytest.raises(gossamer.ModelError, match=r"Graph is no Plan: gossamer\.plan"):
            call(graph)
    with pytest.raises(gossamer.ERRORS, match="has shape"):
        gossamer.check(gossamer.plan(graph), "host", inputs=[np.zeros(3, np.float32)])
