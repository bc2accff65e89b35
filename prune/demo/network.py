"""The demo's network: a small C3D (3 x 3 x 3 convolutions, batch norm, ReLU, max pools)."""

from __future__ import annotations

from torch import Tensor, nn

PRUNED_LAYERS = ("conv2", "conv3a", "conv3b", "conv4")
"""The layers that are pruned: 97 % of the MACs.  The stem and the classifier stay dense."""


class MotionNet(nn.Module):
    """Names the motion in a clip: float32 (n, 1, 16, 32, 32) -> logits (n, classes).

    248 million MACs a clip, nearly half of them in conv3b.
    """

    def __init__(self, classes: int = 8) -> None:
        super().__init__()
        self.conv1, self.norm1 = _block(1, 16)
        self.conv2, self.norm2 = _block(16, 64)
        self.conv3a, self.norm3a = _block(64, 128)
        self.conv3b, self.norm3b = _block(128, 128)
        self.conv4, self.norm4 = _block(128, 128)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool3d(2)
        self.average = nn.AdaptiveAvgPool3d(1)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(128, classes)

    def forward(self, clip: Tensor) -> Tensor:
        """The logits of the clips."""
        x = self.pool(self.relu(self.norm1(self.conv1(clip))))
        x = self.pool(self.relu(self.norm2(self.conv2(x))))
        x = self.relu(self.norm3a(self.conv3a(x)))
        x = self.pool(self.relu(self.norm3b(self.conv3b(x))))
        x = self.average(self.relu(self.norm4(self.conv4(x))))
        return self.head(self.flatten(x))


def _block(channels: int, filters: int) -> tuple[nn.Conv3d, nn.BatchNorm3d]:
    # No bias: the batch norm that follows has one.
    return nn.Conv3d(channels, filters, 3, padding=1, bias=False), nn.BatchNorm3d(filters)
