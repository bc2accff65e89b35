"""Masks on torch modules: magnitude, training, files, and what is refused."""

import copy

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import nn
from torch.nn.utils import parametrizations

import prune
from refimpl.schemes import KGS, Filter, SchemeError, Unstructured


class Small(nn.Module):
    """Awkward sizes on purpose: no block divides them."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv3d(1, 6, 3, padding=1)
        self.bn = nn.BatchNorm3d(6)
        self.conv2 = nn.Conv3d(6, 10, 3, stride=2, groups=2)
        self.head = nn.Linear(10, 3)

    def forward(self, x):
        x = self.bn(self.conv1(x)).relu()
        return self.head(self.conv2(x).relu().mean((2, 3, 4)))


RATES = {"conv2": (KGS(4, 2), 0.4), "head": (Unstructured(), 0.5)}


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Small()


@pytest.fixture
def clip():
    return torch.randn(2, 1, 5, 7, 6, generator=torch.Generator().manual_seed(1))


def test_apply_masks_the_named_layers_only(net):
    before = copy.deepcopy(net)
    prune.apply(net, RATES)
    found = prune.masks(net)
    assert list(found) == ["conv2.weight", "head.weight"]
    scheme, mask = found["conv2.weight"]
    assert scheme == KGS(4, 2)
    assert scheme.legal(mask, parts=2) is None
    assert mask.mean() == pytest.approx(0.4, abs=0.02)
    torch.testing.assert_close(net.conv2.weight, before.conv2.weight * torch.from_numpy(mask))
    assert torch.equal(net.conv1.weight, before.conv1.weight)


def test_pruned_weights_stay_zero_in_training(net, clip):
    prune.apply(net, RATES)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    losses = []
    batches = [(clip, torch.tensor([0, 2]))] * 8
    prune.train(net, batches, optimizer, on_step=losses.append)
    assert losses[-1] < losses[0]
    for name, (_, mask) in prune.masks(net).items():
        weight = net.get_submodule(name.removesuffix(".weight")).weight
        assert not weight[~torch.from_numpy(mask)].any()


def test_masks_survive_deepcopy_and_state_dict(net, clip):
    prune.apply(net, RATES)
    net.eval()
    again = load(save(net.state_dict()))
    for other in (copy.deepcopy(net), _loaded(Small(), again), _loaded(copy.deepcopy(net), again)):
        other.eval()
        assert torch.equal(other(clip), net(clip))
        assert _plain(prune.masks(other)) == _plain(prune.masks(net))


def _loaded(module, state):
    prune.load_state(module, state)
    return module


def _plain(masks):
    return {name: (scheme, mask.tolist()) for name, (scheme, mask) in masks.items()}


def test_plain_load_state_dict_takes_masks_too(net):
    other = copy.deepcopy(net)
    prune.apply(net, RATES)
    prune.apply(other, {"conv2": (Filter(), 0.5), "head": (Unstructured(), 1)})
    other.load_state_dict(net.state_dict())
    assert _plain(prune.masks(other)) == _plain(prune.masks(net))


def test_remove_bakes_the_zeros_in(net, clip):
    prune.apply(net, RATES)
    net.eval()
    expected = net(clip)
    keys = list(Small().state_dict())
    prune.remove(net)
    assert torch.equal(net(clip), expected)
    assert sorted(net.state_dict()) == sorted(keys)
    assert type(net.conv2) is nn.Conv3d
    assert prune.masks(net) == {}


def test_remove_on_a_copy_leaves_the_original_masked(net, clip):
    prune.apply(net, RATES)
    net.eval()
    copied = copy.deepcopy(net)
    prune.remove(copied)
    assert torch.equal(net(clip), copied(clip))
    assert list(prune.masks(net)) == ["conv2.weight", "head.weight"]
    prune.remove(net)
    assert torch.equal(net(clip), copied(clip))


def test_gradual_pruning_goes_down_and_lets_units_return(net):
    shares = []
    for step in range(5):
        keep = prune.gradual_keep(step / 4, 0.25)
        prune.apply(net, {"head": (Unstructured(), keep)})
        shares.append(prune.masks(net)["head.weight"][1].mean())
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == 1
    assert shares[-1] == pytest.approx(0.25, abs=0.02)
    prune.apply(net, {"head": (Unstructured(), 1.0)})
    assert net.head.weight.count_nonzero() == net.head.weight.numel()


def test_a_module_that_is_itself_a_layer():
    layer = nn.Linear(7, 5)
    prune.apply(layer, {"": (Filter(), 0.6)})
    assert prune.masks(layer)["weight"][1].mean() == pytest.approx(0.6)
    _loaded(nn.Linear(7, 5), layer.state_dict())


def test_masks_keep_memory_format_and_dtype(net, clip):
    net = net.to(memory_format=torch.channels_last_3d).to(torch.bfloat16)
    prune.apply(net, {"conv2": (KGS(4, 2), 0.4)})
    assert net.conv2.weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert net(clip.to(torch.bfloat16)).dtype == torch.bfloat16


def test_a_pruned_infinity_is_absent():
    layer = nn.Linear(4, 2)
    mask = np.ones((2, 4), bool)
    mask[1, 3] = False
    prune.set_masks(layer, {"": (Unstructured(), mask)})
    layer.weight = torch.full((2, 4), torch.inf)
    assert layer.weight[1, 3] == 0


def test_export_sees_the_masked_weight(net, clip):
    prune.apply(net, RATES)
    net.eval()
    program = torch.export.export(net, (clip,))
    torch.testing.assert_close(program.module()(clip), net(clip))


def test_mac_report(net, clip):
    prune.apply(net, {"conv2": (KGS(4, 2), 0.4)})
    report = prune.macs(net, clip)
    mask = prune.masks(net)["conv2.weight"][1]
    conv1, conv2, head = report.layers
    assert conv1.dense == conv1.kept == 6 * 27 * 2 * 5 * 7 * 6
    assert conv2.dense == 10 * 3 * 27 * 2 * 2 * 3 * 2
    assert conv2.kept == mask.sum() * 2 * 2 * 3 * 2
    assert head.dense == 3 * 10 * 2
    assert report.compression == report.dense / report.kept
    assert "conv2" in str(report)
    assert net.training


def test_uniform_keep_meets_the_budget(net, clip):
    report = prune.macs(net, clip)
    keep = prune.uniform_keep(report, ["conv1", "conv2"], 2.5)
    prune.apply(net, {name: (Unstructured(), keep) for name in ("conv1", "conv2")})
    assert prune.macs(net, clip).compression == pytest.approx(2.5, rel=0.02)
    with pytest.raises(prune.PruneError, match="leave 1"):
        prune.uniform_keep(report, ["conv2"], 50)
    with pytest.raises(prune.PruneError, match="conv9"):
        prune.uniform_keep(report, ["conv9"], 2)


def test_a_teacher_pulls_the_student_to_its_answers(net, clip):
    teacher = copy.deepcopy(net)
    prune.apply(net, {"conv2": (KGS(4, 2), 0.3)})
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    losses = []
    prune.train(
        net,
        [(clip, torch.tensor([0, 1]))] * 20,
        optimizer,
        teacher=prune.Teacher(teacher, share=1.0),
        on_step=losses.append,
    )
    assert losses[-1] < losses[0] / 2
    assert teacher.training
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_accuracy(clip):
    module = nn.Sequential(nn.Flatten(), nn.Linear(210, 3))
    labels = module(clip).argmax(1)
    assert prune.accuracy(module, [(clip, labels)]) == 1
    with pytest.raises(ValueError, match="at least one"):
        prune.accuracy(module, [])


def torn():
    mask = np.ones((10, 3, 3, 3, 3), bool)
    mask[5, 1, 0, 2, 1] = False
    return mask


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda n: prune.apply(n, {"conv9": RATES["conv2"]}), "'conv1', 'conv2', 'head'"),
        (lambda n: prune.apply(n, {"bn": RATES["conv2"]}), "BatchNorm3d"),
        (lambda n: prune.set_masks(n, {"conv2": (KGS(4, 2), torn())}), r"\(5, 1, 0, 2, 1\)"),
        (lambda n: prune.set_masks(n, {"head": (KGS(4, 2), torn())}), r"\(3, 10\)"),
        (lambda _: prune.macs(nn.ReLU(), torch.ones(2)), "no MACs"),
    ],
)
def test_refusals_name_the_layer_and_change_nothing(net, call, words):
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(prune.PruneError, match=words):
        call(net)
    assert net.state_dict().keys() == before.keys()


def test_a_bad_share_is_refused(net):
    with pytest.raises(SchemeError, match="at most 1"):
        prune.apply(net, {"conv2": (KGS(4, 2), 1.5)})


def test_another_parametrisation_is_refused(net):
    parametrizations.weight_norm(net.head)
    with pytest.raises(prune.PruneError, match="'head' already has a parametrisation"):
        prune.apply(net, RATES)


def test_a_state_dict_whose_mask_breaks_its_scheme_is_refused_by_name(net):
    prune.apply(net, RATES)
    state = net.state_dict()
    state["conv2.parametrizations.weight.0.kept"][5, 1, 0, 2, 1] ^= True
    with pytest.raises(RuntimeError, match="mask of layer 'conv2' is not legal"):
        copy.deepcopy(net).load_state_dict(state)
    with pytest.raises(prune.PruneError, match="mask of layer 'conv2' is not legal"):
        prune.load_state(Small(), state)


def test_a_state_dict_with_a_strange_scheme_is_refused(net):
    prune.apply(net, RATES)
    state = net.state_dict()
    state["conv2.parametrizations.weight.0._extra_state"] = torch.zeros(9999, dtype=torch.uint8)
    with pytest.raises(SchemeError, match="short text"):
        prune.load_state(Small(), state)
    with pytest.raises(RuntimeError, match="short text"):
        copy.deepcopy(net).load_state_dict(state)
