"""Sequences: RTMobile's GRU, a bidirectional LSTM, a small transformer encoder."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from bench.networks.weights import channels

_FEATURES = 39
_PHONES = 40

VOCABULARY = 1000
"""How many tokens the transformer knows."""


class Recogniser(nn.Module):
    """Features of speech (t, n, 39) -> scores of phones (t, n, phones)."""

    def __init__(self, recurrence: nn.RNNBase, phones: int) -> None:
        super().__init__()
        self.recurrence = recurrence
        directions = 2 if recurrence.bidirectional else 1
        self.head = nn.Linear(directions * recurrence.hidden_size, phones)

    def forward(self, features: Tensor) -> Tensor:
        """A score of every phone at every step."""
        states, _ = self.recurrence(features)
        return self.head(states)


def gru(width: float = 1.0, phones: int = _PHONES) -> nn.Module:
    """RTMobile's GRU for TIMIT: 39 inputs, two layers of 1024."""
    return Recogniser(nn.GRU(_FEATURES, channels(1024, width), 2), phones)


def bidirectional_lstm(width: float = 1.0, phones: int = _PHONES) -> nn.Module:
    """Two layers of 256 in either direction."""
    lstm = nn.LSTM(_FEATURES, channels(256, width), 2, bidirectional=True)
    return Recogniser(lstm, phones)


class Transformer(nn.Module):
    """Tokens (n, t), whole numbers -> logits (n, classes)."""

    def __init__(self, width: float = 1.0, classes: int = 10, longest: int = 64) -> None:
        super().__init__()
        heads = 4
        size = heads * channels(64, width)
        self.tokens = nn.Embedding(VOCABULARY, size)
        self.register_buffer("positions", _waves(longest, size), persistent=False)
        layer = nn.TransformerEncoderLayer(
            size, heads, 4 * size, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(
            layer, 2, norm=nn.LayerNorm(size), enable_nested_tensor=False
        )
        self.head = nn.Linear(size, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """The logits of the texts, from the average of their tokens."""
        x = self.tokens(tokens) + self.positions[: tokens.shape[1]]  # type: ignore[index]
        return self.head(self.encoder(x).mean(1))


def _waves(longest: int, size: int) -> Tensor:
    """Sines and cosines of falling frequency, [longest, size]."""
    rates = torch.exp(torch.arange(0, size, 2) * (-math.log(10000.0) / size))
    angles = torch.arange(longest)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)


def transformer(width: float = 1.0) -> nn.Module:
    """Two layers of 256 with 4 heads."""
    return Transformer(width)
