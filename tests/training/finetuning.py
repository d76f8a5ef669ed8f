"""A small fine-tuning for the tests; run as a script, it is one that can be killed."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mvp.config import (
    AugmentConfig,
    NetworkConfig,
    ResolvedView,
    TrainingConfig,
    TransformConfig,
)
from mvp.data.augment import Augmentation
from mvp.stages.finetune import finetune
from mvp.types import Labels, Target

ROWS, SIZE = 49, 16
TRAIN, INNER = np.arange(33), np.arange(33, ROWS)


class Images:
    """Images in memory that counts what it gives, and may be slow."""

    counts = None

    def __init__(self, pixels, pause=0.0):
        self.pixels, self.pause, self.asked = pixels, pause, []

    def batches(self, order, size):
        for start in range(0, len(order), size):
            time.sleep(self.pause)
            rows = order[start : start + size]
            self.asked.extend(rows.tolist())
            yield self.pixels[torch.from_numpy(rows)]

    def augment(self, batch, seeds, counts):
        return Augmentation(AugmentConfig())(batch, seeds, counts)

    def finish(self, batch, channels=3):
        return ((batch - 0.5) / 0.25).expand(-1, channels, -1, -1)


class Net(nn.Module):
    """Convolution, batch norm, dropout, classifier: everything that a resumed run can get wrong."""

    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(3, 8, 5, padding=2)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.2)
        self.fc = nn.Linear(8, 2)

    def forward(self, x):
        return self.fc(self.drop(self.norm(self.body(x)).relu().amax((2, 3))))


def net():
    return Net()


def data(seed=0):
    """Rows with a bright block wherever the first label holds; the second is the same, hidden."""
    chance = np.random.default_rng(seed)
    first = (np.arange(ROWS) % 3 == 0).astype(np.float32)
    pixels = chance.random((ROWS, 1, SIZE, SIZE), dtype=np.float32) * 0.4
    pixels[first == 1, :, 5:10, 5:10] += 0.5
    second = np.where(chance.random(ROWS) < 0.5, np.nan, first).astype(np.float32)
    return torch.from_numpy(pixels), np.stack([first, second], axis=1)


def view(name="finetuning:net", weights="none", **training):
    settings = {"epochs": 3, "head_epochs": 3, "batch_size": 8, **training}
    return ResolvedView(
        name="frontal",
        source="frontal",
        images="all",
        labels=("a", "b"),
        network=NetworkConfig(name=name, weights=weights),
        transform=TransformConfig(size=SIZE),
        training=TrainingConfig(**settings),
        augment=AugmentConfig(),
    )


def labels(values):
    return Labels((Target("a"), Target("b")), values)


def train(folder, settings=None, images=None, values=None, **changes):
    pixels, truth = data()
    arguments = {
        "train": TRAIN,
        "inner": INNER,
        "seed": 3,
        "device": torch.device("cpu"),
        "progress": False,
        **changes,
    }
    return finetune(
        settings or view(),
        images or Images(pixels),
        labels(truth if values is None else values),
        folder=Path(folder),
        **arguments,
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    own = view(**json.loads(sys.argv[3]))
    train(sys.argv[1], own, images=Images(data()[0], pause=float(sys.argv[2])))
