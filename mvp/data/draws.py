"""Several seeded draws of an image, whose features are cached side by side (`extract.tta`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mvp.config import AugmentConfig
from mvp.data.augment import AUGMENT_VERSION, Augmentation
from mvp.files import digest_json


@dataclass(frozen=True)
class Draws:
    """The same draws of the same pixels, always: an image as it is, and random changes of it.

    Attributes:
        config: what changes, and how much.
        number: draws of each image; the first is the image itself.
        seed: the seed of all of them.
    """

    config: AugmentConfig
    number: int
    seed: int = 0

    @property
    def spec(self) -> dict[str, Any]:
        """Everything that decides the draws, beside the images and their seeds."""
        return {
            "changes": self.config.changes,
            "number": self.number,
            "seed": self.seed,
            "version": AUGMENT_VERSION,
        }

    @property
    def digest(self) -> str:
        """Digest of `spec`."""
        return digest_json(self.spec)

    def __call__(self, batch: Tensor, seeds: Sequence[int]) -> Tensor:
        """Draw from every image.

        Args:
            batch: (n, C, H, W) float in [0, 1], on any device; left unchanged.
            seeds: one for each image, of its content: an image's draws come from its own seed
                alone, whatever stands beside it.

        Returns:
            (n * number, C, H, W) in [0, 1]: all draws of the first image, then of the second.
        """
        change = Augmentation(self.config)
        draws = [batch]
        for draw in range(1, self.number):
            own = [int(digest_json([self.seed, int(seed), draw])[:15], 16) for seed in seeds]
            draws.append(change(batch, own))
        return torch.stack(draws, dim=1).flatten(0, 1)
