"""Networks made for colour that take grey images in one channel.

A grey image repeated three times and normalised for each channel is one image scaled and shifted
three times. The first convolution is linear, so its sum over these is a convolution of the one
image and of a constant. Nothing but the last digits changes, and images take a third of the work
and memory until they are there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mvp.config import TransformConfig
from mvp.networks.network import Network

_SIDE = 64  # of the image that a folded convolution is tried on
_TOLERANCE = 1e-4
# What a shift in a normalised channel has to be to be more than rounding.
_NO_SHIFT = 1e-6


class GreyConvolution(nn.Module):
    """A convolution of one grey channel (N, 1, H, W) and of a channel of ones beside it.

    The ones carry what the channels' different means add. As a bias it would reach over the
    border of the image too, where a convolution pads every normalised channel with zeros.

    Args:
        convolution: of two channels.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, images: Tensor) -> Tensor:
        """What the convolution of three channels gave of the image repeated and normalised."""
        return self.convolution(torch.cat([images, torch.ones_like(images)], 1))


def fold_grey(network: Network, transform: TransformConfig) -> Network:
    """The network with a first convolution that takes one grey channel, where it has such.

    With w_c the weights of channel c, m_c and s_c its mean and standard deviation, and m and s
    their averages, by which one channel is normalised: the weights for the image are the sum of
    w_c s / s_c, and those for a channel of ones, which is there unless all m_c are equal, the sum
    of w_c (m - m_c) / s_c.

    A network stays as it is, and takes three channels, if the image does not go straight into
    one convolution of three channels, or also somewhere else.

    Args:
        network: with its weights; its convolution is changed.
        transform: of the view; its means and standard deviations, and the size that is tried.
    """
    module = network.module
    scale, shift = _channels(transform)
    inward = getattr(module, "transform_input", False)
    if inward:
        # GoogLeNet and Inception scale and shift the channels once more.
        scale, shift = _further(module, scale, shift)
        module.transform_input = False  # type: ignore[assignment]
    name = _first(module, transform.size)
    if name is not None and _fold(module, name, scale, shift):
        return replace(network, channels=1)
    if inward:
        module.transform_input = True  # type: ignore[assignment]
    return network


def _channels(transform: TransformConfig) -> tuple[Tensor, Tensor]:
    """(3,) scale and shift that make each normalised channel of the one grey channel."""
    mean = torch.tensor(transform.mean, dtype=torch.float64)
    std = torch.tensor(transform.std, dtype=torch.float64)
    return transform.grey_std / std, (transform.grey_mean - mean) / std


def _further(module: Any, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """After a network's own change of its input, which scales and shifts each channel."""
    nothing = module._transform_input(torch.zeros(1, 3, 1, 1, dtype=torch.float64)).flatten()
    one = module._transform_input(torch.ones(1, 3, 1, 1, dtype=torch.float64)).flatten()
    return scale * (one - nothing), shift * (one - nothing) + nothing


def _first(module: nn.Module, size: int) -> str | None:
    """The name of the convolution of three channels that alone sees the image, or None."""
    image = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    image.requires_grad_(True)
    met: list[str] = []

    def hook(name: str, convolution: nn.Module, inputs: tuple[Any, ...]) -> tuple[Tensor] | None:
        sees = bool(inputs) and isinstance(inputs[0], Tensor) and torch.equal(inputs[0], image)
        # Also when it is used again, on something else that has three channels.
        if sees or name in met:
            met.append(name)
        return (image.detach(),) if sees else None

    handles = [
        layer.register_forward_pre_hook(partial(hook, name))
        for name, layer in module.named_modules()
        # One that is the whole network has no place to be put in.
        if name
        and isinstance(layer, nn.Conv2d)
        and (layer.in_channels, layer.groups) == (3, 1)
        and "weight" in layer._parameters
    ]
    try:
        with _still(module):
            logits = module(image)
    # Images of this size do not fit, which whoever uses the network says in its own words.
    except (AssertionError, RuntimeError, TypeError, ValueError):
        return None
    finally:
        for handle in handles:
            handle.remove()
    # No parameter asks for a gradient, so the logits do only if the image came in elsewhere too.
    alone = isinstance(logits, Tensor) and not logits.requires_grad and len(met) == 1
    return met[0] if alone else None


def _fold(module: nn.Module, name: str, scale: Tensor, shift: Tensor) -> bool:
    """Fold a convolution; False, and nothing changed, where it is more than a linear one."""
    convolution = module.get_submodule(name)
    assert isinstance(convolution, nn.Conv2d)
    weight = convolution.weight
    scale, shift = scale.view(1, 3, 1, 1), shift.view(1, 3, 1, 1)
    grey = torch.rand(1, 1, _SIDE, _SIDE, generator=torch.Generator().manual_seed(0))
    parts = [(weight.detach().double() * scale).sum(1, keepdim=True)]
    folded: nn.Module = convolution
    # Asked of the settings, not of the weights, so that a restored network has the same shape.
    if float(shift.abs().max()) > _NO_SHIFT:
        parts.append((weight.detach().double() * shift).sum(1, keepdim=True))
        folded = GreyConvolution(convolution)
    with torch.no_grad():
        before = convolution((grey * scale + shift).to(weight))
        convolution.in_channels = len(parts)
        convolution.weight = nn.Parameter(torch.cat(parts, 1).to(weight), weight.requires_grad)
        after = folded(grey.to(weight))
    if (after - before).abs().max() > _TOLERANCE * before.abs().max():
        # As with one that standardises its weights.
        convolution.in_channels, convolution.weight = 3, weight
        return False
    path, _, attribute = name.rpartition(".")
    setattr(module.get_submodule(path), attribute, folded)
    return True


@contextmanager
def _still(module: nn.Module) -> Iterator[None]:
    """Evaluation mode, and no parameter asks for gradients; both come back afterwards."""
    modes = [(m, m.training) for m in module.modules()]
    asking = [p for p in module.parameters() if p.requires_grad]
    module.eval()
    for p in asking:
        p.requires_grad_(False)
    try:
        with torch.enable_grad():
            yield
    finally:
        for p in asking:
            p.requires_grad_(True)
        for m, mode in modes:
            m.training = mode
