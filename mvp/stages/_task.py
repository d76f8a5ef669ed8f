"""One view's training: what is trained on what, and its images in batches."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mvp.config import ResolvedView
from mvp.errors import ConfigError, MvpError
from mvp.networks import Capture, Network, inference
from mvp.types import IntArray, Labels


class ImageSource(Protocol):
    """The images of one view, by row."""

    def batches(self, order: IntArray, size: int) -> Iterator[Tensor]:
        """(n, C, H, W) float32 in [0, 1], C of 1 or 3; n is `size`, the last may be smaller."""
        ...

    def finish(self, batch: Tensor) -> Tensor:
        """Normalise to (n, 3, H, W); comes after augmentation."""
        ...


@dataclass(frozen=True, eq=False)
class Task:
    """What is trained on what; nothing in it changes but the network's weights.

    Attributes:
        view: its settings.
        network: on the device, channels last.
        images: rows as in `labels`.
        labels: (image, target), NaN for unknown and for what cannot be learnt.
        train: rows that weights are fitted on.
        inner: rows that choose the epoch.
        pos_weight: (target,) on the device.
        seed: all chance comes from it.
        device: where the network lives.
        progress_bar: whether to show one.
    """

    view: ResolvedView
    network: Network
    images: ImageSource
    labels: Labels
    train: IntArray
    inner: IntArray
    pos_weight: Tensor
    seed: int
    device: torch.device
    progress_bar: bool

    def values(self, rows: IntArray) -> Tensor:
        """(N, target) label values of some rows, on the device."""
        return torch.from_numpy(self.labels.values[rows]).to(self.device)


def batches(images: ImageSource, order: IntArray, size: int) -> Iterator[tuple[IntArray, Tensor]]:
    """Rows and images in order; a single last image joins the batch before it.

    Batch norm cannot be trained on one row, and no row is dropped.

    Raises:
        MvpError: the source gave more or fewer images than were asked for.
    """
    start, held = 0, None
    for batch in images.batches(order, size):
        if held is not None and len(batch) == 1 and start + 1 == len(order):
            held = torch.cat([held, batch])
            start += 1
            continue
        if held is not None:
            yield order[start - len(held) : start], held
        held = batch
        start += len(batch)
    if start != len(order):
        raise MvpError(f"the image source gave {start} images for {len(order)} rows")
    if held is not None:
        yield order[start - len(held) :], held


def steps_per_epoch(rows: int, size: int) -> int:
    """How many batches `batches` gives."""
    return max(1, math.ceil(rows / size) - (rows % size == 1))


def look(task: Task, rows: IntArray) -> tuple[Tensor, Tensor]:
    """What the network sees in some rows, without chance and without changing it.

    Returns:
        Features before the classifier (N, D), and logits (N, output).
    """
    features: list[Tensor] = []
    logits: list[Tensor] = []
    with inference(task.network), Capture(task.network) as capture:
        for _, batch in batches(task.images, rows, task.view.training.batch_size):
            images = task.images.finish(batch.to(task.device))
            one = capture.with_logits(images.contiguous(memory_format=torch.channels_last))
            if not features:
                _require_head_last(task.network, *one)
            features.append(one[0])
            logits.append(one[1])
    # Joined outside: tensors made in inference mode cannot take part in training.
    return torch.cat(features), torch.cat(logits)


def _require_head_last(network: Network, features: Tensor, logits: Tensor) -> None:
    """The head is trained by itself, so nothing may stand between it and the logits."""
    again = network.head(features)
    # Values that are not finite are the loss's business, which names another remedy.
    finite = torch.isfinite(again) & torch.isfinite(logits)
    again, logits = again[finite], logits[finite]
    if again.numel() and (again - logits).abs().max() > 0.01 * logits.abs().max() + 1e-6:
        raise ConfigError(
            f"network {network.name!r} changes what its classifier {network.classifier!r} gives",
            cause="a softmax, sigmoid or other layer stands after it",
            remedy="let the network give plain logits",
        )
