"""The table of definitions: each network by name, at full width with its published size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.networks import images, mobile, segmentation, sequences, video
from bench.networks.weights import randomise


@dataclass(frozen=True)
class Definition:
    """A published architecture.

    Attributes:
        make: the network for a width factor, 1 being the published one.
        input: the shape of the published input, one sample.
        parameters: the published number; None where none is.
        gmacs: the published 10^9 multiply-accumulates of one sample; None where none is.
        indices: how many values the input has, where it is whole numbers for an embedding.
    """

    make: Callable[[float], nn.Module]
    input: tuple[int, ...]
    parameters: int | None = None
    gmacs: float | None = None
    indices: int | None = None

    def example(self, shape: tuple[int, ...] | None = None, seed: int = 0) -> Tensor:
        """A random input of the published shape, or of another."""
        generator = torch.Generator().manual_seed(seed)
        if self.indices is not None:
            return torch.randint(self.indices, shape or self.input, generator=generator)
        return torch.randn(shape or self.input, generator=generator)


def build(name: str, width: float = 1.0, seed: int = 0) -> nn.Module:
    """A network of the table in evaluation mode, the same for the same seed.

    Args:
        name: of the network.
        width: what the published numbers of channels are multiplied by.
        seed: of the weights and of the batch norms' statistics.

    Raises:
        KeyError: there is no network of this name.
    """
    module = DEFINITIONS[name].make(width)
    randomise(module, seed)
    return module.eval()


_IMAGE = (1, 3, 224, 224)

DEFINITIONS: Mapping[str, Definition] = {
    "vgg16": Definition(images.vgg16, _IMAGE, 138_357_544, 15.47),
    "vgg16_bn": Definition(images.vgg16_bn, _IMAGE, 138_365_992, 15.47),
    "resnet18": Definition(images.resnet18, _IMAGE, 11_689_512, 1.81),
    "resnet50": Definition(images.resnet50, _IMAGE, 25_557_032, 4.09),
    "mobilenet_v2": Definition(mobile.mobilenet_v2, _IMAGE, 3_504_872, 0.30),
    "efficientnet_b0": Definition(mobile.efficientnet_b0, _IMAGE, 5_288_548, 0.386),
    "c3d": Definition(video.c3d, (1, 3, 16, 112, 112), None, 38.5),
    "r2plus1d_18": Definition(video.r2plus1d_18, (1, 3, 16, 112, 112), 31_505_325, 40.5),
    "s3d": Definition(video.s3d, (1, 3, 16, 224, 224), 8_320_048, 17.98),
    "unet": Definition(segmentation.unet, (1, 3, 256, 256)),
    "gru": Definition(sequences.gru, (20, 1, 39)),
    "bidirectional_lstm": Definition(sequences.bidirectional_lstm, (20, 1, 39)),
    "transformer": Definition(sequences.transformer, (1, 32), indices=sequences.VOCABULARY),
}
"""By name."""
