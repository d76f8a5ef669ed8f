"""A small joint training for the tests; as a script, it can be killed or be one of several."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mvp.config import AugmentConfig, JointConfig, NetworkConfig, ResolvedView, TransformConfig
from mvp.data.augment import Augmentation
from mvp.errors import MvpError
from mvp.features import table_from_arrays
from mvp.learners.auxiliary import AuxiliaryLearner
from mvp.learners.mlp import MLPLearner
from mvp.networks import Capture, build_view, inference
from mvp.stages.finetune_joint import JointData, JointMember, finetune_joint
from mvp.training.processes import together
from mvp.types import Labels, Target

STUDIES, SIZE = 60, 16
TRAIN, INNER = np.arange(42), np.arange(42, STUDIES)
VIEWS = ("frontal", "lateral")
TARGETS = (Target("a"), Target("b"))
CPU = torch.device("cpu")


class Net(nn.Module):
    """A convolution, batch norm, a classifier; nothing depends on which rows meet in a part."""

    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(3, 8, 5, padding=2)
        self.norm = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 2)

    def forward(self, x):
        return self.fc(self.norm(self.body(x)).relu().amax((2, 3)))


class Plain(Net):
    """Without batch norm."""

    def __init__(self):
        super().__init__()
        self.norm = nn.Identity()


def net():
    return Net()


def plain():
    return Plain()


class Images:
    """Images in memory; several of them a row where `counts` says so."""

    def __init__(self, pixels, counts=None, pause=0.0, stops=None, still=False):
        self.pixels, self.counts, self.pause, self.stops = pixels, counts, pause, stops
        self.still = still

    def batches(self, order, size):
        starts = np.arange(len(self.pixels)) if self.counts is None else None
        if starts is None:
            starts = np.cumsum(self.counts) - self.counts
        counts = np.ones(len(starts), int) if self.counts is None else self.counts
        every = [starts[row] + i for row in order for i in range(counts[row])]
        for start in range(0, len(every), size):
            time.sleep(self.pause)
            if self.stops is not None:
                self.stops -= 1
                if self.stops < 0:
                    raise KeyboardInterrupt
            yield self.pixels[torch.tensor(every[start : start + size])]

    def augment(self, batch, seeds, counts, places=None):
        if self.still:
            return batch
        return Augmentation(AugmentConfig())(batch, seeds, counts, places)

    def finish(self, batch, channels=3):
        return ((batch - 0.5) / 0.25).expand(-1, channels, -1, -1)


def made(seed=0):
    """(study, view) presence, and pixels with a bright block where a label holds.

    Label a is seen in both views, label b on the lateral alone.
    """
    chance = np.random.default_rng(seed)
    truth = np.stack([np.arange(STUDIES) % 2 == 0, np.arange(STUDIES) % 3 == 0], axis=1)
    presence = np.ones((STUDIES, 2), bool)
    presence[np.arange(STUDIES) % 5 == 1, 1] = False
    presence[np.arange(STUDIES) % 7 == 3, 0] = False
    pixels = {}
    for place, view in enumerate(VIEWS):
        own = chance.random((STUDIES, 1, SIZE, SIZE), dtype=np.float32) * 0.4
        own[truth[:, place], :, 4:10, 4:10] += 0.4
        pixels[view] = torch.from_numpy(own)
    values = truth.astype(np.float32)
    values[chance.random(STUDIES) < 0.2, 1] = np.nan
    return pixels, presence, values


def resolved(view, network="jointly:net", **more):
    return ResolvedView(
        name=view,
        source=view,
        images="all",
        labels=("a", "b"),
        network=NetworkConfig(name=network, **more),
        transform=TransformConfig(size=SIZE, color="rgb"),
        training={},
        augment=AugmentConfig(),
    )


def first_weights(view, network, **more):
    torch.manual_seed(VIEWS.index(view))
    return build_view(resolved(view, network, **more), 2)


def members(folder, network="jointly:net", pause=0.0, stops=None, still=False, **more):
    pixels, presence, _ = made()
    found = []
    for place, view in enumerate(VIEWS):
        owner = np.flatnonzero(presence[:, place])
        images = Images(pixels[view][torch.from_numpy(owner)], None, pause, stops, still)
        body = first_weights(view, network, **more)
        settings = resolved(view, network, **more)
        found.append(JointMember(settings, body, True, images, owner, Path(folder) / view))
    return found


def data():
    labels = Labels(TARGETS, made()[2])
    return JointData(labels, TRAIN, INNER, VIEWS, {})


def features(network="jointly:net", **more):
    """The two-stage system's table: what each view's network sees, once."""
    pixels, presence, _ = made()
    blocks = {}
    for place, view in enumerate(VIEWS):
        body = first_weights(view, network, **more)
        with inference(body), Capture(body) as capture:
            seen = capture(Images(None).finish(pixels[view])).numpy()
        seen[~presence[:, place]] = np.nan
        blocks[view] = seen
    return table_from_arrays([f"s{i}" for i in range(STUDIES)], blocks)


def head(learner="mlp", network="jointly:net", layers=1, dropped=0.0, **more):
    """A head of stage two on these features."""
    table, labels = features(network, **more), Labels(TARGETS, made()[2])
    kind = {"mlp": MLPLearner, "auxiliary": AuxiliaryLearner}[learner]
    own = {"hidden": 8, "layers": layers, "dropout": 0.0, "view_dropout": dropped}
    fitted = kind(epochs=20, device="cpu", **own)
    return fitted.fit(
        table.select(TRAIN),
        labels.select(TRAIN),
        validation=(table.select(INNER), labels.select(INNER)),
        seed=0,
    )


def settings(**changes):
    training = {
        "epochs": 2,
        "batch_size": 12,
        "optimizer": "sgd",
        "learning_rate": 0.02,
        "head_learning_rate": 0.02,
        "monitor": "none",
        **changes.pop("training", {}),
    }
    return JointConfig(training=training, **changes)


def train(folder, chosen=None, of=None, start=None, network="jointly:net", **changes):
    folder = Path(folder)
    arguments = {
        "how": "max",
        "start": head(network=network) if start is None else start,
        "table": None,
        "folder": folder / "joint",
        "seed": 3,
        "device": CPU,
        "progress": False,
        **changes,
    }
    return finetune_joint(
        members(folder, network) if of is None else of,
        arguments.pop("data", None) or data(),
        settings=chosen or settings(),
        **arguments,
    )


# In parts only where nothing depends on which rows stand in one together: no batch norm.
EVERY = {
    "norms": {"joint": {"training": {"epochs": 2}}},
    "parts": {
        "joint": {"training": {"epochs": 2, "accumulate": 2}},
        "network": "jointly:plain",
        "layers": 0,
    },
    # Who goes through the joint head depends on the views that are shown.
    "hidden": {
        "joint": {"training": {"epochs": 2, "batch_size": 6}},
        "learner": "auxiliary",
        "view_dropout": 0.3,
    },
}


def main(folder, every, pause):
    """Train one joint network for each of some options, each in a folder of its name."""
    torch.set_num_threads(1)
    with together() as processes:
        train_every(Path(folder), every, pause, processes)


def train_every(folder, every, pause, processes):
    """The same by processes that have met already."""
    for name, options in every.items():
        network, layers = options.get("network", "jointly:net"), options.get("layers", 1)
        learner, dropped = options.get("learner", "mlp"), options.get("view_dropout", 0.0)
        result = train(
            folder / name,
            settings(**options["joint"]),
            members(folder / name, network, pause),
            head(learner, network, layers, dropped),
            network,
            processes=processes,
        )
        one = result.trained
        sys.stdout.write(f"{processes.rank} {name} {one.best_loss!r} {one.images_seen}\n")


if __name__ == "__main__":
    try:
        main(sys.argv[1], json.loads(sys.argv[2]), float(sys.argv[3]))
    except MvpError as error:
        sys.stderr.write(f"mvp: {error}\n")
        sys.exit(1)
