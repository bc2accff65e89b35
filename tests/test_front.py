"""The public functions, from a torch module with masks to numbers."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import helper
from small_models import onnx_file
from small_plans import small_plan
from torch import nn

import gossamer
import jit.decide
import prune
from gossamer.compilable import obstacles
from jit.inputs import random_inputs
from refimpl.plan import PlanError, evaluate
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
        (3, None, "int cannot be captured; a torch.nn.Module and the path of a"),
        (nn.Identity(), None, "needs example inputs"),
        ("net.onnx", EXAMPLE, r"net\.onnx says what its inputs are: leave out the example"),
        (Path("net.pth"), None, "pickled, and not read; build the torch.nn.Module"),
        ("net.safetensors", None, "gossamer.load reads plans"),
        ("net.tflite", None, r"\.pt2 and \.onnx files can"),
        ("net.onnx", None, r"net\.onnx cannot be read"),
        ("net.pt2", None, r"net\.pt2 cannot be read"),
        (nn.Identity(), (np.zeros(3),), "argument 0 of the example is a ndarray"),
    ],
)
def test_what_cannot_be_captured_is_named(model, example, message) -> None:
    with pytest.raises(gossamer.ERRORS, match=message):
        gossamer.capture(model, example)


def test_a_module_takes_no_shapes() -> None:
    with pytest.raises(gossamer.ModelError, match="shaped as the example's tensors"):
        gossamer.capture(nn.Identity(), EXAMPLE, shapes=(1, 3, 8, 7))


def test_errors_of_pruning_are_among_ours() -> None:
    with pytest.raises(gossamer.ERRORS, match="'7'"):
        prune.apply(pruned_module(), {"7": (KGS(4, 4), 0.4)})


# -- files -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    """The module of `pruned_module` without its mask, the size of a batch left open."""
    module = pruned_module()
    prune.remove(module)
    batch = torch.export.Dim("batch", min=1, max=9)
    program = torch.export.export(module, EXAMPLE, dynamic_shapes=({0: batch},))
    path = tmp_path_factory.mktemp("exported") / "net.pt2"
    torch.export.save(program, path)
    return path


@pytest.mark.parametrize("shapes", [(4, 3, 8, 7), {"input": (4, 3, 8, 7)}])
def test_a_file_computes_what_its_module_does(exported: Path, shapes) -> None:
    graph = gossamer.capture(exported, shapes=shapes)
    x = torch.randn(4, 3, 8, 7, generator=torch.Generator().manual_seed(1))
    with gossamer.compile(gossamer.plan(graph), cache=False) as network:
        torch.testing.assert_close(network(x), pruned_module()(x).detach(), atol=1e-5, rtol=1e-5)


def test_sizes_that_a_file_leaves_open_are_asked_for(exported: Path) -> None:
    with pytest.raises(gossamer.ERRORS, match=r"'input' leaves sizes open, .*--shape input=2x3"):
        gossamer.capture(exported)
    with pytest.raises(gossamer.ERRORS, match="inputs are 'input'"):
        gossamer.capture(exported, shapes={"x": (4, 3, 8, 7)})


def test_a_lone_shape_needs_a_lone_input(tmp_path: Path) -> None:
    path = onnx_file(
        tmp_path / "two.onnx",
        [helper.make_node("Add", ["a", "b"], ["y"])],
        {"a": ("N", 3), "b": ("N", 3)},
    )
    with pytest.raises(gossamer.ERRORS, match="2 inputs, a, b: say whose shape 4x3 is, such as a="):
        gossamer.capture(path, shapes=(4, 3))
    assert dict(gossamer.capture(path, shapes={"a": (4, 3)}).inputs)["b"] == (4, 3)


# -- sparse weights without masks --------------------------------------------------------------


def test_masks_that_a_file_lost_are_recognised(exported: Path) -> None:
    given = gossamer.capture(pruned_module(), EXAMPLE)
    shape = tuple(EXAMPLE[0].shape)
    assert gossamer.capture(exported, shapes=shape).sparsity == given.sparsity
    assert gossamer.capture(exported, shapes=shape, recognise=False).sparsity == {}


def test_accidental_zeros_are_left_alone() -> None:
    torch.manual_seed(0)
    module = nn.Linear(40, 30)
    with torch.no_grad():
        module.weight[3, :] = 0
    assert gossamer.capture(module, torch.zeros(2, 40)).sparsity == {}


@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_recurrent_weights_are_recognised_by_gate(kind: str) -> None:
    torch.manual_seed(0)
    module = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[kind](12, 8)
    gates = module.weight_hh_l0.shape[0] // 8
    mask = KGS(4, 4).project(module.weight_hh_l0.detach().numpy(), 0.5, parts=gates)
    with torch.no_grad():
        module.weight_hh_l0 *= torch.from_numpy(mask)
    x = torch.randn(5, 3, 12)
    graph = gossamer.capture(module, x)
    assert list(graph.sparsity) == ["weight_hh_l0"]
    np.testing.assert_array_equal(graph.sparsity["weight_hh_l0"].mask.array, mask)
    with gossamer.compile(gossamer.plan(graph), cache=False) as network:
        torch.testing.assert_close(network(x)[0], module(x)[0].detach(), atol=1e-5, rtol=1e-5)


def test_a_layer_of_zeros_compiles() -> None:
    module = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 5))
    nn.init.zeros_(module[0].weight)
    x = torch.randn(3, 8)
    graph = gossamer.capture(module, x)
    assert not graph.sparsity["0.weight"].mask.array.any()
    with gossamer.compile(gossamer.plan(graph), cache=False) as network:
        torch.testing.assert_close(network(x), module(x).detach(), atol=1e-5, rtol=1e-5)


# -- inputs that index ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.int32, np.int64, np.uint8, np.float32, "tensor"])
def test_indices_are_taken_in_any_type(kind) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Embedding(11, 6), nn.Linear(6, 4))
    index = torch.tensor([[0, 10, 3], [2, 2, 1]])
    plan = gossamer.plan(gossamer.capture(module, index))
    given = index if kind == "tensor" else index.numpy().astype(kind)
    with gossamer.compile(plan, cache=False) as network:
        found = torch.as_tensor(network(given))
        torch.testing.assert_close(found, module(index).detach(), atol=1e-6, rtol=1e-5)
        with pytest.raises(gossamer.ERRORS, match="whole numbers from 0 to 10"):
            network(index.numpy() + 1)
    (drawn,) = random_inputs(plan)
    assert drawn.dtype == np.int64
    assert 0 <= drawn.min() <= drawn.max() <= 10
    assert gossamer.check(plan, "host").ok


# -- what cannot be compiled ---------------------------------------------------------------------


def test_obstacles_are_named_one_by_one(monkeypatch) -> None:
    graph = gossamer.capture(pruned_module(), EXAMPLE)
    assert obstacles(graph, "cortex-a53") == []
    plan = jit.decide.plan

    def refuse(graph, target):
        for node in graph.nodes:
            if node.op in ("relu", "flatten"):
                raise PlanError(f"{node.name}: `{node.op}` cannot be compiled yet")
        return plan(graph, target)

    monkeypatch.setattr(jit.decide, "plan", refuse)
    assert obstacles(graph, "host") == [
        "2: `relu` cannot be compiled yet",
        "4: `relu` cannot be compiled yet",
        "5: `flatten` cannot be compiled yet",
    ]


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
