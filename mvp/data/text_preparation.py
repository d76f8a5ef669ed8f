"""From a text to the numbers of its characters; the digest is part of the feature key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mvp.config import TextConfig
from mvp.config.network import ALPHABET
from mvp.data.reading.texts import TEXT_VERSION, normalised
from mvp.files import digest_json

PREPARATION_VERSION = 1
PADDING, START, END, LONGER = 0, 1, 2, 3
_SPECIAL = 4
# Latin letters with all their marks have a number of their own; other scripts share the rest, so
# that nothing has to be learnt from the texts and no text can be of unknown characters.
_OWN = 0x250
_SHARED = ALPHABET - _SPECIAL - _OWN


@dataclass(frozen=True)
class TextPreparation:
    """Characters as numbers, with marks for the start and the end of the text."""

    config: TextConfig

    @property
    def spec(self) -> dict[str, Any]:
        """Everything that decides the numbers; the network's own sizes are in its weights."""
        return {
            "kind": "text",
            "length": self.config.length,
            "lower": self.config.lower,
            "reader": TEXT_VERSION,
            "version": PREPARATION_VERSION,
        }

    @property
    def digest(self) -> str:
        """Digest of `spec`."""
        return digest_json(self.spec)

    def prepare(self, text: str) -> Tensor:
        """One text, ready for a batch.

        Args:
            text: of any length; what exceeds `length` characters is cut off, which a mark says.

        Returns:
            (length + 2,) int64: the start, a number below `ALPHABET` for each character, the end,
            and padding.
        """
        text = normalised(text)
        if self.config.lower:
            text = text.lower()
        length = self.config.length
        points = np.fromiter(map(ord, text[:length]), np.int64, min(len(text), length))
        numbers = np.where(points < _OWN, points, _OWN + points % _SHARED) + _SPECIAL
        row = np.full(length + 2, PADDING, np.int64)
        row[0] = START
        row[1 : 1 + len(numbers)] = numbers
        row[1 + len(numbers)] = END if len(text) <= length else LONGER
        return torch.from_numpy(row)

    def finish(self, batch: Tensor, channels: int = 3) -> Tensor:
        """A batch as the network takes it: texts are ready as they are, and have no channels."""
        return batch
