"""A made MRNet: three planes of 17 to 61 slices, and three labels of which a few slices tell."""

import numpy as np
from torch import nn

from tests.pipeline.conftest import edit

PLANES = ("axial", "coronal", "sagittal")
# Every finding shows in one plane only.
SHOWN = {"abnormal": "axial", "acl": "sagittal", "meniscus": "coronal"}
SHARES = {"abnormal": 0.6, "acl": 0.3, "meniscus": 0.4}
SIDE = 64
WITHOUT = {("train", "0002", "coronal"), ("valid", "0105", "sagittal")}


def tiny(num_classes=1000):
    """Two convolutions, and the strongest place of each channel."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=2, padding=2),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(16, num_classes),
    )


def write_mrnet(folder, train, valid, deepest=61, seed=0):
    """The folder as it is published; gives the labels of every part by id."""
    chance = np.random.default_rng(seed)
    labels = {}
    for part, first, number in (("train", 0, train), ("valid", 100, valid)):
        ids = [f"{i:04}" for i in range(first, first + number)]
        labels[part] = {i: {n: int(chance.random() < s) for n, s in SHARES.items()} for i in ids}
        for name in SHARES:
            lines = [f"{i},{labels[part][i][name]}\n" for i in ids]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{part}-{name}.csv").write_text("".join(lines))
        for plane in PLANES:
            (folder / part / plane).mkdir(parents=True)
            finding = next(n for n, p in SHOWN.items() if p == plane)
            for place, i in enumerate(ids):
                slices = (
                    (17, deepest)[place]
                    if place < 2
                    else int(chance.integers(17, min(deepest, 25)))
                )
                if (part, i, plane) not in WITHOUT:
                    stack = _volume(chance, slices, bool(labels[part][i][finding]))
                    np.save(folder / part / plane / f"{i}.npy", stack)
    return labels


def _volume(chance, slices, positive):
    """Faint blocks in any number of slices mean nothing; a bright one in one slice means it."""
    stack = chance.integers(0, 60, (slices, SIDE, SIDE), np.uint8)
    amplitude = chance.integers(0, 130, slices) * (chance.random(slices) < chance.random())
    if positive:
        amplitude[chance.integers(slices)] = 180
    for number in np.flatnonzero(amplitude):
        y, x = chance.integers(8, SIDE - 24, 2)
        stack[number, y : y + 16, x : x + 16] += np.uint8(amplitude[number])
    return stack


def made_workspace(command, folder, train, valid, deepest=61):
    """What `mvp import mrnet` writes of a made MRNet; gives the labels."""
    labels = write_mrnet(folder / "MRNet-v1.0", train, valid, deepest)
    code, _, err = command("import", "mrnet", folder / "MRNet-v1.0", "--out", folder)
    assert code == 0, err
    return labels


def smaller(folder, how="max"):
    """The imported settings with a small network instead of AlexNet."""
    edit(folder, 'name = "alexnet"', 'name = "tests.pipeline.knees:tiny"')
    edit(folder, 'weights = "DEFAULT"', 'weights = "none"')
    edit(folder, "size = 224", "size = 32")
    edit(folder, 'slices = "max"', f'slices = "{how}"')
