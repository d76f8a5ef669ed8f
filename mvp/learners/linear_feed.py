"""Blocks of standardised rows that logistic regressions of many labels and view subsets share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mvp.features.table import FeatureTable
from mvp.learners.standardise import Standardiser
from mvp.types import Labels

BLOCK_ROWS = 2048


@dataclass(frozen=True)
class LinearHead:
    """One of them.

    Attributes:
        target: number of its label.
        subset: number of its subset of views.
        strength: C, the inverse strength of the L2 penalty.
    """

    target: int
    subset: int
    strength: float


class LinearFeed:
    """Blocks of rows in one common scale, and how each label's own scale differs from it.

    A regression is defined in the scale of the rows in which its label is known. Multiplying its
    coefficients by `ratio` (and adding to the presence what `offset` says) brings them to the
    common scale, so that all share the products with the features.

    Args:
        table: features of the studies that are learned from.
        labels: theirs; those that are used are binary.
        subsets: names of the views of each subset.
        limit: bytes of features that are held in memory; of more, each pass reads them anew.
        device: where blocks and labels are put.
    """

    def __init__(
        self,
        table: FeatureTable,
        labels: Labels,
        subsets: Sequence[Sequence[str]],
        limit: float,
        device: torch.device,
    ) -> None:
        self.table, self.device = table, device
        self.slices = list(table.signature.slices.values())
        # For each subset where the features of its views stand.
        self.columns = [
            [place for view, place in table.signature.slices.items() if view in s] for s in subsets
        ]
        self.has = torch.tensor([[v in s for v in table.views] for s in subsets], device=device)
        self.scaler = Standardiser.fit(table)
        there = torch.from_numpy(table.presence).to(device)
        self.there = there.float()
        # (row, subset): whether a study has any of its views.
        self.any = ((self.there @ self.has.float().T) > 0).float()
        self.known = torch.from_numpy(labels.known.astype(np.float32)).to(device)
        self.values = torch.from_numpy(np.nan_to_num(labels.values)).to(device)
        self._held: list[tuple[slice, Tensor]] | None = None
        if 4 * len(table) * sum(table.signature.widths) <= limit:
            self._held = list(self._read())
        self.ratio, self.offset = self._scales()

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Row ranges with their features (row, Σ feature), 0 where a view is missing."""
        return iter(self._held) if self._held is not None else self._read()

    def _read(self) -> Iterator[tuple[slice, Tensor]]:
        for rows, matrix in self.table.batches(BLOCK_ROWS):
            yield rows, torch.from_numpy(self.scaler.transform(matrix)).to(self.device)

    def _scales(self) -> tuple[Tensor, Tensor]:
        """(Σ feature, label) each: spread and mean of a label's rows, in the common scale."""
        width, targets = sum(self.table.signature.widths), self.known.shape[1]
        shape = (width, targets)
        if bool((self.known == 1).all()):
            return torch.ones(shape, device=self.device), torch.zeros(shape, device=self.device)
        # In float64: what is constant has a spread of rounding errors, which must stay small. On
        # the CPU, for not every device knows it.
        first = torch.zeros(shape, dtype=torch.float64)
        second, known = torch.zeros_like(first), self.known.cpu().double()
        for rows, x in self.blocks():
            wide = x.cpu().double()
            first += wide.T @ known[rows]
            second += wide.square().T @ known[rows]
        number = (self.there.cpu().double().T @ known).clamp_min(1)  # (view, label)
        number = number.repeat_interleave(torch.tensor(self.table.signature.widths), dim=0)
        mean = first / number
        std = (second / number - mean.square()).clamp_min(0).sqrt()
        # Constant where the label is known: its coefficient stays 0 in any scale.
        ratio = torch.where(std > 1e-5, 1 / std.clamp_min(1e-5), torch.zeros_like(std))
        offset = -mean * ratio
        return ratio.float().to(self.device), offset.float().to(self.device)

    def in_common_scale(
        self, theta: Tensor, heads: Sequence[LinearHead]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Weights (Σ feature, head), presence (view, head), intercept (head,) of coefficients."""
        width = self.slices[-1].stop
        target = torch.tensor([h.target for h in heads], device=theta.device)
        own = theta[:width]
        moved = self.offset[:, target] * own
        shift = torch.stack([moved[columns].sum(dim=0) for columns in self.slices])
        return own * self.ratio[:, target], theta[width:-1] + shift, theta[-1]
