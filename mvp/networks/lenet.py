"""LeNet for digits and other very small images, with self-normalising units."""

from __future__ import annotations

from torch import Tensor, nn

CHANNELS = (32, 64)
UNITS = (120, 84)
PLACES = 4  # per side of the last map, as LeNet-5 has on 28 pixels
DROPOUT = 0.05


class LeNet(nn.Module):
    """Two convolutions of 5x5 with pooling after each, then three linear layers.

    The layout is LeNet-5's (LeCun et al. 1998, doi:10.1109/5.726791). SELU, LeCun-normal values at
    the start and alpha dropout (Klambauer et al. 2017, arXiv:1706.02515) keep activations near
    mean 0 and variance 1 without batch norm, so that no image's features depend on the others of
    its batch, in training neither. Other than in LeNet-5 the convolutions are wider and padded, the
    maximum is pooled, and the last map is averaged to 4x4 places, so that images of any size from
    12 pixels on fit. About 0.2 million parameters.

    Args:
        num_classes: number of logits.
        in_channels: channels of the images.
    """

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        # Every layer is a module of its own, so that each can be named and fires once a call.
        self.conv1 = nn.Conv2d(in_channels, CHANNELS[0], 5, padding=2)
        self.selu1 = nn.SELU()
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(CHANNELS[0], CHANNELS[1], 5, padding=2)
        self.selu2 = nn.SELU()
        self.pool2 = nn.MaxPool2d(2)
        self.places = nn.AdaptiveAvgPool2d(PLACES)
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(CHANNELS[1] * PLACES**2, UNITS[0])
        self.selu3 = nn.SELU()
        self.dropout1 = nn.AlphaDropout(DROPOUT)
        self.fc2 = nn.Linear(UNITS[0], UNITS[1])
        self.selu4 = nn.SELU()
        self.dropout2 = nn.AlphaDropout(DROPOUT)
        self.fc3 = nn.Linear(UNITS[1], num_classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                # With this nonlinearity's gain of 1, fan-in is LeCun's normal distribution.
                nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="linear")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, num_classes) of images (N, in_channels, H, W), H and W at least 12."""
        seen = self.pool1(self.selu1(self.conv1(images)))
        seen = self.pool2(self.selu2(self.conv2(seen)))
        seen = self.dropout1(self.selu3(self.fc1(self.flatten(self.places(seen)))))
        return self.fc3(self.dropout2(self.selu4(self.fc2(seen))))


def lenet(num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """LeNet with SELU, with random weights from torch's generator.

    Args:
        num_classes: number of logits, given by the last layer, `fc3`.
        in_channels: channels of the images.
    """
    return LeNet(num_classes, in_channels)
