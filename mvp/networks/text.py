"""A character network: what a CNN is to an image, for short texts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mvp.config import TextConfig
from mvp.config.network import ALPHABET, CHAR_CNN
from mvp.networks.network import Network


class CharCNN(nn.Module):
    """Embedding, convolutions of several widths side by side, max over time, linear classifier.

    The architecture of Kim (2014, arXiv:1408.5882) on characters instead of words, as Kim et al.
    (2016, arXiv:1508.06615) use it. A window counts only where it begins in the text, so padding
    decides no feature.

    Args:
        alphabet: how many numbers a character may have; 0 is padding.
        outputs: number of logits.
        embedding: numbers per character.
        channels: of each convolution.
        kernels: widths of the convolutions, in characters.
        dropout: before the classifier, while training.
    """

    def __init__(
        self,
        alphabet: int,
        outputs: int,
        *,
        embedding: int,
        channels: int,
        kernels: Sequence[int],
        dropout: float,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(alphabet, embedding, padding_idx=0)
        self.convolutions = nn.ModuleList(nn.Conv1d(embedding, channels, k) for k in kernels)
        self.widest = max(kernels)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels * len(kernels), outputs)

    def forward(self, texts: Tensor) -> Tensor:
        """Logits (N, outputs) of texts (N, L) int64."""
        # So that every convolution finds a window at each place.
        padded = nn.functional.pad(texts, (0, self.widest - 1))
        embedded = self.embedding(padded).transpose(1, 2)
        outside = (texts == 0)[:, None]
        seen = []
        for convolution in self.convolutions:
            heard = torch.relu(convolution(embedded))[..., : texts.shape[1]]
            seen.append(heard.masked_fill(outside, 0).amax(2))
        return self.fc(self.dropout(torch.cat(seen, 1)))


def build_text(config: TextConfig, outputs: int | None) -> Network:
    """A character network with random weights from torch's generator.

    Args:
        config: its sizes.
        outputs: number of logits; None gives one, for features before the classifier.
    """
    module = CharCNN(
        ALPHABET,
        outputs or 1,
        embedding=config.embedding,
        channels=config.channels,
        kernels=config.kernels,
        dropout=config.dropout,
    )
    return Network(CHAR_CNN, module, "fc")
