"""Segmentation: the U-Net, with transposed convolutions and skip connections."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from bench.networks.weights import channels

_FILTERS = (64, 128, 256, 512, 1024)


def _two_convs(inputs: int, filters: int) -> nn.Module:
    layers: list[nn.Module] = []
    for count in (inputs, filters):
        layers += [
            nn.Conv2d(count, filters, 3, padding=1), nn.BatchNorm2d(filters), nn.ReLU(inplace=True)
        ]  # fmt: skip
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Ronneberger and others' U-Net, padded: images (n, 3, h, w), h and w divided by 16."""

    def __init__(self, width: float = 1.0, classes: int = 2) -> None:
        super().__init__()
        sizes = [channels(filters, width) for filters in _FILTERS]
        pairs = list(pairwise(sizes))
        self.first = _two_convs(3, sizes[0])
        self.down = nn.ModuleList(_two_convs(low, high) for low, high in pairs)
        self.up = nn.ModuleList(nn.ConvTranspose2d(high, low, 2, 2) for low, high in pairs)
        self.merge = nn.ModuleList(_two_convs(2 * low, low) for low, _ in pairs)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Conv2d(sizes[0], classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """A score of every class for every pixel, (n, classes, h, w)."""
        levels = [self.first(image)]
        for down in self.down:
            levels.append(down(self.pool(levels[-1])))
        x = levels.pop()
        for up, merge in reversed(list(zip(self.up, self.merge, strict=True))):
            x = merge(torch.cat([levels.pop(), up(x)], 1))
        return self.head(x)


def unet(width: float = 1.0, classes: int = 2) -> nn.Module:
    """The U-Net; see the class."""
    return UNet(width, classes)
