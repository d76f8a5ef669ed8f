"""Random changes of training images. Extraction cannot take one: it wants a `Transform`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional

from mvp.config import AugmentConfig
from mvp.types import IntArray


@dataclass(frozen=True)
class Augmentation:
    """A small random turn, shift, zoom and change of light for each image, or volume, by itself.

    Attributes:
        config: the largest change of each kind; a flip only where it is switched on, because
            left and right carry meaning in medical views.
    """

    config: AugmentConfig

    def __call__(
        self, batch: Tensor, generator: Generator, counts: IntArray | None = None
    ) -> Tensor:
        """Augment a batch.

        Args:
            batch: (N, C, H, W) float in [0, 1], on any device; left unchanged.
            generator: on the CPU, so that every device sees the same changes.
            counts: how many images in a row are slices of one volume, which all change alike;
                None where each is by itself.

        Returns:
            (N, C, H, W) in [0, 1]; what comes in from outside the image is black.
        """
        config = self.config
        if config.rotate or config.shift or config.scale or config.flip:
            batch = self._move(batch, generator, counts)
        if config.brightness or config.contrast:
            batch = self._light(batch, generator, counts)
        return batch

    def _move(self, batch: Tensor, generator: Generator, counts: IntArray | None) -> Tensor:
        height, width = batch.shape[2:]
        number = len(batch) if counts is None else len(counts)
        angle = _symmetric(number, self.config.rotate * math.pi / 180, generator)
        zoom = 1 + _symmetric(number, self.config.scale, generator)
        # Normalised coordinates span two units from edge to edge.
        shift_x = _symmetric(number, 2 * self.config.shift, generator)
        shift_y = _symmetric(number, 2 * self.config.shift, generator)
        mirror = torch.ones(number)
        if self.config.flip:
            mirror -= 2 * (torch.rand(number, generator=generator) < 0.5).float()
        cos, sin, aspect = angle.cos() / zoom, angle.sin() / zoom, height / width
        # From output to input coordinates; the aspect keeps turns of oblong images rigid.
        rows = [
            torch.stack([mirror * cos, -mirror * sin * aspect, shift_x], dim=1),
            torch.stack([sin / aspect, cos, shift_y], dim=1),
        ]
        theta = _spread(torch.stack(rows, dim=1).to(batch), counts)
        grid = functional.affine_grid(theta, list(batch.shape), align_corners=False)
        return functional.grid_sample(batch, grid, align_corners=False, padding_mode="zeros")

    def _light(self, batch: Tensor, generator: Generator, counts: IntArray | None) -> Tensor:
        number = len(batch) if counts is None else len(counts)
        contrast = 1 + _symmetric(number, self.config.contrast, generator)
        brightness = _symmetric(number, self.config.brightness, generator)
        contrast, brightness = (
            _spread(v.view(-1, 1, 1, 1).to(batch), counts) for v in (contrast, brightness)
        )
        mean = batch.mean(dim=(1, 2, 3), keepdim=True)
        if counts is not None:
            # Of the whole volume: a dark slice stays as much darker than a bright one.
            volumes = [part.mean() for part in mean.split(counts.tolist())]
            mean = _spread(torch.stack(volumes).view(-1, 1, 1, 1), counts)
        return ((batch - mean) * contrast + mean + brightness).clamp(0, 1)


def _symmetric(number: int, limit: float, generator: Generator) -> Tensor:
    """(number,) uniform in [-limit, limit]."""
    return (torch.rand(number, generator=generator) * 2 - 1) * limit


def _spread(values: Tensor, counts: IntArray | None) -> Tensor:
    """What was drawn for each volume, at each of its slices."""
    if counts is None:
        return values
    return values.repeat_interleave(torch.from_numpy(counts).to(values.device), dim=0)
