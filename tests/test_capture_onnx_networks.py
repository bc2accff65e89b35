"""Networks that others wrote to ONNX: torch's own exporter, and the classifiers onnx comes with."""

import io
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnx.backend.test
import pytest
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import nn

from refimpl.graph import evaluate, macs, parameters
from refimpl.importers import CaptureError
from refimpl.importers.onnx import capture

LIGHT = Path(onnx.backend.test.__file__).parent / "data" / "light"


class Lambda(nn.Module):
    """Children by name, and a forward given as a function of (self, *inputs)."""

    def __init__(self, function, **children):
        super().__init__()
        self.function = function
        for name, child in children.items():
            self.add_module(name, child)

    def forward(self, *inputs):
        return self.function(self, *inputs)


def up_and_down(self, x):
    small = F.relu(self.down(x))
    sizes = {"size": x.shape[2:]}
    return torch.cat(
        [
            self.up(small),
            F.interpolate(small, **sizes, mode="bilinear", align_corners=True),
            F.interpolate(small, **sizes, mode="bilinear"),
            F.interpolate(small, scale_factor=2, mode="nearest"),
        ],
        1,
    )


def activations(_, x):
    return (
        *(f(x) for f in (F.gelu, F.mish, F.softplus, F.silu, F.hardswish, F.hardsigmoid, F.selu)),
        *(f(x) for f in (F.celu, F.elu, F.relu6, F.softsign, F.normalize)),
        F.gelu(x, approximate="tanh"),
        F.prelu(x, torch.tensor([0.3])),
        torch.pow(x.abs() + 1, -0.5),
        x**2 + x.std(-1, keepdim=True),
        torch.logsumexp(x, 1),
    )


def moves(_, x):
    return (
        *(x[:, ::2], x[..., -1], x.flip(1), x.roll(1, 2), x[:, [3, 1, 1]], x.unbind(0)[1]),
        *(x.repeat(1, 2, 1), x.chunk(3, 1)[1], torch.stack([x, x], 1), x.view(2, -1)),
        *(x.permute(2, 0, 1), F.pad(x, (1, 2), value=0.5), F.pad(x, (1, 2), mode="reflect")),
        *(x.mean((0, 2)), x.amax(1), x.new_zeros(2, 7, 5) + x, x.flatten(1)),
    )


def pools(_, x):
    return (
        F.max_pool2d(x, 3, 2, 1, ceil_mode=True),
        F.avg_pool2d(x, 3, 2, 1),
        F.avg_pool2d(x, 2, 2, ceil_mode=True),
        F.adaptive_avg_pool2d(x, (4, 1)),
    )


def embedded(self, i):
    return self.words(i) + self.places(torch.arange(i.shape[1]))


def causal(_, x):
    return F.scaled_dot_product_attention(x, x, x, is_causal=True)


def attended(self, x):
    return self.heads(x, x, x, need_weights=False)[0]


NORMS = nn.Sequential(
    nn.GroupNorm(2, 6),
    nn.InstanceNorm2d(6, affine=True),
    nn.LayerNorm([6, 4, 5]),
    nn.LocalResponseNorm(3),
    nn.BatchNorm2d(6),
)
NETS = {
    "lstm": (nn.LSTM(5, 7, 2, bidirectional=True, batch_first=True), [(2, 6, 5)]),
    "gru": (nn.GRU(5, 7), [(6, 2, 5), (1, 2, 7)]),
    "rnn": (nn.RNN(5, 7, nonlinearity="relu"), [(6, 2, 5)]),
    "attention": (
        Lambda(attended, heads=nn.MultiheadAttention(16, 4, batch_first=True)),
        [(2, 5, 16)],
    ),
    "causal": (Lambda(causal), [(2, 3, 5, 16)]),
    "up_and_down": (
        Lambda(up_and_down, down=nn.Conv2d(3, 4, 3, 2, 1), up=nn.ConvTranspose2d(4, 3, 2, 2)),
        [(1, 3, 8, 6)],
    ),
    "norms": (NORMS, [(2, 6, 4, 5)]),
    "activations": (Lambda(activations), [(2, 6, 4, 5)]),
    "moves": (Lambda(moves), [(2, 7, 5)]),
    "pools": (Lambda(pools), [(2, 3, 8, 9)]),
    "shuffles": (nn.Sequential(nn.PixelShuffle(2), nn.PixelUnshuffle(2)), [(2, 16, 4, 5)]),
}


def exported(module, inputs, opset=17):
    """The model that torch's own exporter writes."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        # The exporter's, of what it will lose; nothing here reads newer exports but onnxscript.
        warnings.simplefilter("ignore")
        torch.onnx.export(module.eval(), inputs, file, dynamo=False, opset_version=opset)
    return onnx.load_model_from_string(file.getvalue())


def flat(value):
    return [value] if isinstance(value, torch.Tensor) else [x for part in value for x in flat(part)]


@pytest.mark.parametrize("name", NETS)
def test_what_torch_writes_computes_what_torch_does(name):
    module, sizes = NETS[name]
    generator = torch.Generator().manual_seed(0)
    inputs = tuple(torch.randn(*size, generator=generator) for size in sizes)
    graph = capture(exported(module, inputs))
    with torch.no_grad():
        expected = flat(module(*inputs))
    found = evaluate(graph, *(x.numpy() for x in inputs), fast=True)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, 1e-4, 1e-5)


def test_embeddings_of_tokens_and_places():
    module = Lambda(embedded, words=nn.Embedding(11, 6), places=nn.Embedding(8, 6))
    tokens = torch.tensor([[3, 0, 10, 1], [2, 2, 7, 9]])
    graph = capture(exported(module, (tokens,)))
    assert [node.op for node in graph.nodes] == ["embedding", "add"]
    np.testing.assert_allclose(
        evaluate(graph, tokens.numpy())[0], module(tokens).detach().numpy(), 1e-6, 1e-6
    )


def test_recurrences_stay_whole():
    module, sizes = NETS["lstm"]
    graph = capture(exported(module, tuple(torch.zeros(*size) for size in sizes)))
    assert sum(node.op == "lstm" for node in graph.nodes) == 4


def test_a_cell_in_a_loop_is_refused():
    def loop(self, x):
        state = None
        for step in x:
            state = self.cell(step, state)
        return state[0]

    module = Lambda(loop, cell=nn.LSTMCell(3, 4))
    with pytest.raises(CaptureError, match=r"'cell\.weight_hh' is applied 20 times"):
        capture(exported(module, (torch.zeros(20, 2, 3),)))


@pytest.mark.parametrize(
    ("name", "millions", "gigas"),
    [
        # Parameters (running statistics included) and multiply-accumulates, as is known of them.
        ("bvlc_alexnet", 61.0, 0.65),
        ("densenet121", 8.1, 2.83),
        ("inception_v1", 7.0, 1.43),
        ("inception_v2", 11.2, 2.02),
        ("resnet50", 25.6, 4.09),
        ("squeezenet", 1.24, 0.35),
    ],
)
def test_the_classifiers_that_onnx_comes_with(name, millions, gigas):
    graph = capture(LIGHT / f"light_{name}.onnx")
    assert graph.inputs[0][1] == (1, 3, 224, 224)
    assert sum(n for n, _ in parameters(graph).values()) == pytest.approx(millions * 1e6, rel=0.01)
    assert sum(n for n, _ in macs(graph).values()) == pytest.approx(gigas * 1e9, rel=0.01)


def test_a_classifier_computes_what_onnx_says():
    graph = capture(LIGHT / "light_shufflenet.onnx")
    x = np.arange(3 * 224 * 224).reshape(1, 3, 224, 224) / (3 * 224 * 224)
    expected = onnx.TensorProto()
    expected.ParseFromString((LIGHT / "light_shufflenet_output_0.pb").read_bytes())
    (y,) = evaluate(graph, x.astype(np.float32), fast=True)
    np.testing.assert_allclose(y, numpy_helper.to_array(expected), 1e-5)


def test_constants_that_the_file_does_not_hold_are_not_made():
    """VGG-19's weights, here a shape and one number, would be half a gigabyte."""
    with pytest.raises(CaptureError, match="more than the size of the model justifies"):
        capture(LIGHT / "light_vgg19.onnx")
