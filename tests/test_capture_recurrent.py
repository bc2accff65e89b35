"""Recurrent modules: layers, directions, states and masks, captured whole."""

import numpy as np
import pytest
import torch
from torch import nn

from refimpl.importers import CaptureError
from refimpl.importers.torch import capture
from refimpl.schemes import BCR, Unstructured
from tests.test_capture_aten import compare
from tests.test_capture_torch import Lambda

X = (5, 2, 3)
KINDS = {
    "rnn": lambda **o: nn.RNN(3, 4, **o),
    "rnn_relu": lambda **o: nn.RNN(3, 4, nonlinearity="relu", **o),
    "gru": lambda **o: nn.GRU(3, 4, **o),
    "lstm": lambda **o: nn.LSTM(3, 4, **o),
}
OPTIONS = [
    {},
    {"num_layers": 2, "bidirectional": True},
    {"batch_first": True, "bias": False, "num_layers": 2},
    {"bidirectional": True, "batch_first": True, "dropout": 0.5, "num_layers": 3},
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_whole_modules(kind, options):
    torch.manual_seed(0)
    module = KINDS[kind](**options)
    graph = compare(module, torch.randn(X))
    nodes = [node for node in graph.nodes if node.op == kind.partition("_")[0]]
    assert len(nodes) == options.get("num_layers", 1) * (1 + options.get("bidirectional", False))


@pytest.mark.parametrize("kind", KINDS)
def test_given_initial_states(kind):
    torch.manual_seed(1)
    module = KINDS[kind](num_layers=2, bidirectional=True)
    states = [torch.randn(4, 2, 4) for _ in range(2 if kind == "lstm" else 1)]
    given = Lambda(lambda self, x, *s: self.rnn(x, s if len(s) > 1 else s[0]), rnn=module)
    compare(given, torch.randn(X), *states)


def test_an_unbatched_sequence():
    compare(nn.GRU(3, 4, bidirectional=True), torch.randn(5, 3))


@pytest.mark.parametrize("cell", [nn.GRUCell, nn.LSTMCell, nn.RNNCell])
def test_cells_are_sequences_of_one_step(cell):
    graph = compare(cell(3, 4), torch.randn(2, 3))
    assert sum(node.op in ("gru", "lstm", "rnn") for node in graph.nodes) == 1
    states = [torch.randn(2, 4) for _ in range(2 if cell is nn.LSTMCell else 1)]
    given = Lambda(
        lambda self, x, *s: self.c(x, s if len(s) > 1 else s[0]), c=cell(3, 4, bias=False)
    )
    compare(given, torch.randn(2, 3), *states)


def test_pruned_weights_keep_their_names_and_masks():
    torch.manual_seed(2)
    module = Lambda(lambda self, x: self.rnn(x)[0], rnn=nn.GRU(6, 8, 2))
    masks = {}
    for name in ("rnn.weight_ih_l0", "rnn.weight_hh_l1"):
        weight = module.get_parameter(name)
        scheme = BCR(4, 3)
        mask = scheme.project(weight.detach().numpy(), 0.4, parts=3)
        weight.data.mul_(torch.from_numpy(mask))
        masks[name] = (scheme, mask)
    graph = capture(module, (torch.zeros(5, 2, 6),), masks=masks)
    assert set(graph.sparsity) == set(masks)
    ragged = np.ones((24, 6), bool)
    ragged[6, 1] = False
    module.get_parameter("rnn.weight_ih_l0").data.mul_(torch.from_numpy(ragged))
    bad = {"rnn.weight_ih_l0": (BCR(4, 3), ragged)}
    with pytest.raises(CaptureError, match=r"weight_ih_l0.*not legal"):
        capture(module, (torch.zeros(5, 2, 6),), masks=bad)
    fine = {"rnn.weight_ih_l0": (Unstructured(), ragged)}
    assert set(capture(module, (torch.zeros(5, 2, 6),), masks=fine).sparsity) == set(fine)


def test_projections_are_refused():
    with pytest.raises(CaptureError, match=r"aten\.lstm\.input.*proj_size"):
        capture(nn.LSTM(3, 4, proj_size=2), (torch.zeros(X),))
