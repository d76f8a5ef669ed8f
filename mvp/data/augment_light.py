"""Changes of one image, or of all slices of one volume, by the kernels of torchvision.

Each takes (slices, C, H, W) float in [0, 1], the row's drawn numbers, the settings and the row's
own generator, and gives a new tensor of the same shape in [0, 1].
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Generator, Tensor

from mvp.config import AugmentConfig

# Shares of the image and aspects of an erased rectangle: Zhong et al. 2020 (arXiv:1708.04896).
_ERASED = (0.02, 0.33)
_ERASED_ASPECT = 1 / 0.3


def gamma(row: Tensor, draw: Tensor, config: AugmentConfig, _: Generator) -> Tensor:
    """A power from 1 / (1 + gamma) to 1 + gamma, as often below one as above."""
    power = (1 + config.gamma) ** (2 * float(draw[12]) - 1)
    # Sampling at the edge of the image can leave a value just outside.
    return _kernels().adjust_gamma(row.clamp(0, 1), power)


def colour(row: Tensor, draw: Tensor, config: AugmentConfig, _: Generator) -> Tensor:
    """Saturation and hue; grey has neither."""
    if config.saturation:
        row = _kernels().adjust_saturation(row, 1 + config.saturation * (2 * float(draw[13]) - 1))
    if config.hue:
        row = _kernels().adjust_hue(row.clamp(0, 1), config.hue * (2 * float(draw[14]) - 1))
    return row


def blur(row: Tensor, draw: Tensor, config: AugmentConfig, _: Generator) -> Tensor:
    """A Gaussian of up to `blur` pixels (standard deviation), mirrored at the edge."""
    sigma = max(config.blur * float(draw[15]), 1e-3)
    # Three standard deviations to either side, and never more than there is to mirror.
    reach = min(math.ceil(3 * sigma), min(row.shape[2:]) - 1)
    return _kernels().gaussian_blur(row, [2 * reach + 1] * 2, [sigma, sigma])


def add_noise(row: Tensor, draw: Tensor, config: AugmentConfig, chance: Generator) -> Tensor:
    """Gaussian noise of up to `noise` (standard deviation), new in every slice.

    By hand: the kernel of torchvision reads torch's global generator.
    """
    noise = torch.randn(row.shape, generator=chance).to(row)
    return (row + config.noise * float(draw[16]) * noise).clamp(0, 1)


def erase(row: Tensor, draw: Tensor, config: AugmentConfig, _: Generator) -> Tensor:
    """One black rectangle, with probability `erase`, the same in every slice."""
    if float(draw[17]) >= config.erase:
        return row
    height, width = row.shape[2:]
    low, high = _ERASED
    area = (low + (high - low) * float(draw[18])) * height * width
    aspect = _ERASED_ASPECT ** (2 * float(draw[19]) - 1)
    tall = min(height, max(1, round(math.sqrt(area * aspect))))
    wide = min(width, max(1, round(math.sqrt(area / aspect))))
    top = int(float(draw[20]) * (height - tall + 1))
    left = int(float(draw[21]) * (width - wide + 1))
    return _kernels().erase(row, top, left, tall, wide, torch.zeros((), device=row.device))


def _kernels() -> Any:
    # Half of the time that a verb takes to start, and most verbs change no image.
    import torchvision.transforms.v2.functional as kernels

    return kernels
