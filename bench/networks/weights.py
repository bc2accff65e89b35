"""Weights that are random, the same for the same seed, and keep activations at their size."""

from __future__ import annotations

import math

import torch
from torch import nn

_NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)


def randomise(module: nn.Module, seed: int) -> None:
    """Draw all parameters, and the batch norms' statistics, so that folding them is tested."""
    generator = torch.Generator().manual_seed(seed)
    for child in module.modules():
        for name, parameter in child.named_parameters(recurse=False):
            _draw(child, name, parameter.data, generator)
        for name, buffer in child.named_buffers(recurse=False):
            if name == "running_mean":
                buffer.normal_(0.0, 0.1, generator=generator)
            if name == "running_var":
                buffer.uniform_(0.5, 1.5, generator=generator)


def _draw(module: nn.Module, name: str, values: torch.Tensor, generator: torch.Generator) -> None:
    if isinstance(module, _NORMS):
        low, high = (0.5, 1.5) if name == "weight" else (-0.1, 0.1)
        values.uniform_(low, high, generator=generator)
    elif values.dim() == 1:
        values.normal_(0.0, 0.1, generator=generator)
    else:
        inputs = math.prod(values.shape[1:])
        # A ReLU halves the variance; recurrences have none, and must not grow with time.
        gain = 1.0 if isinstance(module, (nn.RNNBase, nn.Embedding)) else 2.0
        values.normal_(0.0, math.sqrt(gain / inputs), generator=generator)


def channels(published: int, width: float) -> int:
    """The number of channels at a width; at least 2, so that a norm has something to compare."""
    return max(2, round(published * width))
