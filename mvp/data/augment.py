"""Random changes of images, for training and for the draws of `extract.tta`.

Extraction cannot take one for its preparation: that is a `Transform`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional

from mvp.config import AugmentConfig
from mvp.data.augment_light import add_noise, blur, colour, erase, gamma
from mvp.types import IntArray

# Raised when the same seed and settings give other images: it is part of the key of drawn features.
AUGMENT_VERSION = 1
# Numbers drawn for each row, whatever is switched on: no setting moves another's chance.
_CHANCES = 32
# Of the aspect of a random crop, as in Szegedy et al. 2015 (arXiv:1409.4842).
_ASPECT = 4 / 3

# Those numbers that decide where things stand.
_MOVES = [0, 1, 2, 3, 4, 7, 8, 9, 10, 11]
_GEOMETRY = ("rotate", "shift", "scale", "crop", "flip", "vertical_flip")
Change = Callable[[Tensor, Tensor, AugmentConfig, Generator], Tensor]
# In this order; each changes one image, or all slices of one volume.
_ROW_CHANGES: dict[tuple[str, ...], Change] = {
    ("gamma",): gamma,
    ("saturation", "hue"): colour,
    ("blur",): blur,
    ("noise",): add_noise,
    ("erase",): erase,
}


@dataclass(frozen=True)
class Augmentation:
    """Random changes of geometry, light and sharpness for each image, or volume, by itself.

    Turn, shift, zoom, crop and flips are one resampling; what comes in from outside is black.
    Each setting of `config` is the largest change of its kind, drawn uniformly up to it.

    Attributes:
        config: the largest change of each kind; flips only where they are switched on, because
            left and right carry meaning in medical views.
    """

    config: AugmentConfig

    def __call__(
        self,
        batch: Tensor,
        seeds: Sequence[int],
        counts: IntArray | None = None,
        places: Sequence[int] | None = None,
    ) -> Tensor:
        """Augment a batch.

        Args:
            batch: (N, C, H, W) float in [0, 1], on any device; left unchanged.
            seeds: one for each image, or volume: its changes come from its own seed alone, on
                every device and in whatever batch it stands.
            counts: how many images in a row are slices of one volume, which all change alike
                (noise alone is new in every slice); None where each is by itself.
            places: seeds of the changes of geometry alone, one for each image or volume: views of
                one study that have one are turned, shifted, zoomed, cropped and flipped alike.

        Returns:
            (N, C, H, W) in [0, 1].
        """
        changes = self.config.changes
        chances = [Generator().manual_seed(seed) for seed in seeds]
        if not changes or not chances:
            return batch
        draws = torch.stack([torch.rand(_CHANCES, generator=chance) for chance in chances])
        if places is not None:
            moved = [torch.rand(_CHANCES, generator=Generator().manual_seed(s)) for s in places]
            draws[:, _MOVES] = torch.stack(moved)[:, _MOVES]
        if any(name in changes for name in _GEOMETRY):
            batch = self._move(batch, draws, counts)
        if "brightness" in changes or "contrast" in changes:
            batch = self._light(batch, draws, counts)
        wanted = [c for names, c in _ROW_CHANGES.items() if any(n in changes for n in names)]
        if not wanted:
            return batch
        rows = []
        for row, draw, chance in zip(_rows(batch, counts), draws, chances, strict=True):
            changed = row
            for change in wanted:
                changed = change(changed, draw, self.config, chance)
            rows.append(changed)
        return torch.cat(rows)

    def _move(self, batch: Tensor, draws: Tensor, counts: IntArray | None) -> Tensor:
        config, (height, width) = self.config, batch.shape[2:]
        angle = _symmetric(draws[:, 0], config.rotate * math.pi / 180)
        zoom = 1 + _symmetric(draws[:, 1], config.scale)
        # Normalised coordinates span two units from edge to edge.
        shift_x = _symmetric(draws[:, 2], 2 * config.shift)
        shift_y = _symmetric(draws[:, 3], 2 * config.shift)
        mirror, turn_over = (
            1 - 2 * (wanted * (draws[:, place] < 0.5)).float()
            for wanted, place in ((config.flip, 4), (config.vertical_flip, 7))
        )
        area = 1 - config.crop * draws[:, 8]
        aspect_of_crop = (_symmetric(draws[:, 9], math.log(_ASPECT)) * (config.crop > 0)).exp()
        # What is longer than the image is cut to it.
        crop_x = (area * aspect_of_crop).sqrt().clamp(max=1)
        crop_y = (area / aspect_of_crop).sqrt().clamp(max=1)
        middle_x = _symmetric(draws[:, 10], 1.0) * (1 - crop_x)
        middle_y = _symmetric(draws[:, 11], 1.0) * (1 - crop_y)
        cos, sin, aspect = angle.cos() / zoom, angle.sin() / zoom, height / width
        # From output to input coordinates; the aspect keeps turns of oblong images rigid.
        across = [mirror * cos, -mirror * sin * aspect, shift_x]
        down = [turn_over * sin / aspect, turn_over * cos, shift_y]
        across, down = [v * crop_x for v in across], [v * crop_y for v in down]
        across[2], down[2] = across[2] + middle_x, down[2] + middle_y
        theta = torch.stack([torch.stack(across, dim=1), torch.stack(down, dim=1)], dim=1)
        theta = _spread(theta.to(batch), counts)
        grid = functional.affine_grid(theta, list(batch.shape), align_corners=False)
        return functional.grid_sample(batch, grid, align_corners=False, padding_mode="zeros")

    def _light(self, batch: Tensor, draws: Tensor, counts: IntArray | None) -> Tensor:
        contrast = 1 + _symmetric(draws[:, 5], self.config.contrast)
        brightness = _symmetric(draws[:, 6], self.config.brightness)
        contrast, brightness = (
            _spread(v.view(-1, 1, 1, 1).to(batch), counts) for v in (contrast, brightness)
        )
        # Row by row, because the order of a sum depends on the shape; of the whole volume: a dark
        # slice stays as much darker than a bright one.
        means = torch.stack([row.mean() for row in _rows(batch, counts)]).view(-1, 1, 1, 1)
        mean = _spread(means, counts)
        return ((batch - mean) * contrast + mean + brightness).clamp(0, 1)


def _symmetric(draw: Tensor, limit: float) -> Tensor:
    """Draws from [0, 1) as draws from [-limit, limit)."""
    return (draw * 2 - 1) * limit


def _rows(batch: Tensor, counts: IntArray | None) -> Sequence[Tensor]:
    """(slices, C, H, W) of each image or volume."""
    return batch.split(1 if counts is None else counts.tolist())


def _spread(values: Tensor, counts: IntArray | None) -> Tensor:
    """What was drawn for each volume, at each of its slices."""
    if counts is None:
        return values
    return values.repeat_interleave(torch.from_numpy(counts).to(values.device), dim=0)
