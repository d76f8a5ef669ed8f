"""Small networks that the tests name as `odd_networks:...`, some of them misbehaving."""

import torch
from torch import nn
from torchvision.models import VisionTransformer


class Tiny(nn.Module):
    """Convolution, batch norm, pooling and a linear classifier."""

    def __init__(self, width: int = 8, outputs: int = 4) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.unused = nn.Conv2d(3, width, 1)
        self.fc = nn.Linear(width, outputs)

    def features(self, x):
        return self.relu(self.norm(self.body(x))).mean((2, 3))

    def forward(self, x):
        return self.fc(self.features(x))


class Twice(Tiny):
    """Uses its activation twice, as torchvision's ResNet blocks do."""

    def features(self, x):
        return self.relu(self.relu(self.norm(self.body(x)))).mean((2, 3))


class Folded(Tiny):
    """Folds rows of an image into the batch, so a layer sees other than N rows."""

    def features(self, x):
        folded = x.transpose(1, 2).reshape(-1, 3, 1, x.shape[-1])
        return self.body(folded).reshape(len(x), -1, 8).mean(1)


class TurnsItselfOn(Tiny):
    """Switches itself to training mode in the middle of a forward."""

    def forward(self, x):
        self.norm.train()
        return super().forward(x)


class MovesStatistics(Tiny):
    """Moves its statistics although it is in evaluation mode."""

    def forward(self, x):
        with torch.no_grad():
            self.norm.running_mean += x.mean()
        return super().forward(x)


class Tokens(nn.Module):
    """Gives (N, T, C) tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.tokens = nn.Identity()
        self.wide = nn.Identity()
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        grid = self.patches(x)
        self.wide(grid.permute(0, 2, 3, 1))
        return self.fc(self.tokens(grid.flatten(2).transpose(1, 2)).mean(1))


class Probable(Tiny):
    """Gives probabilities, not logits."""

    def forward(self, x):
        return super().forward(x).sigmoid()


class GateLast(nn.Module):
    """Its last linear layer is a gate; the logits come from a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 4, 1)
        self.gate = nn.Linear(4, 4)

    def forward(self, x):
        x = self.body(x).mean((2, 3))
        return torch.cat([x * self.gate(x), x], 1)


class Dropped(Tiny):
    """With dropout, whose chance comes from torch's global generator."""

    def forward(self, x):
        return self.fc(nn.functional.dropout(self.features(x), 0.3, self.training))


def tiny():
    return Tiny()


def not_a_module():
    return "resnet18"


def failing():
    raise OSError("no such GPU")


class Transformer(VisionTransformer):
    """torchvision's vision transformer, small: 16 patches and a class token of 12 numbers."""

    def __init__(self) -> None:
        super().__init__(
            image_size=32,
            patch_size=8,
            num_layers=2,
            num_heads=2,
            hidden_dim=12,
            mlp_dim=24,
            num_classes=3,
        )
        # As torchvision leaves it, the classifier gives zeros.
        nn.init.normal_(self.heads.head.weight)


class Shifted(Tiny):
    """Holds a buffer of its own that it adds to the image."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", torch.ones(3, 1, 1))

    def features(self, x):
        return super().features(x + self.shift)


class ConvolutionLast(nn.Module):
    """Its logits come from a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 4, 3)
        self.last = nn.Conv2d(4, 5, 1)

    def forward(self, x):
        return self.last(self.body(x)).mean((2, 3))


class Standardised(nn.Conv2d):
    """A convolution that changes its weights before it uses them."""

    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return self._conv_forward(x, weight, self.bias)


class StandardisedFirst(Tiny):
    """Its first convolution cannot be folded."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Standardised(3, 8, 3, padding=1)


class SeesTheImageTwice(Tiny):
    """The image goes into a convolution and past it."""

    def forward(self, x):
        return super().forward(x) + x.mean((1, 2, 3))[:, None]


class TwoEyes(Tiny):
    """Two convolutions see the image."""

    def features(self, x):
        return super().features(x) + self.unused(x).mean((2, 3))


class LooksAgain(Tiny):
    """Its convolution sees the image, and then three of the channels that it gave."""

    def features(self, x):
        return self.body(self.body(x)[:, :3]).mean((2, 3))


class ChangesTheImage(Tiny):
    """The convolution sees something else than the image."""

    def features(self, x):
        return super().features(x.square())


class LooksAtValues(Tiny):
    """Asks what its activations are while it computes."""

    def features(self, x):
        seen = super().features(x)
        return seen if float(seen.sum()) > 0 else -seen


class NeedsValuesToBeBuilt(Tiny):
    """Asks what its weights are while it is built."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = float(self.body.weight.detach().max())
