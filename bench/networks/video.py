"""Classifiers of clips, (n, 3, t, h, w): C3D, R(2+1)D-18 and S3D."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bench.networks.weights import channels

Triple = tuple[int, int, int]

_C3D = ((64,), (128,), (256, 256), (512, 512), (512, 512))
# Filters of 1x1x1; reduction and filters of the two separable branches; filters after the pool.
_INCEPTIONS = (
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    (
        (192, 96, 208, 16, 48, 64), (160, 112, 224, 24, 64, 64), (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64), (256, 160, 320, 32, 128, 128),
    ),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)  # fmt: skip


def c3d(width: float = 1.0, classes: int = 101) -> nn.Module:
    """Tran and others' C3D, for clips of 16 frames of 112 x 112 alone."""
    layers: list[nn.Module] = []
    inputs = 3
    for index, stage in enumerate(_C3D):
        for published in stage:
            filters = channels(published, width)
            layers += [nn.Conv3d(inputs, filters, 3, padding=1), nn.ReLU(inplace=True)]
            inputs = filters
        kernel = (2 if index else 1, 2, 2)
        layers.append(nn.MaxPool3d(kernel, padding=(0, 1, 1) if index == 4 else 0))
    hidden = channels(4096, width)
    return nn.Sequential(
        *layers, nn.Flatten(),
        nn.Linear(inputs * 4 * 4, hidden), nn.ReLU(inplace=True), nn.Dropout(),
        nn.Linear(hidden, hidden), nn.ReLU(inplace=True), nn.Dropout(),
        nn.Linear(hidden, classes),
    )  # fmt: skip


def _conv_norm_relu(
    inputs: int, filters: int, kernel: Triple, stride: Triple = (1, 1, 1)
) -> tuple[nn.Module, nn.Module, nn.Module]:
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    conv = nn.Conv3d(inputs, filters, kernel, stride, padding, bias=False)
    return conv, nn.BatchNorm3d(filters), nn.ReLU(inplace=True)


def _conv_2plus1d(inputs: int, filters: int, stride: int, middle: int) -> nn.Module:
    """In space, then in time."""
    return nn.Sequential(
        *_conv_norm_relu(inputs, middle, (1, 3, 3), (1, stride, stride)),
        nn.Conv3d(middle, filters, (3, 1, 1), (stride, 1, 1), (1, 0, 0), bias=False),
    )


class Block2Plus1D(nn.Module):
    """Two (2+1)-D convolutions, of as many weights as 3-D ones, beside a shortcut."""

    def __init__(self, inputs: int, filters: int, stride: int) -> None:
        super().__init__()
        middle = inputs * filters * 27 // (inputs * 9 + 3 * filters)
        self.conv1 = _conv_2plus1d(inputs, filters, stride, middle)
        self.norm1 = nn.BatchNorm3d(filters)
        self.conv2 = _conv_2plus1d(filters, filters, 1, middle)
        self.norm2 = nn.BatchNorm3d(filters)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != filters:
            conv = nn.Conv3d(inputs, filters, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm3d(filters))

    def forward(self, x: Tensor) -> Tensor:
        """x [n, c, t, h, w] to [n, f, t, h, w], every axis divided by the stride."""
        y = self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x)))))
        return self.relu(y + self.shortcut(x))


def r2plus1d_18(width: float = 1.0, classes: int = 400) -> nn.Module:
    """Tran and others' R(2+1)D of 18 layers."""
    inputs, middle = channels(64, width), channels(45, width)
    layers: list[nn.Module] = [
        *_conv_norm_relu(3, middle, (1, 7, 7), (1, 2, 2)),
        *_conv_norm_relu(middle, inputs, (3, 1, 1)),
    ]
    for stage in range(4):
        filters = channels(64 * 2**stage, width)
        for stride in (2 if stage else 1, 1):
            layers.append(Block2Plus1D(inputs, filters, stride))
            inputs = filters
    return nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(inputs, classes))


def _separable(inputs: int, filters: int, kernel: int, stride: int = 1) -> nn.Module:
    """In space, then in time, a batch norm and ReLU after each."""
    return nn.Sequential(
        *_conv_norm_relu(inputs, filters, (1, kernel, kernel), (1, stride, stride)),
        *_conv_norm_relu(filters, filters, (kernel, 1, 1), (stride, 1, 1)),
    )


class Inception(nn.Module):
    """Four branches side by side, their 3-D convolutions separable."""

    def __init__(self, inputs: int, filters: tuple[int, ...]) -> None:
        super().__init__()
        plain, reduce1, first, reduce2, second, pooled = filters
        point = (1, 1, 1)
        self.plain = nn.Sequential(*_conv_norm_relu(inputs, plain, point))
        self.first = nn.Sequential(
            *_conv_norm_relu(inputs, reduce1, point), _separable(reduce1, first, 3)
        )
        self.second = nn.Sequential(
            *_conv_norm_relu(inputs, reduce2, point), _separable(reduce2, second, 3)
        )
        self.pooled = nn.Sequential(nn.MaxPool3d(3, 1, 1), *_conv_norm_relu(inputs, pooled, point))

    def forward(self, x: Tensor) -> Tensor:
        """x [n, c, t, h, w] to as many channels as the branches have together."""
        branches = self.plain(x), self.first(x), self.second(x), self.pooled(x)
        return torch.cat(branches, 1)


class S3D(nn.Module):
    """Xie and others' S3D: clips of at least 16 frames of 224 x 224."""

    def __init__(self, width: float = 1.0, classes: int = 400) -> None:
        super().__init__()
        stem, inputs = channels(64, width), channels(192, width)
        layers: list[nn.Module] = [
            _separable(3, stem, 7, 2), nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            *_conv_norm_relu(stem, stem, (1, 1, 1)), _separable(stem, inputs, 3),
        ]  # fmt: skip
        pools = (
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)), nn.MaxPool3d(3, 2, 1), nn.MaxPool3d(2, 2)
        )  # fmt: skip
        for pool, stage in zip(pools, _INCEPTIONS, strict=True):
            layers.append(pool)
            for published in stage:
                filters = tuple(channels(f, width) for f in published)
                layers.append(Inception(inputs, filters))
                inputs = filters[0] + filters[2] + filters[4] + filters[5]
        self.layers = nn.Sequential(*layers, nn.AvgPool3d((2, 7, 7), stride=1), nn.Dropout(0.2))
        self.head = nn.Conv3d(inputs, classes, 1)

    def forward(self, clip: Tensor) -> Tensor:
        """The logits of the clips, averaged over the places that are left."""
        return self.head(self.layers(clip)).mean(dim=(2, 3, 4))


def s3d(width: float = 1.0, classes: int = 400) -> nn.Module:
    """S3D; see the class."""
    return S3D(width, classes)
