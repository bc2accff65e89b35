"""Classifiers for phones: inverted residuals, without and with squeeze and excitation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from bench.networks.weights import channels

# Each row: expansion, kernel, filters, blocks, stride of the first block.
_MOBILENET_V2 = (
    (1, 3, 16, 1, 1), (6, 3, 24, 2, 2), (6, 3, 32, 3, 2), (6, 3, 64, 4, 2), (6, 3, 96, 3, 1),
    (6, 3, 160, 3, 2), (6, 3, 320, 1, 1),
)  # fmt: skip
_EFFICIENTNET_B0 = (
    (1, 3, 16, 1, 1), (6, 3, 24, 2, 2), (6, 5, 40, 2, 2), (6, 3, 80, 3, 2), (6, 5, 112, 3, 1),
    (6, 5, 192, 4, 2), (6, 3, 320, 1, 1),
)  # fmt: skip


def _conv(
    inputs: int, filters: int, kernel: int, stride: int = 1, groups: int = 1
) -> tuple[nn.Module, nn.Module]:
    """A convolution that keeps the size, but for its stride, and its batch norm."""
    conv = nn.Conv2d(inputs, filters, kernel, stride, kernel // 2, groups=groups, bias=False)
    return conv, nn.BatchNorm2d(filters)


class SqueezeExcite(nn.Module):
    """Channels weighted by what their averages say."""

    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        self.average = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(size, hidden, 1)
        self.expand = nn.Conv2d(hidden, size, 1)
        self.silu = nn.SiLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """x [n, c, h, w], each channel times a factor of its own."""
        return x * self.expand(self.silu(self.reduce(self.average(x)))).sigmoid()


class InvertedResidual(nn.Module):
    """Expand, filter each channel alone, perhaps weight the channels, and project."""

    def __init__(
        self, inputs: int, filters: int, expansion: int, kernel: int, stride: int,
        activation: Callable[[], nn.Module], squeezed: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        hidden = inputs * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers += [*_conv(inputs, hidden, 1), activation()]
        layers += [*_conv(hidden, hidden, kernel, stride, groups=hidden), activation()]
        if squeezed:
            layers.append(SqueezeExcite(hidden, max(1, inputs // 4)))
        self.layers = nn.Sequential(*layers, *_conv(hidden, filters, 1))
        self.is_residual = stride == 1 and inputs == filters

    def forward(self, x: Tensor) -> Tensor:
        """x [n, c, h, w] to [n, f, h/stride, w/stride]."""
        return x + self.layers(x) if self.is_residual else self.layers(x)


def _network(
    rows: Sequence[tuple[int, int, int, int, int]],
    width: float,
    classes: int,
    activation: Callable[[], nn.Module],
    squeezed: bool,
) -> nn.Module:
    """Images (n, 3, h, w) -> logits (n, classes)."""
    inputs = channels(32, width)
    layers: list[nn.Module] = [*_conv(3, inputs, 3, 2), activation()]
    for expansion, kernel, published, blocks, first_stride in rows:
        filters = channels(published, width)
        for index in range(blocks):
            stride = 1 if index else first_stride
            layers.append(
                InvertedResidual(inputs, filters, expansion, kernel, stride, activation, squeezed)
            )
            inputs = filters
    last = channels(1280, width)
    layers += [*_conv(inputs, last, 1), activation(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Dropout(0.2), nn.Linear(last, classes))


def mobilenet_v2(width: float = 1.0, classes: int = 1000) -> nn.Module:
    """Sandler and others' MobileNet-V2."""
    return _network(_MOBILENET_V2, width, classes, lambda: nn.ReLU6(inplace=True), squeezed=False)


def efficientnet_b0(width: float = 1.0, classes: int = 1000) -> nn.Module:
    """Tan and Le's EfficientNet-B0."""
    return _network(_EFFICIENTNET_B0, width, classes, lambda: nn.SiLU(inplace=True), squeezed=True)
