"""A network: a module, the name it was built by, and which of its layers is the classifier."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mvp.errors import ConfigError, MvpError


@dataclass(frozen=True, eq=False)
class Network:
    """A CNN whose last linear layer is its classifier.

    Attributes:
        name: the name it was built by, as in `network.name`.
        module: takes (N, channels, H, W) float32, normalised, and gives (N, output) logits.
        classifier: the dotted name of the linear layer that gives the logits; None where the
            classifier is something else, as a convolution.
        channels: of the images: 3, or 1 where the network was folded for grey ones.
    """

    name: str
    module: nn.Module
    classifier: str | None
    channels: int = 3

    @property
    def head(self) -> nn.Linear:
        """The classifier itself; a ConfigError where there is no linear one."""
        if self.classifier is None:
            raise no_linear_classifier(self.name)
        layer = self.module.get_submodule(self.classifier)
        assert isinstance(layer, nn.Linear)
        return layer

    @property
    def width(self) -> int:
        """How many features stand before the classifier."""
        return self.head.in_features

    @property
    def outputs(self) -> int:
        """How many logits the classifier gives."""
        return self.head.out_features

    def replace_head(self, outputs: int) -> None:
        """Put a new linear layer with random values from torch's generator in the head's place."""
        new = nn.Linear(self.width, outputs).to(self.head.weight)
        assert self.classifier is not None
        parent, _, attribute = self.classifier.rpartition(".")
        setattr(self.module.get_submodule(parent), attribute, new)

    def forward(self, batch: Tensor, part: nn.Module | None = None) -> Tensor:
        """Logits (N, output) of a batch (N, channels, H, W).

        Args:
            batch: float32, normalised; or what a part of the network takes.
            part: runs only this part of it, and gives what the part gives.

        Raises:
            ConfigError: the network cannot take images of this shape, or gives no single tensor.
        """
        try:
            logits = (self.module if part is None else part)(batch)
        except torch.OutOfMemoryError as error:
            raise MvpError(
                f"network {self.name!r} ran out of memory on a batch of {len(batch)} images",
                cause=str(error),
                remedy="lower training.batch_size or extract.batch_size",
            ) from error
        except (AssertionError, RuntimeError, TypeError, ValueError) as error:
            raise ConfigError(
                f"network {self.name!r} cannot take a batch of shape {tuple(batch.shape)}",
                cause=f"{type(error).__name__}: {error}",
                remedy="set transform.size to the image size that the network was made for",
            ) from error
        if not isinstance(logits, Tensor):
            raise ConfigError(
                f"network {self.name!r} gives {type(logits).__name__}, not one tensor of logits",
                remedy="let its factory return a module that gives (N, output) logits",
            )
        return logits

    def require_logits(self, logits: Tensor, rows: int) -> None:
        """Raise a ConfigError unless these are what the classifier gives for `rows` images."""
        if tuple(logits.shape) != (rows, self.outputs):
            raise ConfigError(
                f"network {self.name!r} gives {tuple(logits.shape)}, but its last linear layer "
                f"{self.classifier!r} gives ({rows}, {self.outputs})",
                cause="the last linear layer is not the network's classifier",
                remedy="name another network, or a layer in network.layer and do not fine-tune",
            )


def last_linear(module: nn.Module) -> str | None:
    """The dotted name of the last linear layer in a module's own order; None where none is.

    Every classifier of torchvision registers its linear classifier last (a test goes through
    them all), whatever it is called: fc, classifier.6, heads.head, head.
    """
    names = [name for name, layer in module.named_modules() if isinstance(layer, nn.Linear)]
    return names[-1] if names else None


def no_linear_classifier(name: str) -> ConfigError:
    """The error for a network whose classifier cannot be replaced."""
    return ConfigError(
        f"network {name!r} has no linear classifier",
        cause="its logits come from another kind of layer, as a convolution",
        remedy="name another network; or set network.layer to one of its layers and use it "
        'without fine-tuning (protocol = "frozen")',
    )
