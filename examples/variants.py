"""Variants of networks that people argue about, on one split of made animals.

Every animal is photographed from the front and from the side, and has a species, a breed within
it, and now and then a collar. Each variant is a workspace of its own that differs from the others
in a line or two of mvp.toml; all of them have one split and one feature store.

    python examples/variants.py
    python examples/variants.py --small --folder variants     # quick, and keep the workspaces

The "published" weights are those of networks that were trained on other made shapes.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import load_file

import mvp
from mvp.errors import MvpError
from mvp.files import digest_bytes
from mvp.reports import grid, with_interval

SIZE = 32
SPECIES, COATS = ("round", "clover", "four-leaf"), ("striped", "chequered")
# Lobes of the outlines: of the animals, and of the shapes that the published networks saw.
LOBES, OTHER_LOBES = (0, 3, 4), (2, 5, 6)
COMMON = """
[data]
table = "../{data}/table.csv"
root = "../{data}"

[transform]
size = 32

[training]
epochs = {epochs}
learning_rate = 4e-3

[extract]
cache = "../cache"
batch_size = 256

[head]
learner = "logistic"

[labels.species]
kind = "multiclass"
classes = ["round", "clover", "four-leaf"]

[labels.breed]
kind = "multiclass"
classes = ["round striped", "round chequered", "clover striped", "clover chequered",
           "four-leaf striped", "four-leaf chequered"]

[labels.collar]

[network]
name = "small"
"""
TWO_VIEWS = "[views.front]\n[views.side]\n"
START = 'weights = "../published/first.safetensors"\n'
PUBLISHED = 'network = {{weights = "../published/{}.safetensors"}}\n'
FIRST = "[views.front]\n" + PUBLISHED.format("first")
SECOND = '[views.second]\nsource = "front"\n'
OWN_SECOND = SECOND + PUBLISHED.format("second")


@dataclass(frozen=True)
class Variant:
    """One way of making networks.

    Attributes:
        title: for the table.
        views: the tables of views.
        line: what is added to [network], the last table of the common settings.
    """

    title: str
    views: str
    line: str = ""


VARIANTS = {
    "separate": Variant("two views: one network each", TWO_VIEWS, START),
    "stem": Variant('two views: share = "stages.1"', TWO_VIEWS, START + 'share = "stages.1"\n'),
    "all": Variant('two views: share = "all"', TWO_VIEWS, START + 'share = "all"\n'),
    "untrained": Variant(
        "one image, two bodies: published weights only",
        FIRST + 'training = {freeze = "all"}\n' + OWN_SECOND + 'training = {freeze = "all"}\n',
    ),
    "bodies": Variant("one image, two bodies: trained separately", FIRST + OWN_SECOND),
    "copies": Variant(
        "one image, two bodies: one trained, and its copy",
        FIRST + SECOND + 'network = {weights = "view:front"}\ntraining = {freeze = "all"}\n',
    ),
    "hierarchy": Variant(
        "one image, two bodies: one of species, one of breed",
        FIRST + 'labels = ["species"]\n' + OWN_SECOND + 'labels = ["breed"]\n',
    ),
    "tasks": Variant(
        "one image: one network for each label",
        FIRST
        + 'labels = ["species"]\n'
        + OWN_SECOND
        + 'labels = ["breed"]\n'
        + '[views.third]\nsource = "front"\nlabels = ["collar"]\n'
        + PUBLISHED.format("first"),
    ),
    "labels": Variant("one image: all labels in one network", FIRST),
}


@dataclass(frozen=True)
class Reading:
    """What one variant reached on the test animals, and what it cost.

    Attributes:
        variant: its key in `VARIANTS`.
        breed: accuracy of the breed with its interval over animals.
        collar: AUROC of the collar with its interval.
        seconds: of training, features and head.
        numbers: different weights that its networks hold; what is shared or copied counts once.
    """

    variant: str
    breed: str
    collar: str
    seconds: float
    numbers: int


def draw(
    lobes: int, chequered: bool, collar: bool, side: bool, rng: np.random.Generator
) -> np.ndarray:
    """(SIZE, SIZE) uint8: an animal seen from the front, or flatter from the side."""
    down, right = np.mgrid[:SIZE, :SIZE] - SIZE / 2 + rng.uniform(-3, 3, (2, 1, 1))
    stretched = down * (1.6 if side else 1.0)
    angle = np.arctan2(stretched, right) + rng.uniform(0, 2 * np.pi)
    outline = rng.uniform(9, 12) * (1 + 0.22 * np.cos(lobes * angle))
    body = np.hypot(stretched, right) < outline
    wave = np.sin(down * 2 * np.pi / 5 + rng.uniform(0, 6))
    if chequered:
        wave = wave * np.sin(right * 2 * np.pi / 5 + rng.uniform(0, 6)) * 1.4
    picture = 0.4 + body * (0.15 + 0.1 * wave)
    if collar:
        picture = picture + body * (np.abs(down + 4) < 1) * 0.14
    picture = picture + rng.normal(0, 0.13, picture.shape)
    return np.clip(255 * picture, 0, 255).astype(np.uint8)


def write_animals(folder: Path, count: int, lobes: tuple[int, ...], seed: int) -> None:
    """Two photographs of each animal, and a table."""
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(seed)
    with (folder / "table.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["study", "patient", "view", "path", "species", "breed", "collar"])
        for number in range(count):
            kind, coat = rng.integers(len(SPECIES)), rng.integers(len(COATS))
            collar = rng.random() < 0.2
            truths = [SPECIES[kind], f"{SPECIES[kind]} {COATS[coat]}", int(collar)]
            for view in ("front", "side"):
                path = f"images/{number:05}-{view}.png"
                picture = draw(lobes[kind], bool(coat), bool(collar), view == "side", rng)
                Image.fromarray(picture).save(folder / path)
                writer.writerow([number, number, view, path, *truths])


def write_workspace(folder: Path, variant: Variant, data: str, epochs: int) -> Path:
    """A folder with the mvp.toml of one variant."""
    folder.mkdir()
    common = COMMON.format(data=data, epochs=epochs)
    (folder / "mvp.toml").write_text(common + variant.line + variant.views, encoding="utf-8")
    return folder


def publish(folder: Path, count: int, epochs: int) -> None:
    """Two networks of other shapes, as if somebody had published them."""
    write_animals(folder / "elsewhere", count, OTHER_LOBES, seed=1)
    bodies = Variant("", "[views.front]\n" + SECOND)
    place = write_workspace(folder / "elsewhere-networks", bodies, "elsewhere", epochs)
    mvp.finetune(place, progress=False)
    (folder / "published").mkdir()
    for view, name in (("front", "first"), ("second", "second")):
        weights = place / "stage1" / view / "all" / "weights.safetensors"
        shutil.copy(weights, folder / "published" / f"{name}.safetensors")


def different_numbers(workspace: Path) -> int:
    """How many weights the networks of a workspace hold, equal tensors counted once."""
    seen = {}
    for file in workspace.glob("stage1/*/all/weights.safetensors"):
        for name, values in load_file(file).items():
            if not name.endswith("num_batches_tracked"):
                seen[name, digest_bytes(values.tobytes())] = values.size
    return sum(seen.values())


def measure(
    folder: Path, animals: int = 1200, epochs: int = 12, variants: tuple[str, ...] = (*VARIANTS,)
) -> list[Reading]:
    """Make the animals, deal one split, and walk the whole way for every variant.

    Args:
        folder: a new or empty one.
        animals: how many.
        epochs: of every network.
        variants: keys of `VARIANTS`.
    """
    write_animals(folder / "animals", animals, LOBES, seed=0)
    publish(folder, animals // 2, epochs)
    readings = []
    split: Path | None = None
    for name in variants:
        place = write_workspace(folder / name, VARIANTS[name], "animals", epochs)
        if split is not None:
            shutil.copy(split, place)
        started = time.monotonic()
        evaluation = mvp.run(place, progress=False).evaluation.evaluation
        seconds = time.monotonic() - started
        split = place / "split.csv"
        (breed,) = (r for r in evaluation.accuracies if r.model == "fusion" and r.label == "breed")
        (collar,) = (r for r in evaluation.metrics if r.model == "fusion" and r.label == "collar")
        readings.append(
            Reading(
                name,
                with_interval(breed.accuracy, breed.low, breed.high),
                with_interval(collar.auroc, collar.low, collar.high),
                seconds,
                different_numbers(place),
            )
        )
    return readings


def table(readings: list[Reading]) -> str:
    """For a person: a line for each variant."""
    rows = [["variant", "accuracy of breed", "AUROC of collar", "seconds", "weights"]]
    for r in readings:
        title = VARIANTS[r.variant].title
        rows.append([title, r.breed, r.collar, f"{r.seconds:.0f}", f"{r.numbers:,}"])
    return grid(rows)


def main() -> None:
    """Read the options, measure, and print the table."""
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    options.add_argument("--animals", type=int, default=1200, help="how many (default: 1200)")
    options.add_argument("--epochs", type=int, default=12, help="of every network (default: 12)")
    options.add_argument("--small", action="store_true", help="160 animals, one epoch")
    options.add_argument("--folder", type=Path, help="a new folder that is kept")
    chosen = options.parse_args()
    if chosen.animals < 100 or chosen.epochs < 1:
        options.error("--animals is at least 100, --epochs at least 1")
    if chosen.folder is not None and chosen.folder.exists():
        options.error(f"{chosen.folder} exists; name a new folder")
    animals, epochs = (160, 1) if chosen.small else (chosen.animals, chosen.epochs)
    with tempfile.TemporaryDirectory() as temporary:
        try:
            readings = measure(chosen.folder or Path(temporary), animals, epochs)
        except MvpError as error:
            sys.exit(f"{Path(__file__).name}: {error}")
    sys.stdout.write(table(readings) + "\n")


if __name__ == "__main__":
    main()
