"""Capture: what a module computes, the Graph computes; what it cannot hold is refused by name."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize

from refimpl.graph import check, evaluate, parse
from refimpl.importers import CaptureError
from refimpl.importers.torch import capture
from refimpl.schemes import KGS, Unstructured


class Lambda(nn.Module):
    """Children by name, and a forward given as a function of (self, *inputs)."""

    def __init__(self, function, **children):
        super().__init__()
        self.function = function
        for name, child in children.items():
            self.add_module(name, child)

    def forward(self, *inputs):
        return self.function(self, *inputs)


class Residual(nn.Module):
    """conv-bn-relu-conv-bn, plus the input, relu."""

    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(channels, affine=False)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + x)


class SqueezeExcite(nn.Module):
    """Channels weighted by what their averages say."""

    def __init__(self, channels):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, 3, 1)
        self.fc2 = nn.Conv2d(3, channels, 1)

    def forward(self, x):
        weight = F.silu(self.fc1(x.mean((2, 3), keepdim=True)))
        return x * F.hardsigmoid(self.fc2(weight))


def cat_of_branches(self, x):
    return torch.cat([self.wide(x), self.tall(x), x], 1)


def head(self, x):
    return F.softmax(self.fc(torch.flatten(self.pool(x), 1)), dim=-1)


def in_place_through_a_view(_, x):
    y = x * 2
    y.view(-1).add_(0.5)
    return torch.relu_(y), y - 1, 3 - y


NETS = {
    "residual": (lambda: Residual(5), (2, 5, 7, 6)),
    "squeeze_excite": (lambda: SqueezeExcite(5), (1, 5, 4, 7)),
    "branches": (
        lambda: Lambda(
            cat_of_branches,
            wide=nn.Conv2d(3, 4, (1, 3), padding=(0, 1)),
            tall=nn.Conv2d(3, 2, (3, 1), padding="same", padding_mode="zeros"),
        ),
        (1, 3, 5, 9),
    ),
    "grouped_dilated_strided": (
        lambda: nn.Sequential(
            nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=4),
            nn.Conv2d(8, 6, 3, dilation=2, padding=2, groups=2),
            nn.ReLU6(),
            nn.Conv2d(6, 6, (2, 3), padding="same", groups=6),
            nn.Hardswish(),
        ),
        (1, 4, 11, 9),
    ),
    "three_d": (
        lambda: nn.Sequential(
            nn.Conv3d(2, 3, (1, 3, 3), padding=(0, 1, 1)),
            nn.BatchNorm3d(3),
            nn.MaxPool3d((1, 2, 2), stride=(1, 2, 2), ceil_mode=True),
            nn.Conv3d(3, 4, (3, 1, 1), stride=(2, 1, 1)),
            nn.LeakyReLU(0.2, inplace=True),
            nn.AdaptiveAvgPool3d((1, 1, 2)),
            nn.Flatten(),
            nn.Linear(8, 3),
        ),
        (2, 2, 5, 7, 5),
    ),
    "one_d": (
        lambda: nn.Sequential(
            nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.ELU(0.5), nn.AvgPool1d(3, padding=1)
        ),
        (2, 3, 11),
    ),
    "mlp": (
        lambda: nn.Sequential(
            nn.Linear(7, 5), nn.BatchNorm1d(5), nn.GELU(), nn.Dropout(), nn.Linear(5, 3, bias=False)
        ),
        (4, 7),
    ),
    "head": (
        lambda: Lambda(head, pool=nn.AdaptiveMaxPool2d((2, None)), fc=nn.Linear(30, 4)),
        (2, 5, 7, 3),
    ),
    "pools": (
        lambda: nn.Sequential(
            nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
            nn.MaxPool2d(2, 1, 1, dilation=2),
            nn.Hardtanh(-0.5, 0.75),
            nn.GELU("tanh"),
        ),
        (1, 2, 9, 8),
    ),
    "in_place": (lambda: Lambda(in_place_through_a_view), (2, 3)),
}


def random_statistics(module):
    """Running means and variances that are not 0 and 1."""
    for child in module.modules():
        if getattr(child, "running_mean", None) is not None:
            child.running_mean.normal_()
            child.running_var.uniform_(0.5, 2.0)


@pytest.mark.parametrize("name", NETS)
def test_graph_computes_what_the_module_does(name):
    torch.manual_seed(0)
    build, shape = NETS[name]
    module = build()
    random_statistics(module)
    x = torch.randn(shape)
    graph = capture(module, (x,))
    with torch.no_grad():
        theirs = copy.deepcopy(module).double().eval()(x.double())
    theirs = theirs if isinstance(theirs, tuple) else (theirs,)
    for fast in (False, True):
        for ours, other in zip(evaluate(graph, x.numpy(), fast=fast), theirs, strict=True):
            np.testing.assert_allclose(ours, other.numpy(), rtol=1e-11, atol=1e-12)
    assert capture(module, (x,)) == graph
    assert parse(str(graph), graph.constants, {}) == graph


def test_names_come_from_the_module():
    module = nn.Sequential(Residual(4), nn.Flatten(), nn.Linear(36, 2))
    graph = capture(module, (torch.zeros(1, 4, 3, 3),))
    assert graph.name == "Sequential"
    assert [node.name for node in graph.nodes] == [
        "0_conv1", "0_bn1", "0_relu", "0_conv2", "0_bn2", "0_add", "0_relu_1", "1", "2",
    ]  # fmt: skip
    assert {"0.conv1.weight", "0.bn1.running_var", "0.bn2.weight", "2.bias"} <= set(graph.constants)
    assert graph.nodes[7].op == "flatten"


def test_names_never_collide():
    module = Lambda(lambda self, x: self.x(self.get_submodule("a b")(x)) + x, x=nn.ReLU())
    module.add_module("a b", nn.Sigmoid())
    graph = capture(module, (torch.zeros(2, 3),))
    check(graph)
    # The example's name for a starred argument is torch's; the module `x` gets out of its way.
    assert [node.name for node in graph.nodes] == ["a b", "x", "add"]


def test_the_module_is_left_as_it_was():
    module = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.9))
    module.train()
    module[0].eval()
    before = copy.deepcopy(module.state_dict())
    graph = capture(module, (torch.zeros(1, 3),))
    assert [node.op for node in graph.nodes] == ["linear"]
    assert (module.training, module[0].training, module[1].training) == (True, False, True)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


class Masked(nn.Module):
    """A parametrisation that multiplies by a mask."""

    def __init__(self, mask):
        super().__init__()
        self.register_buffer("mask", torch.from_numpy(mask))

    def forward(self, weight):
        return weight * self.mask


def pruned_conv(scheme, keep, **options):
    conv = nn.Conv2d(6, 8, 3, padding=1, **options)
    parts = options.get("groups", 1)
    mask = scheme.project(conv.weight.detach().numpy(), keep, parts=parts)
    parametrize.register_parametrization(conv, "weight", Masked(mask))
    return conv, mask


def test_parametrised_weights_are_baked_and_carry_their_masks():
    conv, mask = pruned_conv(KGS(4, 2), 0.4, groups=2)
    module = nn.Sequential(conv, nn.ReLU())
    graph = capture(module, (torch.zeros(1, 6, 5, 5),), masks={"0.weight": (KGS(4, 2), mask)})
    assert parametrize.is_parametrized(conv)
    weight = graph.constants["0.weight"].array
    np.testing.assert_array_equal(weight, conv.weight.detach().numpy())
    assert graph.sparsity["0.weight"].scheme == KGS(4, 2)
    np.testing.assert_array_equal(graph.sparsity["0.weight"].mask.array, mask)
    masks = {"0.weight": graph.sparsity["0.weight"].mask}
    assert parse(str(graph), graph.constants, masks) == graph


def test_masks_that_do_not_fit_are_refused():
    conv, mask = pruned_conv(KGS(4, 2), 0.4)
    module, x = nn.Sequential(conv), (torch.zeros(1, 6, 5, 5),)
    with pytest.raises(CaptureError, match=r"'conv\.weight', which is no parameter.*0\.weight"):
        capture(module, x, masks={"conv.weight": (KGS(4, 2), mask)})
    with pytest.raises(CaptureError, match=r"'0\.weight' is not zero at"):
        capture(
            module,
            x,
            masks={
                "0.weight": (Unstructured(), mask & (mask.cumsum() % 3 > 0).reshape(mask.shape))
            },
        )
    with pytest.raises(CaptureError, match=r"mask of '0\.weight' is bool of shape"):
        capture(module, x, masks={"0.weight": (KGS(4, 2), mask[:4])})
    with pytest.raises(CaptureError, match=r"mask of '0\.weight' is not legal: kgs"):
        capture(module, x, masks={"0.weight": (KGS(8, 6), mask)})


def test_a_tied_weight_is_one_constant_and_its_mask_may_use_either_name():
    first, second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
    second.weight = first.weight
    mask = np.eye(4) == 0
    with torch.no_grad():
        first.weight.mul_(torch.from_numpy(mask))
    module = nn.Sequential(first, nn.Tanh(), second)
    graph = capture(module, (torch.zeros(1, 4),), masks={"2.weight": (Unstructured(), mask)})
    assert set(graph.constants) == {"0.weight"} == set(graph.sparsity)
    both = {name: (Unstructured(), mask) for name in ("0.weight", "2.weight")}
    with pytest.raises(CaptureError, match="one tied weight"):
        capture(module, (torch.zeros(1, 4),), masks=both)


def test_numbers_become_scalars_as_torch_rounds_them():
    module = Lambda(lambda _, x: (x + 0.1) / 4)
    graph = capture(module, (torch.zeros(2, 3),))
    assert [node.op for node in graph.nodes] == ["add", "div"]
    assert sorted(c.array.item() for c in graph.constants.values()) == [np.float32(0.1), 4]


X = (torch.zeros(2, 3, 8, 8),)


class Deep(nn.Module):
    """A block whose forward holds the operator to be refused."""

    def __init__(self, function):
        super().__init__()
        self.features = nn.Sequential(nn.ReLU(), Lambda(function))

    def forward(self, x):
        return self.features(x)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda _, x: x.cumsum(1), r"aten\.cumsum\.default \(node cumsum\)"),
        (lambda _, x: x**20, r"aten\.pow\.Tensor_Scalar.*exponent=20.*1 to 16"),
        (lambda _, x: x.add(x, alpha=2), r"aten\.add\.Tensor.*alpha=2"),
        (lambda _, x: x.double(), r"aten\.to\.dtype.*float64"),
        (lambda _, x: x.relu().to(torch.float16), r"aten\.to\.dtype.*float16"),
        (lambda _, x: F.avg_pool2d(x, 2, divisor_override=3), r"avg_pool2d.*divisor_override=3"),
        (lambda _, x: F.max_pool2d(x, 2, return_indices=True), "only its first result"),
        (lambda _, x: F.dropout(x, 0.5), r"aten\.dropout\.default.*at random"),
        (lambda _, x: F.batch_norm(x, None, None, training=True), "batch_norm"),
        (lambda _, x: F.conv2d(x[0], torch.ones(1, 3, 1, 1)), r"aten\.conv2d.*as many axes"),
        (lambda _, x: F.interpolate(x, scale_factor=2, mode="bicubic"), r"upsample_bicubic2d\.vec"),
        (lambda _, x: x.max(1, True)[1] * x, r"aten\.max\.dim.*only its first result"),
        (lambda _, x: x.max(1)[1].float(), r"aten\.max\.dim.*only its first result"),
        (lambda _, x: torch.where(x > 0, x, -x), r"aten\.gt\.Scalar.*no operator"),
        (lambda _, x: x[:, torch.tensor([0, 1]), torch.tensor([1, 2])], r"index\.Tensor.*one axis"),
        (
            lambda _, x: F.scaled_dot_product_attention(x, x, x, x),
            r"attention.*depends on the input",
        ),
        (lambda _, x: torch.where(torch.eye(8) > 0, x, x + 1), r"aten\.where\.self.*two tensors"),
        (lambda _, x: torch.nonzero(x), r"aten\.nonzero\.default"),
        (lambda _, x: x + torch.rand(8), r"aten\.rand\.default"),
    ],
)
def test_refusals_name_operator_and_place(function, message):
    with pytest.raises(CaptureError, match=message) as refusal:
        capture(Deep(function), X)
    assert "features.1" in str(refusal.value)
    assert "test_capture_torch.py:" in str(refusal.value)


def test_every_unknown_operator_is_named_at_once():
    with pytest.raises(CaptureError) as refusal:
        capture(Deep(lambda _, x: x.cumsum(1).sort(1)[0]), X)
    assert str(refusal.value).count("cannot capture") == 2


def test_control_flow_is_refused_with_its_place():
    with pytest.raises(CaptureError, match=r"features\.1 \(test_capture_torch\.py:\d+\).*depend"):
        capture(Deep(lambda _, x: x if x.sum() > 0 else -x), X)
    with pytest.raises(CaptureError, match=r"cannot capture cond \(node cond\)"):
        capture(Deep(lambda _, x: torch.cond(x.sum() > 0, torch.sin, torch.cos, (x,))), X)


def test_an_unbatched_input_is_refused():
    with pytest.raises(CaptureError, match=r"aten\.conv2d\.default.*the module's own forward"):
        capture(nn.Conv2d(3, 4, 3), (torch.zeros(3, 8, 8),))


class Counting(nn.Module):
    """A module with state that its forward changes."""

    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x):
        self.count.add_(1)
        return x + self.count


class WithTable(nn.Module):
    """A module with a float64 buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("table", torch.zeros(8, dtype=torch.float64))

    def forward(self, x):
        return torch.relu(x) * self.table


@pytest.mark.parametrize(
    ("module", "example", "message"),
    [
        (nn.ReLU(), torch.zeros(1), "is a Tensor, not a tuple"),
        (nn.ReLU(), ([torch.zeros(1)],), "argument 0 of the example is a list"),
        (Lambda(lambda _, x, n: x * n), (torch.zeros(1), 3), "argument 1 of the example is a int"),
        (nn.ReLU(), (torch.zeros(1).half(),), r"torch\.float16, not float32"),
        (nn.ReLU(), (torch.zeros(1).long(),), r"relu.*torch\.int64, not float32"),
        (nn.Linear(2, 2).double(), (torch.zeros(1, 2),), r"is torch\.float64; only float32"),
        (Counting(), (torch.zeros(2),), "changes 'count' as it runs"),
        (WithTable(), (torch.zeros(2, 8),), r"'table' is torch\.float64"),
        (Lambda(lambda _, x: (x, 3)), (torch.zeros(2),), "output 1 is 3, not a tensor"),
        (Lambda(lambda _, x: (x, None)), (torch.zeros(2),), "output 1 is None, not a tensor"),
    ],
)
def test_other_refusals(module, example, message):
    with pytest.raises(CaptureError, match=message):
        capture(module, example)


def test_nested_outputs_come_flattened():
    module = Lambda(lambda _, x: {"a": x + 1, "b": [x * 2, (x,)]})
    graph = capture(module, (torch.ones(2),))
    assert [y.tolist() for y in evaluate(graph, np.ones(2))] == [[2, 2], [2, 2], [1, 1]]


class _Branch(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def test_what_cannot_be_traced_is_one_error_and_nothing_else_is_printed(capfd) -> None:
    with pytest.raises(CaptureError, match="Control flow must not depend on values"):
        capture(_Branch(), (torch.ones(2, 3),))
    assert capfd.readouterr() == ("", "")


def test_a_forward_that_takes_other_arguments_is_placed_in_the_model() -> None:
    with pytest.raises(CaptureError, match=r"own forward \(Linear\): TypeError: missing"):
        capture(nn.Linear(3, 4), ())
