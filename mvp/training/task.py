"""One view's training: what is trained on what."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from mvp.config import ResolvedView
from mvp.errors import ConfigError
from mvp.networks import Capture, Network, inference
from mvp.networks.bags import BagReduction
from mvp.training.processes import Processes
from mvp.training.source import ImageSource, divided
from mvp.types import IntArray, Labels


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
        processes: that train together.
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
    processes: Processes = field(default_factory=Processes)

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

    def to_device(self, batch: Tensor) -> Tensor:
        """A batch on the device; the copy to a GPU goes on while the next batch is read."""
        return on_device(batch, self.device)

    def to_network(self, batch: Tensor) -> Tensor:
        """A batch on the device as the network takes it, images with their channels last."""
        return for_network(batch, self.images, self.network)


def on_device(batch: Tensor, device: torch.device) -> Tensor:
    """A batch on a device; the copy to a GPU goes on while the next batch is read."""
    if device.type != "cuda":
        return batch.to(device)
    return batch.pin_memory().to(device, non_blocking=True)


def for_network(batch: Tensor, images: ImageSource, network: Network) -> Tensor:
    """A batch of a source as a network takes it, images with their channels last."""
    ready = images.finish(batch, network.channels)
    return ready.contiguous(memory_format=torch.channels_last) if ready.ndim == 4 else ready


def look(task: Task, rows: IntArray) -> tuple[Tensor, Tensor]:
    """What the network sees in some rows, without chance and without changing it.

    A volume's slices go through a batch at a time, however many they are. Several processes look
    at a share each and tell the others. It is done in float32, as features are extracted.

    Returns:
        Features before the classifier (N, D), and logits (N, output).
    """
    owners = divided(rows, task.images.counts, task.processes.number)
    if task.processes.number == 1 or len(owners) < task.processes.number:
        return _look(task, rows)
    start = sum(len(own) for own in owners[: task.processes.rank])
    features, logits = _look(task, owners[task.processes.rank])
    return (
        task.processes.rows(features, start, len(rows)),
        task.processes.rows(logits, start, len(rows)),
    )


def _look(task: Task, rows: IntArray) -> tuple[Tensor, Tensor]:
    counts = task.counts(rows)
    if counts is not None:
        return _look_at_bags(task, rows, counts)
    features: list[Tensor] = []
    logits: list[Tensor] = []
    with inference(task.network), Capture(task.network) as capture:
        for batch in task.images.batches(rows, task.view.training.step_size):
            one = capture.with_logits(task.to_network(task.to_device(batch)))
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
        for batch in task.images.batches(rows, task.view.training.step_size):
            one = capture.with_logits(task.to_network(task.to_device(batch)))
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
