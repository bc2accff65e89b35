"""Every rule of aten: the Graph computes what torch does, on shapes that are awkward on purpose."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from refimpl.graph import evaluate, parse
from refimpl.importers import CaptureError
from refimpl.importers.aten import RULES
from refimpl.importers.aten.arguments import _OF_NO_MEANING, _parameters
from refimpl.importers.torch import capture
from tests.test_capture_torch import Lambda

ROW = np.arange(5)


def stacked(*xs):
    return torch.stack(xs, 1)


def causal(x, t=5):
    return torch.triu(x.new_full((t, t), float("-inf")), 1)


def write_slice(x):
    y = x.clone()
    y[:, 1:3] = y[:, :2] * 2
    y[:, 0] = 1.5
    return y


FUNCTIONS = {
    # Arithmetic and activations.
    "div": (lambda x: (x / 3, 2 / x, x / x.exp(), x / torch.full((4,), 2.0)), (3, 4)),
    "pow": (
        lambda x: [
            x.abs() ** p for p in (1, 2, 3, 5, 0.5, -1, -0.5, -3, 0.75, 1.5, -0.25)
        ],
        (3, 4),
    ),
    "unary": (
        lambda x: [
            x.abs(), x.neg(), x.exp(), x.exp().log(), x.exp().sqrt(), x.exp().rsqrt(), x.erf(),
            x.exp().reciprocal(), x.square(), torch.addcmul(x, x, x, value=0.5),
            torch.lerp(x, x.exp(), 0.25),
        ],
        (3, 5),
    ),
    "activations": (
        lambda x: [
            F.selu(x), F.celu(x, 0.5), F.softplus(x, 2.0), F.softsign(x), F.mish(x),
            F.logsigmoid(x), F.glu(x, 1), F.rrelu(x), F.tanhshrink(x),
            F.gelu(x), F.elu(x, 0.5), F.hardsigmoid(x), F.relu6(x), x.clamp(-0.25), F.silu(x),
            F.normalize(x, dim=1),
        ],
        (3, 4, 5),
    ),
    "extremes": (
        lambda x: [
            torch.maximum(x, -x), torch.minimum(x, x.exp()), x.amax(1), x.amin((0, 2), True),
            x.max(1)[0], x.min(2, keepdim=True)[0], x.max(), x.min(), torch.max(x, -x),
        ],
        (3, 4, 5),
    ),
    "reductions": (
        lambda x: [
            x.sum(1), x.sum(), x.mean(), x.mean((0, -1), keepdim=True), x.var(1), x.std((1, 2)),
            x.var(1, unbiased=False, keepdim=True), torch.var_mean(x, 2)[1], x.norm(dim=1),
            torch.linalg.vector_norm(x, 1, 1), torch.linalg.vector_norm(x, float("inf"), (1, 2)),
            torch.logsumexp(x, 1), torch.logsumexp(x, (0, 2), True), F.softmax(x, 1),
            F.log_softmax(x, 0), F.softmax(x, -1),
        ],
        (3, 4, 5),
    ),
    "choices": (
        lambda x: [
            x.masked_fill(torch.ones(4, 5, dtype=torch.bool).tril(), float("-inf")),
            x.masked_fill(torch.arange(5) > 2, 0.5),
            torch.where(torch.arange(5) % 2 == 0, x, float("inf")),
            torch.where(torch.arange(5) % 2 == 0, torch.tensor(2.0), x),
        ],
        (3, 4, 5),
    ),
    # Views and copies.
    "axes": (
        lambda x: [
            x.transpose(1, -1), x.permute(2, 0, 3, 1), x.movedim(1, 3), x.mT, x.swapaxes(0, 1),
            x[0, 0].t(), x.flatten(1, 2), x.unflatten(1, (2, 2)), x.reshape(-1), x.view(2, -1, 3),
            x.unsqueeze(-1), x[:, :1].squeeze(1), x.flatten(), x.permute(0, 1, 2, 3),
        ],
        (2, 4, 5, 3),
    ),
    "parts": (
        lambda x: [
            x[:, ::2], x[:, 1], x[..., -1], x[:, 1:-1], x.narrow(1, 1, 2), x[:, :, -3:],
            x.split([1, 3], 1)[1], x.split(3, 1)[1], x.chunk(3, 2)[2], x.unbind(1)[2], x[0],
            torch.cat([x, x[:, :1]], -3), stacked(x, x + 1), x.select(2, -2), x[:, None, 1],
        ],
        (2, 4, 5, 3),
    ),
    "repeats": (
        lambda x: [
            x.repeat(1, 2, 1), x.repeat(2, 1, 1, 3), x.tile(2, 1), x[:, :1].expand(2, 3, 5),
            x.mean(1, keepdim=True).expand_as(x), x.repeat_interleave(2, 1),
            x.repeat_interleave(3), x[0, 0].expand(4, 5),
        ],
        (2, 3, 5),
    ),
    "pads": (
        lambda x: [
            F.pad(x, (1, -1, 0, 2)), F.pad(x, (1, 2, 2, 1), "reflect"), F.pad(x, (-1, -1)),
            F.pad(x, (1, 0, 2, 3), "replicate"), F.pad(x, (3, 1, 0, 2), "circular"),
            F.pad(x, (0, 1, 1, 0, 2, 0), value=0.5), F.pad(x, (0, 0)),
        ],
        (2, 3, 5, 4),
    ),
    "shuffles": (
        lambda x: [
            F.pixel_shuffle(x, 2), F.pixel_unshuffle(x, 3), F.channel_shuffle(x, 4), x.flip(1),
            x.flip(0, -1), x.roll(2, 1), x.roll((1, -2), (1, 2)), x.roll(7), x.roll(0, 1),
            x[:, [2, 0, -1]], x.index_select(2, torch.tensor([1, 1, 0])), write_slice(x),
        ],
        (2, 8, 6, 9),
    ),
    "nearest": (
        lambda x: [
            F.interpolate(x, scale_factor=2.0), F.interpolate(x, size=(11, 4)),
            F.interpolate(x, scale_factor=(1.75, 0.5)), F.interpolate(x, size=7, mode="nearest"),
            F.interpolate(x, size=(11, 4), mode="nearest-exact"),
            F.interpolate(x, scale_factor=1.5, mode="nearest-exact"),
        ],
        (2, 3, 5, 6),
    ),
    "linear_up": (
        lambda x: [
            F.interpolate(x, scale_factor=2.0, mode="bilinear"),
            F.interpolate(x, size=(9, 4), mode="bilinear"),
            F.interpolate(x, size=(9, 1), mode="bilinear", align_corners=True),
            F.interpolate(x, scale_factor=1.75, mode="bilinear"),
            F.interpolate(x, scale_factor=1.75, mode="bilinear", recompute_scale_factor=True),
            F.interpolate(x[:, :, 0], size=9, mode="linear"),
            F.interpolate(x[None], size=(4, 9, 4), mode="trilinear"),
            F.interpolate(x, size=(9, 4), mode="area"),
        ],
        (2, 3, 5, 6),
    ),
    # Contractions.
    "products": (
        lambda x: [
            x @ x.mT, torch.bmm(x[0], x[0].mT), x[0, 0] @ x[0, 0].T, x @ x.new_ones(4),
            x.new_ones(5) @ x, x[0, 0, 0] @ x[0, 0, 1],
            torch.addmm(x[0, 0], x[0, 0], x.new_ones(4, 4)),
            torch.baddbmm(x[0], x[0], x.new_ones(3, 4, 4), beta=0.5, alpha=2),
            F.linear(x, x.new_ones(3, 4)), x.new_ones(2, 5) @ x,
        ],
        (2, 3, 5, 4),
    ),
    "taken_apart": (
        lambda x: [
            torch.einsum("nchw,ndhw->ncd", x, x), torch.tensordot(x, x, ([1], [1])),
            F.cosine_similarity(x, x + 1), torch.outer(x[0, 0, 0], x[0, 0, 1]),
            x.addcdiv(x, x.exp()), torch.maximum(x, x[0]).clamp(x[1] - 1, x[1] + 1),
            torch.hstack([x, x]), torch.kron(x[0, 0], x[1, 1]),
        ],
        (2, 3, 5, 4),
    ),
    "attention": (
        lambda x: [
            F.scaled_dot_product_attention(x, x * 2, x + 1),
            F.scaled_dot_product_attention(x, x[..., :3, :], x[..., :3, :], is_causal=True),
            F.scaled_dot_product_attention(x, x, x, attn_mask=causal(x), scale=0.5),
            F.scaled_dot_product_attention(x, x, x, torch.ones(5, 5, dtype=torch.bool).tril()),
        ],
        (2, 3, 5, 4),
    ),
    "constants": (
        lambda x: [
            x + torch.arange(4) * 2, x * torch.zeros_like(x).add(1),
            x + torch.linspace(0, 1, 5)[:4],
            x - torch.arange(3).unsqueeze(1).float().pow(2), torch.cat([x, x.new_zeros(3, 2)], 1),
        ],
        (3, 4),
    ),
}  # fmt: skip

MODULES = {
    "transposed_2d": (nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2), (2, 4, 5, 3)),
    "transposed_1d": (nn.ConvTranspose1d(3, 2, 4, 3, dilation=2, bias=False), (2, 3, 5)),
    "transposed_3d": (nn.ConvTranspose3d(2, 3, (1, 2, 3), (2, 1, 2)), (1, 2, 3, 4, 3)),
    "instance_norm": (nn.InstanceNorm2d(3, affine=True), (2, 3, 5, 4)),
    "instance_norm_plain": (nn.InstanceNorm1d(3), (2, 3, 5)),
    "instance_norm_tracked": (nn.InstanceNorm2d(3, track_running_stats=True), (2, 3, 5, 4)),
    "group_norm": (nn.GroupNorm(2, 6), (2, 6, 5, 3)),
    "group_norm_plain": (nn.GroupNorm(3, 6, affine=False), (2, 6, 5)),
    "layer_norm": (nn.LayerNorm((5, 3)), (2, 4, 5, 3)),
    "layer_norm_plain": (nn.LayerNorm(3, elementwise_affine=False), (2, 5, 3)),
    "layer_norm_without_bias": (nn.LayerNorm(3, bias=False), (2, 5, 3)),
    "rms_norm": (nn.RMSNorm(5, eps=1e-3), (2, 3, 5)),
    "local_response_norm": (nn.LocalResponseNorm(3, alpha=0.5, beta=0.75, k=2.0), (2, 7, 3, 4)),
    "prelu": (nn.Sequential(nn.PReLU(3), nn.PReLU()), (2, 3, 5)),
    "linear_any_rank": (nn.Linear(3, 4), (2, 5, 6, 3)),
    "bilinear_up": (nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), (1, 2, 3, 4)),
    "reflect_conv": (nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), (1, 2, 5, 4)),
    "circular_conv": (nn.Conv1d(2, 3, 3, padding=2, padding_mode="circular"), (1, 2, 5)),
    "unflatten": (nn.Sequential(nn.Unflatten(1, (2, 3)), nn.ZeroPad2d(1)), (2, 6, 4)),
    "dropouts": (nn.Sequential(nn.Dropout2d(), nn.AlphaDropout()), (2, 3, 4, 4)),
    "attention": (
        Lambda(lambda self, x: self.m(x, x, x)[0], m=nn.MultiheadAttention(8, 2)),
        (5, 2, 8),
    ),
    "attention_with_weights": (
        Lambda(lambda self, x: self.m(x, x, x, attn_mask=causal(x)), m=nn.MultiheadAttention(8, 2)),
        (5, 2, 8),
    ),
    "encoder": (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True), (2, 5, 8)),
}


def compare(module, *inputs, rtol=1e-10):
    """The Graph of a module, which computes what the module does in float64."""
    graph = capture(module, inputs)
    doubled = [x.double() if x.is_floating_point() else x for x in inputs]
    with torch.no_grad():
        theirs = copy.deepcopy(module).double().eval()(*doubled)
    leaves, _ = torch.utils._pytree.tree_flatten(theirs)
    ours = evaluate(graph, *(x.numpy() for x in inputs), fast=True)
    for mine, other in zip(ours, leaves, strict=True):
        np.testing.assert_allclose(mine, other.numpy(), rtol=rtol, atol=rtol)
    masks = {name: found.mask for name, found in graph.sparsity.items()}
    assert parse(str(graph), graph.constants, masks) == graph
    return graph


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name):
    torch.manual_seed(0)
    function, shape = FUNCTIONS[name]
    # Numbers that are no float32 values are rounded on the way in, but not in torch's float64.
    compare(Lambda(lambda _, x: function(x)), torch.randn(shape), rtol=2e-7)


@pytest.mark.parametrize("name", MODULES)
def test_modules(name):
    torch.manual_seed(0)
    module, shape = MODULES[name]
    for tensor in (*module.parameters(), *module.buffers()):
        tensor.data.uniform_(0.5, 1.5) if tensor.is_floating_point() else None
    compare(
        module, torch.randn(shape), rtol=1e-7 if "attention" in name or "enc" in name else 1e-10
    )


def test_linear_layers_keep_their_weight_however_they_are_written():
    module = Lambda(
        lambda self, x: (x @ self.fc.weight.T, torch.addmm(self.fc.bias, x, self.fc.weight.t()))
    )
    module.fc = nn.Linear(3, 4)
    graph = compare(module, torch.randn(2, 3))
    assert [(node.op, node.inputs[1:]) for node in graph.nodes] == [
        ("linear", ("fc.weight",)), ("linear", ("fc.weight", "fc.bias")),
    ]  # fmt: skip


def test_what_depends_on_no_input_is_computed_at_capture():
    graph = compare(
        Lambda(lambda _, x: x + torch.sin(torch.arange(12.0)).reshape(3, 4)), torch.randn(3, 4)
    )
    assert [node.op for node in graph.nodes] == ["add"]


def test_embeddings_take_indices_through_views():
    module = Lambda(lambda self, i: self.e(i[:, 1:].reshape(-1)) + self.e(torch.arange(6)))
    module.e = nn.Embedding(7, 5, padding_idx=0)
    indices = torch.tensor([[1, 6, 0, 2], [3, 4, 5, 5]])
    graph = compare(module, indices)
    assert [node.op for node in graph.nodes][-2:] == ["embedding", "add"]
    with pytest.raises(CaptureError, match=r"aten\.add\.Tensor.*torch\.int64, not float32"):
        capture(Lambda(lambda self, i: self.e(i + 1), e=nn.Embedding(7, 5)), (indices,))
    with pytest.raises(CaptureError, match=r"output 0 is torch\.int64"):
        capture(Lambda(lambda _, i: i.t()), (indices,))


@pytest.mark.parametrize("target", RULES)
def test_rules_take_the_arguments_that_aten_has(target):
    found = torch.ops
    for part in target.split("."):
        found = getattr(found, part)
    schema = {argument.name: argument for argument in found._schema.arguments}
    takes, takes_more = _parameters(RULES[target])
    if not takes_more:
        assert set(schema) - _OF_NO_MEANING <= set(takes)
