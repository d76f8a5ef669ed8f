"""One view's training: what is trained on what, and its images in batches."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor

from mvp.config import ResolvedView
from mvp.errors import ConfigError, MvpError
from mvp.networks import Capture, Network, inference
from mvp.networks.bags import BagReduction
from mvp.types import IntArray, Labels


class ImageSource(Protocol):
    """The inputs of one view's network, by row: an image, a text, or the slices of a volume."""

    @property
    def counts(self) -> IntArray | None:
        """(row,) inputs that each row is made of; None where every row is one."""
        ...

    def batches(self, order: IntArray, size: int) -> Iterator[Tensor]:
        """(n, ...) the inputs of the rows, one row after another; n is `size`, the last fewer.

        Images are (n, C, H, W) float32 in [0, 1], C of 1 or 3.
        """
        ...

    def augment(self, batch: Tensor, chance: Generator, counts: IntArray | None) -> Tensor:
        """Random changes for training, one for all inputs of a row; the batch's own device."""
        ...

    def finish(self, batch: Tensor) -> Tensor:
        """What the network takes, of images (n, 3, H, W) normalised; comes after `augment`."""
        ...


@dataclass(frozen=True, eq=False)
class Task:
    """What is trained on what; nothing in it changes but the network's weights.

    Attributes:
        view: its settings.
        network: on the device, channels last.
        images: the network's inputs, rows as in `labels`.
        labels: (row, target), NaN for unknown and for what cannot be learnt.
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

    def counts(self, rows: IntArray) -> IntArray | None:
        """(N,) slices of some rows; None where no row of the source is a volume."""
        counts = self.images.counts
        return None if counts is None else counts[rows]

    def inputs(self, rows: IntArray) -> int:
        """How many images or slices some rows are."""
        counts = self.counts(rows)
        return len(rows) if counts is None else int(counts.sum())

    def to_network(self, batch: Tensor) -> Tensor:
        """A batch on the device as the network takes it, images with their channels last."""
        ready = self.images.finish(batch)
        return ready.contiguous(memory_format=torch.channels_last) if ready.ndim == 4 else ready


def batches(images: ImageSource, order: IntArray, size: int) -> Iterator[tuple[IntArray, Tensor]]:
    """Rows and their inputs in order; a single last image joins the batch before it.

    Batch norm cannot be trained on one input, and no row is dropped. A volume is never divided:
    a batch is as many whole rows as have `size` inputs together, and one at least.

    Raises:
        MvpError: the source gave more or fewer inputs than were asked for.
    """
    if images.counts is not None:
        yield from _whole_bags(images, images.counts, order, size)
        return
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


def _whole_bags(
    images: ImageSource, counts: IntArray, order: IntArray, size: int
) -> Iterator[tuple[IntArray, Tensor]]:
    coming = images.batches(order, size)
    here: list[Tensor] = []
    start = 0
    for number in rows_per_batch(counts[order], size):
        rows = order[start : start + number]
        start += number
        wanted = int(counts[rows].sum())
        while (have := sum(len(part) for part in here)) < wanted:
            part = next(coming, None)
            if part is None:
                raise MvpError(f"the image source gave {have} of the last {wanted} inputs")
            here.append(part)
        joined = torch.cat(here)
        here = [joined[wanted:]]
        yield rows, joined[:wanted]
    if sum(len(part) for part in here) or next(coming, None) is not None:
        raise MvpError("the image source gave more inputs than it says its rows have")


def rows_per_batch(counts: IntArray, size: int) -> list[int]:
    """How many of the next rows each batch takes.

    Args:
        counts: (row,) inputs of each, in the order of training.
        size: inputs of a batch; only a batch of one row, or one that a single slice has joined,
            has more.
    """
    batches: list[list[int]] = []
    for count in counts.tolist():
        # No batch of one slice, whichever of the two came first.
        if batches and (sum(batches[-1]) + count <= size or batches[-1] == [1]):
            batches[-1].append(count)
        else:
            batches.append([count])
    if len(batches) > 1 and batches[-1] == [1]:
        batches[-2:] = [[*batches[-2], 1]]
    return [len(rows) for rows in batches]


def steps_per_epoch(rows: int, size: int) -> int:
    """How many batches `batches` gives of rows that are one input each."""
    return max(1, math.ceil(rows / size) - (rows % size == 1))


def look(task: Task, rows: IntArray) -> tuple[Tensor, Tensor]:
    """What the network sees in some rows, without chance and without changing it.

    A volume's slices go through a batch at a time, however many they are.

    Returns:
        Features before the classifier (N, D), and logits (N, output).
    """
    counts = task.counts(rows)
    if counts is not None:
        return _look_at_bags(task, rows, counts)
    features: list[Tensor] = []
    logits: list[Tensor] = []
    with inference(task.network), Capture(task.network) as capture:
        for _, batch in batches(task.images, rows, task.view.training.batch_size):
            one = capture.with_logits(task.to_network(batch.to(task.device)))
            if not features:
                _require_head_last(task.network, *one)
            features.append(one[0])
            logits.append(one[1])
    # Joined outside: tensors made in inference mode cannot take part in training.
    return torch.cat(features), torch.cat(logits)


def _look_at_bags(task: Task, rows: IntArray, counts: IntArray) -> tuple[Tensor, Tensor]:
    bags = BagReduction(counts, task.view.training.slices)
    first = True
    with inference(task.network), Capture(task.network) as capture:
        for batch in task.images.batches(rows, task.view.training.batch_size):
            one = capture.with_logits(task.to_network(batch.to(task.device)))
            if first:
                _require_head_last(task.network, *one)
            first = False
            bags.add(one[0])
    features = bags.features()
    with torch.no_grad():
        return features, task.network.head(features)


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
