"""The deterministic way from pixels to a network's input; its digest is part of the feature key.

Nothing random can be built from here. Augmentation is another type, in `mvp.data.augment`, and
extraction takes only a `Transform`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mvp.config import TransformConfig
from mvp.data.cropping import find_box
from mvp.data.intensity import unit_range
from mvp.data.reading.readers import READER_VERSION, Pixels
from mvp.data.reading.stack import UNSAID, Shown
from mvp.errors import ImageError
from mvp.files import digest_json

TRANSFORM_VERSION = 2
# A strip that is longer than this is no picture to crop, and resizing it first takes gigabytes.
_MAX_CROP_RATIO = 64
# ITU-R BT.601, as Pillow and OpenCV turn colour into grey.
_LUMINANCE = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Transform:
    """Intensity, geometry and normalisation, without chance."""

    config: TransformConfig

    @property
    def spec(self) -> dict[str, Any]:
        """Everything that decides the numbers."""
        spec = self.config.model_dump(mode="json")
        if self.config.intensity != "percentile":
            del spec["percentiles"]
        if self.config.intensity != "window":
            del spec["window"]
        if self.config.crop == "none":
            del spec["crop"]
        if self.config.color == "grey":
            # Networks see one channel, where they can; keys from before, when it was repeated,
            # are others.
            spec["grey"] = "one channel"
        return {**spec, "reader": READER_VERSION, "version": TRANSFORM_VERSION}

    @property
    def digest(self) -> str:
        """Digest of `spec`."""
        return digest_json(self.spec)

    @property
    def channels(self) -> int:
        """Channels of a prepared image: 1 for grey, 3 for colour."""
        return 1 if self.config.color == "grey" else 3

    def prepare(self, pixels: Pixels, shown: Shown = UNSAID) -> Tensor:
        """One image, ready for a batch.

        Args:
            pixels: (H, W) or (H, W, 3), uint8, uint16 or float32, as a reader gives them.
            shown: how its file says that they are to be seen.

        Returns:
            (channels, size, size) float32 in [0, 1].

        Raises:
            ImageError: nobody says how large its values could be, or it is too long to crop.
        """
        if self.config.crop != "none":
            # Before the percentiles, which are then those of the patient.
            box = find_box(pixels, self.config.crop)
            pixels = pixels[box.top : box.bottom, box.left : box.right]
        values = self._channels(unit_range(pixels, shown, self.config))
        return self._fit(torch.from_numpy(np.ascontiguousarray(values)))

    def finish(self, batch: Tensor, channels: int = 3) -> Tensor:
        """Normalise images in [0, 1] for a network.

        Args:
            batch: (N, 1 or 3, H, W), as `prepare` gives them.
            channels: how many the network takes, `Network.channels`. One grey channel is
                normalised by the means of `mean` and `std`, for three it is repeated.

        Returns:
            (N, channels, H, W).
        """
        if channels == 1:
            return (batch - self.config.grey_mean) / self.config.grey_std
        if batch.shape[1] == 1:
            batch = batch.expand(-1, 3, -1, -1)
        mean = torch.tensor(self.config.mean, device=batch.device).view(1, 3, 1, 1)
        std = torch.tensor(self.config.std, device=batch.device).view(1, 3, 1, 1)
        return (batch - mean) / std

    def _channels(self, values: np.ndarray) -> np.ndarray:
        if self.config.color == "grey":
            if values.ndim == 3:
                values = values @ np.asarray(_LUMINANCE, np.float32)
            return values[None]
        if values.ndim == 2:
            values = np.repeat(values[..., None], 3, axis=2)
        return values.transpose(2, 0, 1)

    def _fit(self, image: Tensor) -> Tensor:
        size, (height, width) = self.config.size, image.shape[1:]
        if self.config.fit == "stretch":
            return _resize(image, size, size)
        if self.config.fit == "crop" and max(height, width) > _MAX_CROP_RATIO * min(height, width):
            raise ImageError(
                f"an image of {height} x {width} pixels is too long to crop",
                remedy='set transform.fit = "letterbox"',
            )
        choose = max if self.config.fit == "letterbox" else min
        scale = size / choose(height, width)
        new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
        image = _resize(image, new_height, new_width)
        if self.config.fit == "crop":
            top, left = (new_height - size) // 2, (new_width - size) // 2
            return image[:, top : top + size, left : left + size].contiguous()
        top, left = (size - new_height) // 2, (size - new_width) // 2
        return functional.pad(
            image, (left, size - new_width - left, top, size - new_height - top)
        ).contiguous()


def _resize(image: Tensor, height: int, width: int) -> Tensor:
    if image.shape[1:] == (height, width):
        return image
    resized = functional.interpolate(
        image[None], size=(height, width), mode="bilinear", antialias=True, align_corners=False
    )
    return resized[0].clamp(0, 1)
