"""Many logistic regressions at once: labels × view subsets × penalties in each pass over the rows.

One by one, every regression reads all features in every iteration, and memory sets the pace. Here
the coefficients of all of them are columns of one matrix: a block of features that has been read
serves every regression by two matrix products, and those that have converged leave.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mvp.features.table import FeatureTable
from mvp.learners.batched_lbfgs import minimise
from mvp.learners.linear_feed import BLOCK_ROWS, LinearFeed, LinearHead
from mvp.learners.standardise import Standardiser
from mvp.learners.torch_training import find_device
from mvp.types import FloatArray, Labels

log = logging.getLogger("mvp")
_GB = 1e9
# Copies of all coefficients that the optimiser holds.
_COPIES = 24


@dataclass(frozen=True, eq=False)
class ManyLinear:
    """Fitted regressions, all as columns of one matrix.

    Attributes:
        heads: in order.
        scaler: mean and spread of the features over all rows.
        weights: (Σ feature, head) float32 on features in that scale; 0 outside a head's views.
        presence: (view, head) float32, what the presence of a view adds.
        intercept: (head,) float32.
        converged: (head,) bool.
        passes: how often the rows were read while fitting.
        device: where it computes.
    """

    heads: list[LinearHead]
    scaler: Standardiser
    weights: FloatArray
    presence: FloatArray
    intercept: FloatArray
    converged: np.ndarray
    passes: int
    device: str

    def predict(self, table: FeatureTable) -> FloatArray:
        """(study, head) float32 probabilities of the label being true."""
        device = torch.device(self.device)
        weights, presence, intercept = (
            torch.from_numpy(a).to(device) for a in (self.weights, self.presence, self.intercept)
        )
        out = np.empty((len(table), len(self.heads)), np.float32)
        for rows, matrix in table.batches(BLOCK_ROWS):
            x = torch.from_numpy(self.scaler.transform(matrix)).to(device)
            there = torch.from_numpy(table.presence[rows].astype(np.float32)).to(device)
            logits = x @ weights + there @ presence + intercept
            out[rows] = torch.sigmoid(logits).cpu().numpy()
        return out


def fit_many_linear(
    table: FeatureTable,
    labels: Labels,
    heads: Sequence[LinearHead],
    subsets: Sequence[Sequence[str]],
    *,
    tolerance: float = 3e-6,
    max_passes: int = 1000,
    memory_limit: float = 4.0,
    device: str = "auto",
) -> ManyLinear:
    """Fit logistic regressions with an L2 penalty on subsets of the views, all together.

    Each is the regression that the learner `logistic` fits of its label on its views with its C:
    on the studies whose label is known and that have any of the views, features standardised by
    these, a missing view at the mean, a penalised column of presence for each view, an intercept
    without penalty. The optimiser is L-BFGS (Liu and Nocedal 1989, Mathematical Programming 45,
    503-528) for all of them side by side, each with its own step.

    Args:
        table: features of the training studies.
        labels: theirs; the heads' are binary.
        heads: which regressions.
        subsets: names of the views of each subset.
        tolerance: a regression has converged when no component of the gradient of its mean loss
            is larger.
        max_passes: over the rows, at most.
        memory_limit: GB (10^9 bytes) that features and, beside them, the optimiser may take; of
            more features each pass reads them anew, and more regressions are fitted in turns.
        device: `auto`, `cpu`, `cuda`, …
    """
    chosen = find_device(device)
    feed = LinearFeed(table, labels, subsets, memory_limit * _GB, chosen)
    size = sum(table.signature.widths) + len(table.views) + 1
    turn = max(1, int(memory_limit * _GB / (4 * _COPIES * size)))
    # Heads of a subset side by side share its products; at the end each is where it was asked for.
    order = sorted(range(len(heads)), key=lambda i: heads[i].subset)
    arranged = [heads[i] for i in order]
    parts = [
        _Turn(feed, arranged[start : start + turn]).fit(tolerance, max_passes)
        for start in range(0, len(heads), turn)
    ]
    back = torch.from_numpy(np.argsort(order))
    joined = torch.cat([part[0] for part in parts], dim=1)[:, back.to(chosen)]
    converged = torch.cat([part[1] for part in parts])[back]
    weights, presence, intercept = feed.in_common_scale(joined, heads)
    if not converged.all():
        log.warning(
            "%d of %d linear heads have not converged in %d passes: with weak penalties their "
            "figures stand for somewhat stronger ones",
            int((~converged).sum()),
            len(heads),
            max_passes,
        )
    return ManyLinear(
        list(heads),
        feed.scaler,
        weights.cpu().numpy(),
        presence.cpu().numpy(),
        intercept.cpu().numpy(),
        converged.cpu().numpy(),
        sum(p[2] for p in parts),
        str(chosen),
    )


class _Turn:
    """The regressions that are fitted side by side."""

    def __init__(self, feed: LinearFeed, heads: list[LinearHead]) -> None:
        self.feed, self.heads = feed, heads
        device = feed.device
        self.target = torch.tensor([h.target for h in heads], device=device)
        self.subset = torch.tensor([h.subset for h in heads], device=device)
        # (label, subset) numbers of rows, and positives among them.
        rows = feed.known.T @ feed.any
        positives = (feed.known * feed.values).T @ feed.any
        self.rows = rows[self.target, self.subset].clamp_min(1)
        strength = torch.tensor([h.strength for h in heads], dtype=torch.float32, device=device)
        self.penalty = 1 / (strength * self.rows)
        share = positives[self.target, self.subset] / self.rows
        self.start = torch.logit(share.clamp(1e-6, 1 - 1e-6))

    def fit(self, tolerance: float, max_passes: int) -> tuple[Tensor, Tensor, int]:
        width, views = self.feed.slices[-1].stop, len(self.feed.slices)
        theta = torch.zeros(width + views + 1, len(self.heads), device=self.feed.device)
        theta[-1] = self.start
        return minimise(self.loss_and_gradient, theta, tolerance, max_passes)

    def loss_and_gradient(self, theta: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        """Mean penalised losses (head,) and their gradients (coefficient, head); one pass.

        Args:
            theta: (coefficient, head) of some of the heads.
            which: (head,) their numbers, rising.
        """
        feed = self.feed
        width = feed.slices[-1].stop
        target = self.target[which]
        some = [self.heads[i] for i in which.tolist()]
        weights, presence, intercept = feed.in_common_scale(theta, some)
        by_feature = torch.zeros_like(weights)
        by_presence, by_intercept = torch.zeros_like(presence), torch.zeros_like(intercept)
        exact = torch.float64 if theta.device.type != "mps" else torch.float32
        loss = torch.zeros(len(which), dtype=exact, device=theta.device)
        # Heads of a subset stand together, so that each product takes its views alone.
        runs = _runs([head.subset for head in some])
        for rows, x in feed.blocks():
            there = feed.there[rows]
            for subset, own in runs:
                logits = torch.addmm(intercept[own], there, presence[:, own])
                for where in feed.columns[subset]:
                    logits.addmm_(x[:, where], weights[where, own])
                truth = feed.values[rows][:, target[own]]
                counts = feed.known[rows][:, target[own]] * feed.any[rows, subset, None]
                each = functional.softplus(logits).sub_(logits * truth).mul_(counts)
                loss[own] += each.sum(dim=0)
                away = logits.sigmoid_().sub_(truth).mul_(counts)
                for where in feed.columns[subset]:
                    by_feature[where, own].addmm_(x[:, where].T, away)
                by_presence[:, own].addmm_(there.T, away)
                by_intercept[own] += away.sum(dim=0)
        # Back from the common scale: the chain rule of `in_common_scale`.
        uses = feed.has[self.subset[which]].T  # (view, head)
        gradient = torch.empty_like(theta)
        for view, where in enumerate(feed.slices):
            gradient[where] = by_feature[where] * feed.ratio[where][:, target]
            gradient[where] += feed.offset[where][:, target] * by_presence[view]
            gradient[where] *= uses[view]
        gradient[width:-1] = by_presence * uses
        gradient[-1] = by_intercept
        number, penalty = self.rows[which], self.penalty[which]
        gradient /= number
        gradient[:-1] += penalty * theta[:-1]
        squares = theta[:-1].square().sum(dim=0)
        return (loss / number).float() + penalty * squares / 2, gradient


def _runs(subsets: Sequence[int]) -> list[tuple[int, slice]]:
    """Where each number stands in a rising sequence."""
    edges = [i for i in range(len(subsets)) if i == 0 or subsets[i] != subsets[i - 1]]
    ends = [*edges[1:], len(subsets)]
    return [(subsets[i], slice(i, j)) for i, j in zip(edges, ends, strict=True)]
