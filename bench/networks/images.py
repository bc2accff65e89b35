"""Classifiers of images: VGG-16 and residual networks."""

from __future__ import annotations

from torch import Tensor, nn

from bench.networks.weights import channels

_VGG16 = ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3)
_HEAD_SIDE = 7


def vgg16(width: float = 1.0, classes: int = 1000) -> nn.Module:
    """Simonyan and Zisserman's configuration D: images (n, 3, h, w), h and w at least 32."""
    return _vgg(width, classes, normed=False)


def vgg16_bn(width: float = 1.0, classes: int = 1000) -> nn.Module:
    """The same with a batch norm after every convolution."""
    return _vgg(width, classes, normed=True)


def _vgg(width: float, classes: int, normed: bool) -> nn.Module:
    layers: list[nn.Module] = []
    inputs = 3
    for stage in _VGG16:
        for published in stage:
            filters = channels(published, width)
            norm = [nn.BatchNorm2d(filters)] if normed else []
            layers += [nn.Conv2d(inputs, filters, 3, padding=1), *norm, nn.ReLU(inplace=True)]
            inputs = filters
        layers.append(nn.MaxPool2d(2))
    hidden = channels(4096, width)
    head = [
        nn.AdaptiveAvgPool2d(_HEAD_SIDE), nn.Flatten(),
        nn.Linear(inputs * _HEAD_SIDE**2, hidden), nn.ReLU(inplace=True), nn.Dropout(),
        nn.Linear(hidden, hidden), nn.ReLU(inplace=True), nn.Dropout(),
        nn.Linear(hidden, classes),
    ]  # fmt: skip
    return nn.Sequential(*layers, *head)


class ResNet(nn.Module):
    """He and others' residual network: images (n, 3, h, w) -> logits (n, classes)."""

    def __init__(
        self, block: type[BasicBlock] | type[Bottleneck], depths: tuple[int, ...], width: float,
        classes: int,
    ) -> None:  # fmt: skip
        super().__init__()
        inputs = channels(64, width)
        self.stem = nn.Sequential(
            nn.Conv2d(3, inputs, 7, 2, 3, bias=False), nn.BatchNorm2d(inputs),
            nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1),
        )  # fmt: skip
        blocks = []
        for stage, depth in enumerate(depths):
            filters = channels(64 * 2**stage, width)
            for index in range(depth):
                stride = 2 if stage and not index else 1
                blocks.append(block(inputs, filters, stride))
                inputs = filters * block.expansion
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))

    def forward(self, image: Tensor) -> Tensor:
        """The logits of the images."""
        return self.head(self.blocks(self.stem(image)))


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, filters: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, filters, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(filters)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = _shortcut(inputs, filters, stride)

    def forward(self, x: Tensor) -> Tensor:
        """x [n, c, h, w] to [n, f, h/stride, w/stride]."""
        y = self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x)))))
        return self.relu(y + self.shortcut(x))


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions beside a shortcut; the 3 x 3 one has the stride."""

    expansion = 4

    def __init__(self, inputs: int, filters: int, stride: int) -> None:
        super().__init__()
        outputs = filters * self.expansion
        self.conv1 = nn.Conv2d(inputs, filters, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(filters)
        self.conv3 = nn.Conv2d(filters, outputs, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = _shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """x [n, c, h, w] to [n, 4*f, h/stride, w/stride]."""
        y = self.relu(self.norm1(self.conv1(x)))
        y = self.relu(self.norm2(self.conv2(y)))
        y = self.norm3(self.conv3(y))
        y += self.shortcut(x)
        return self.relu(y)


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    if inputs == outputs and stride == 1:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


def resnet18(width: float = 1.0, classes: int = 1000) -> nn.Module:
    """ResNet-18."""
    return ResNet(BasicBlock, (2, 2, 2, 2), width, classes)


def resnet50(width: float = 1.0, classes: int = 1000) -> nn.Module:
    """ResNet-50."""
    return ResNet(Bottleneck, (3, 4, 6, 3), width, classes)
