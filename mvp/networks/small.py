"""A compact residual network for small images and for machines without a GPU."""

from __future__ import annotations

from torch import Tensor, nn

WIDTHS = (16, 32, 64, 128)


class SmallCNN(nn.Module):
    """A stem and four residual stages of one block each, then the mean over all places.

    The basic blocks of He et al. (2015, arXiv:1512.03385) at a quarter of ResNet-18's width,
    one per stage instead of two, and no early pooling: for images of 32 to 128 pixels, of which
    the last stage sees a sixteenth per side. About 0.3 million parameters.

    Args:
        num_classes: number of logits.
        in_channels: channels of the images.
    """

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, WIDTHS[0], 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(WIDTHS[0]),
            nn.ReLU(inplace=True),
        )
        before = (WIDTHS[0], *WIDTHS[:-1])
        self.stages = nn.Sequential(
            *(
                _Block(narrow, wide, stride=1 if stage == 0 else 2)
                for stage, (narrow, wide) in enumerate(zip(before, WIDTHS, strict=True))
            )
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(WIDTHS[-1], num_classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, num_classes) of images (N, in_channels, H, W)."""
        return self.fc(self.avgpool(self.stages(self.stem(images))).flatten(1))


class _Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, narrow: int, wide: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(narrow, wide, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU(inplace=True),
            nn.Conv2d(wide, wide, 3, padding=1, bias=False),
            nn.BatchNorm2d(wide),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or narrow != wide:
            self.shortcut = nn.Sequential(
                nn.Conv2d(narrow, wide, 1, stride=stride, bias=False), nn.BatchNorm2d(wide)
            )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, images: Tensor) -> Tensor:
        return self.relu(self.body(images) + self.shortcut(images))


def small_cnn(num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """A compact residual network, with random weights from torch's generator.

    Args:
        num_classes: number of logits, given by the last layer, `fc`.
        in_channels: channels of the images.
    """
    return SmallCNN(num_classes, in_channels)
