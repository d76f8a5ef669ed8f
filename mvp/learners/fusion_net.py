"""Views side by side with a learned token where one is missing, and what torch learners share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from mvp.types import Target, output_slices


class FusionNet(nn.Module):
    """Standardised features of all views -> one logit per output.

    Args:
        widths: number of features of each view.
        outputs: number of logits.
        hidden: units of each hidden layer.
        layers: number of hidden layers; 0 is logistic regression.
        dropout: probability of dropping a hidden unit.
    """

    def __init__(
        self, widths: Sequence[int], outputs: int, *, hidden: int, layers: int, dropout: float
    ) -> None:
        super().__init__()
        self.widths = list(widths)
        # Zero is the mean of a standardised feature: a token starts as mean imputation.
        self.token = nn.Parameter(torch.zeros(sum(widths)))
        self.body, size = hidden_layers(sum(widths), hidden, layers, dropout)
        self.out = nn.Linear(size, outputs)

    def forward(self, features: Tensor, presence: Tensor) -> Tensor:
        """Logits (row, output) from features (row, Σ feature) and presence (row, view) bool."""
        if not self.training and bool(presence.all()):
            return self.out(self.body(features))  # nothing to put a token for
        there = presence.repeat_interleave(
            torch.tensor(self.widths, device=presence.device), dim=1, output_size=len(self.token)
        )
        return self.out(self.body(torch.where(there, features, self.token)))


@dataclass(frozen=True, eq=False)
class Term:
    """One of the losses that a network of several heads is fitted by.

    Attributes:
        weight: what the loss counts.
        logits: (row, output) of all rows.
        rows: (row,) bool, those that it is the loss of; None for all.
    """

    weight: float
    logits: Tensor
    rows: Tensor | None = None


class SeveralHeads(Protocol):
    """A network of several heads, each with a loss of its own."""

    def terms(self, features: Tensor, presence: Tensor) -> Iterable[Term]:
        """What every head is fitted by, from features (row, Σ feature) and presence."""
        ...

    def combined(self, terms: Sequence[Term], presence: Tensor) -> Tensor:
        """Logits (row, output) of what the heads say together."""
        ...


class RowNorm(nn.BatchNorm1d):
    """Batch norm that goes by its running statistics where it is given one row to learn from.

    One row has no variance, and a step of joint training may well have one study with all views.
    """

    def forward(self, rows: Tensor) -> Tensor:
        """(row, feature), normalised."""
        if not self.training or len(rows) > 1:
            return super().forward(rows)
        return functional.batch_norm(
            rows, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


class PlaceNorm(nn.BatchNorm2d):
    """The same for maps (row, channel, height, width): one row of one place has no variance."""

    def forward(self, maps: Tensor) -> Tensor:
        """Maps, normalised."""
        if not self.training or maps.numel() > maps.shape[1]:
            return super().forward(maps)
        return functional.batch_norm(
            maps, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


def loss_terms(net: nn.Module, inputs: object, shown: Tensor) -> list[Term]:
    """What a network is fitted by: its own terms where it has several heads, else its logits.

    Args:
        net: gives logits (row, output) of inputs and the views that are shown; a network of several
            heads says in `terms` what each of them says.
        inputs: of the rows.
        shown: (row, view) bool.
    """
    own = getattr(net, "terms", None)
    if own is not None:
        return list(own(inputs, shown))
    return [Term(1.0, net(inputs, shown))]


def hidden_layers(size: int, hidden: int, layers: int, dropout: float) -> tuple[nn.Sequential, int]:
    """Layers with batch norm, ReLU and dropout on (row, size), and the width that they give."""
    blocks: list[nn.Module] = []
    for _ in range(layers):
        blocks += [
            nn.Linear(size, hidden, bias=False),
            RowNorm(hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
        ]
        size = hidden
    return nn.Sequential(*blocks), size


def drop_views(presence: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Presence (row, view) with views dropped at random, never the last one of a row.

    A row that would lose all its views keeps one, each of them equally often.
    """
    luck = torch.rand(presence.shape, generator=generator)
    return luckier_views(presence, luck.to(presence.device), probability)


def luckier_views(presence: Tensor, luck: Tensor, probability: float) -> Tensor:
    """Presence (row, view) without views of luck (row, view) below a probability; see above."""
    kept = presence & (luck >= probability)
    luckiest = torch.where(presence, luck, -1.0).argmax(dim=1, keepdim=True)
    spared = torch.zeros_like(presence).scatter_(1, luckiest, True) & presence
    return torch.where(kept.any(dim=1, keepdim=True), kept, spared)


def masked_loss(
    logits: Tensor, values: Tensor, targets: Sequence[Target], known_fraction: Tensor
) -> Tensor:
    """Mean over targets of the mean cross-entropy over each target's known rows.

    A row's loss is divided by the fraction of rows (of the whole set, not of this batch) in
    which its target is known: an unbiased estimate of the mean over known rows, in which a
    rarely known label counts as much as any other.

    Args:
        logits: (row, output).
        values: (row, target) 0/1, class index, or NaN for unknown, which adds nothing.
        targets: what the columns mean.
        known_fraction: (target,) in (0, 1]; 0 leaves a target out.
    """
    known = ~torch.isnan(values)
    filled = torch.where(known, values, 0.0)
    per_target = []
    for column, (target, outputs) in enumerate(zip(targets, output_slices(targets), strict=True)):
        if target.multiclass:
            loss = functional.cross_entropy(
                logits[:, outputs], filled[:, column].long(), reduction="none"
            )
        else:
            loss = functional.binary_cross_entropy_with_logits(
                logits[:, outputs.start], filled[:, column], reduction="none"
            )
        per_target.append(torch.where(known[:, column], loss, 0.0).mean())
    weight = torch.where(known_fraction > 0, 1.0 / known_fraction.clamp_min(1e-12), 0.0)
    present = (known_fraction > 0).sum().clamp_min(1)
    return (torch.stack(per_target) * weight).sum() / present


def probabilities(logits: Tensor, targets: Sequence[Target]) -> Tensor:
    """(row, output) in [0, 1]: sigmoid for binary targets, softmax within a multi-class one."""
    parts = []
    for target, outputs in zip(targets, output_slices(targets), strict=True):
        part = logits[:, outputs]
        parts.append(part.softmax(dim=1) if target.multiclass else part.sigmoid())
    return torch.cat(parts, dim=1)
