"""How training goes right now: loss, AUROC and accuracy over the last steps."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mvp.networks import probabilities
from mvp.statistics.metrics import auroc
from mvp.training.step import Taken
from mvp.types import FloatArray, Labels, one_hot, output_slices

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Recent:
    """What the last steps said; None where nothing in them could say it.

    Attributes:
        loss: per known label.
        auroc: mean over the outputs with both classes.
        accuracy: share of known labels whose likeliest class is the true one.
    """

    loss: float | None
    auroc: float | None
    accuracy: float | None


class Window:
    """Remembers the last steps of an epoch.

    Args:
        length: how many.
    """

    def __init__(self, length: int) -> None:
        self._losses: deque[tuple[float, int]] = deque(maxlen=length)
        self._rows: deque[tuple[Tensor, Tensor, Tensor]] = deque(maxlen=length)

    def add(self, taken: Taken, known: int) -> None:
        """Take in a step.

        Args:
            taken: what it said.
            known: its known labels.
        """
        self._losses.append((taken.loss, known))
        if taken.logits is not None and taken.labels is not None:
            chances = probabilities(taken.logits, taken.labels.targets)
            truth = torch.from_numpy(one_hot(taken.labels))
            self._rows.append((chances, truth, _hits(chances, taken.labels)))

    def recent(self) -> Recent:
        """What is remembered; chances are those of training, with augmentation and dropout."""
        known = sum(number for _, number in self._losses)
        loss = sum(loss for loss, _ in self._losses) / known if known else None
        if not self._rows:
            return Recent(loss, None, None)
        columns = zip(*self._rows, strict=True)
        chances, truth, hits = (torch.cat(column).numpy() for column in columns)
        areas = [auroc(truth[:, i], chances[:, i]) for i in range(truth.shape[1])]
        defined = [area for area in areas if area is not None]
        right = hits[~np.isnan(hits)]
        return Recent(
            loss,
            float(np.mean(defined)) if defined else None,
            float(right.mean()) if len(right) else None,
        )

    def tensors(self) -> Tensors:
        """All of it, for a checkpoint."""
        found = {
            f"{i}.{name}": value
            for i, row in enumerate(self._rows)
            for name, value in zip(("chances", "truth", "hits"), row, strict=True)
        }
        if self._losses:
            found["losses"] = torch.tensor(list(self._losses), dtype=torch.float64)
        return found

    def restore(self, tensors: Tensors) -> None:
        """Take up what a checkpoint holds."""
        for loss, known in tensors.get("losses", torch.zeros(0, 2)).tolist():
            self._losses.append((loss, int(known)))
        for i in range(sum(name.endswith(".truth") for name in tensors)):
            self._rows.append(
                (tensors[f"{i}.chances"], tensors[f"{i}.truth"], tensors[f"{i}.hits"])
            )


def _hits(chances: Tensor, labels: Labels) -> Tensor:
    """(N, target) 1 where the likeliest class is the true one, 0 where not, NaN for unknown."""
    columns: list[FloatArray] = []
    for index, (target, own) in enumerate(
        zip(labels.targets, output_slices(labels.targets), strict=True)
    ):
        chance, value = chances[:, own].numpy(), labels.values[:, index]
        likeliest = chance.argmax(1) if target.multiclass else chance[:, 0] > 0.5
        hit = (likeliest == value).astype(np.float32)
        columns.append(np.where(np.isnan(value), np.float32(np.nan), hit))
    return torch.from_numpy(np.stack(columns, axis=1))
