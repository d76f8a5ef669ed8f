"""Which rows a head may learn from: four protocols on networks that memorise.

Two views of 12 pixels a side show a faint pattern under noise, each with an error of its own; the
second says much less than the first. The networks train far past the point where they know their
own rows by heart, and there the second seems to say as much. A head that is fitted on those rows
(`same-rows`) learns to trust features that say more of the training labels than they ever will of
new ones; `holdout` and `crossfit` fit it on rows that its networks have never seen.

    python examples/optimism.py
    python examples/optimism.py --seeds 2 --folder kept     # keep the workspaces

For every seed there are new images, new networks and new heads, all by the same settings.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import mvp
from mvp.errors import MvpError
from mvp.reports import grid

SIDE = 12
VIEWS = ("first", "second")
# What each view shows of the finding, the error of a view, and the noise of a pixel.
SIGNALS, ERROR, NOISE = {"first": 1.2, "second": 0.5}, 0.6, 40.0
# A tenth of the rows is for early stopping; the networks do without.
INNER = {True: "-inner", False: ""}
MODELS = ("same-rows", "best view", "mean of views", "holdout", "crossfit")
# Differences that the table ends with, each over seeds.
PAIRS = (("best view", "same-rows"), ("holdout", "best view"), ("crossfit", "holdout"))
SETTINGS = """
seed = {seed}

[data]
table = "studies.csv"
root = "images"
split = "part"

[views.first]
[views.second]

[labels.finding]

[split]
folds = {folds}
seed = {seed}

[network]
name = "lenet"

[transform]
size = 12

[training]
epochs = {epochs}
learning_rate = 2e-3
weight_decay = 0.0
monitor = "none"

[augment]
rotate = 0.0
shift = 0.0
scale = 0.0
brightness = 0.0
contrast = 0.0

[extract]
batch_size = 256

[head]
learner = "logistic"
seed = {seed}

[evaluate]
draws = 200
"""


@dataclass(frozen=True)
class Reading:
    """What one seed gave.

    Attributes:
        seed: of data, networks and heads.
        test: for each model the AUROC on test.
        own: for each fusion the AUROC on the rows that it was fitted on.
    """

    seed: int
    test: dict[str, float]
    own: dict[str, float]


@dataclass(frozen=True)
class Result:
    """All seeds, and how long they took.

    Attributes:
        readings: one for each seed.
        seconds: of the whole.
    """

    readings: list[Reading]
    seconds: float

    def of(self, model: str) -> np.ndarray:
        """(seed,) test AUROC of a model."""
        return np.array([r.test[model] for r in self.readings])

    @property
    def text(self) -> str:
        """For a person: a line for each model, then the differences between them."""
        table = [["", "test AUROC", "own rows", "optimism gap"]]
        for model in MODELS:
            own = np.array([r.own.get(model, np.nan) for r in self.readings])
            fitted = not np.isnan(own).any()
            table.append(
                [
                    model,
                    interval(self.of(model)),
                    interval(own) if fitted else "",
                    interval(own - self.of(model)) if fitted else "",
                ]
            )
        gains = [["difference of test AUROC", "mean", "seeds above 0"]]
        for more, less in PAIRS:
            by = self.of(more) - self.of(less)
            gains.append([f"{more} - {less}", interval(by), f"{(by > 0).sum()} of {len(by)}"])
        return (
            f"{len(self.readings)} seeds; mean with 95% interval over seeds (Student's t)\n\n"
            f"{grid(table)}\n\n{grid(gains)}\n\nseconds: {self.seconds:.0f}"
        )


def interval(values: np.ndarray) -> str:
    """A mean with its 95% interval over seeds; without one where there is one seed."""
    from scipy.stats import t

    if len(values) < 2:
        return f"{values.mean():.3f}"
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():.3f} [{values.mean() - half:.3f}, {values.mean() + half:.3f}]"


def write_workspace(
    folder: Path, seed: int, train: int, test: int, folds: int, epochs: int
) -> None:
    """Images, the table with the part of every study, and mvp.toml.

    Args:
        folder: a new one.
        seed: of everything.
        train: studies that are learned from, half of them by the networks of `holdout`.
        test: studies of the test part.
        folds: of crossfit.
        epochs: of every network.
    """
    rng = np.random.default_rng([seed, 11])
    (folder / "images").mkdir(parents=True)
    shown = rng.integers(0, 2, train + test)
    patterns = {view: np.kron(rng.standard_normal((4, 4)), np.ones((3, 3))) for view in VIEWS}
    rows = []
    for number, finding in enumerate(shown):
        name = f"{number:05}"
        part = "test" if number >= train else f"stage{1 + number % 2}{INNER[number % 20 < 2]}"
        for view in VIEWS:
            strength = (finding - 0.5) * SIGNALS[view] + rng.standard_normal() * ERROR
            picture = (
                128 + 12 * strength * patterns[view] + NOISE * rng.standard_normal((SIDE,) * 2)
            )
            path = f"{name}-{view}.png"
            pixels = np.clip(picture, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "images" / path, compress_level=1)
            rows.append([name, name, view, path, finding, part])
    with (folder / "studies.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["study", "patient", "view", "path", "finding", "part"])
        writer.writerows(rows)
    settings = SETTINGS.format(seed=seed, folds=folds, epochs=epochs)
    (folder / "mvp.toml").write_text(settings, encoding="utf-8")


def read_seed(folder: Path, seed: int, *, progress: bool = True) -> Reading:
    """Walk the whole way under `holdout`, with its ablation, and under `crossfit`.

    Args:
        folder: a workspace by `write_workspace`.
        seed: for the record.
        progress: show bars.
    """
    mvp.finetune(folder, progress=progress)
    mvp.finetune(folder, folds=folds_of(folder), progress=progress)
    mvp.extract(folder, progress=progress)
    mvp.extract(folder, folds=True, progress=progress)
    test: dict[str, float] = {}
    own: dict[str, float] = {}
    for protocol in ("holdout", "crossfit"):
        mvp.fit_head(folder, protocol=protocol, name=protocol, progress=progress)
        said = mvp.evaluate(folder, protocol, progress=progress).evaluation
        areas = {row.model: row.auroc for row in said.metrics}
        test[protocol] = areas["fusion"]
        for row in said.optimism:
            name = protocol if row.model == "fusion" else row.model
            own[name] = row.own
            test[name] = row.test
        if protocol == "holdout":
            # Chosen on test, which favours what the fusion has to beat.
            test["best view"] = max(areas[view] for view in VIEWS)
            test["mean of views"] = areas["mean"]
    return Reading(seed, test, own)


def folds_of(folder: Path) -> int:
    """How many folds a workspace's settings ask for."""
    import tomllib

    return int(tomllib.loads((folder / "mvp.toml").read_text(encoding="utf-8"))["split"]["folds"])


def measure(
    folder: Path,
    seeds: Sequence[int] = range(10),
    train: int = 300,
    test: int = 1500,
    folds: int = 5,
    epochs: int = 30,
    *,
    progress: bool = True,
) -> Result:
    """A workspace for every seed, each the whole way.

    Args:
        folder: a new or empty one.
        seeds: which.
        train: studies that are learned from.
        test: studies of the test part.
        folds: of crossfit.
        epochs: of every network.
        progress: show bars.
    """
    started = time.monotonic()
    readings = []
    for seed in seeds:
        place = folder / f"seed-{seed}"
        write_workspace(place, seed, train, test, folds, epochs)
        readings.append(read_seed(place, seed, progress=progress))
    return Result(readings, time.monotonic() - started)


def main() -> None:
    """Read the options, measure, and print the table."""
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    options.add_argument("--seeds", type=int, default=10, help="how many (default: 10)")
    options.add_argument("--train", type=int, default=300, help="studies to learn from")
    options.add_argument("--test", type=int, default=1500, help="studies of the test part")
    options.add_argument("--folds", type=int, default=5, help="of crossfit (default: 5)")
    options.add_argument("--epochs", type=int, default=30, help="of every network (default: 30)")
    options.add_argument("--folder", type=Path, help="a new folder that is kept")
    chosen = options.parse_args()
    if (
        min(chosen.seeds, chosen.epochs) < 1
        or chosen.folds < 2
        or min(chosen.train, chosen.test) < 40
    ):
        options.error("--seeds and --epochs from 1, --folds from 2, --train and --test from 40")
    if chosen.folder is not None and chosen.folder.exists():
        options.error(f"{chosen.folder} exists; name a new folder")
    with tempfile.TemporaryDirectory() as temporary:
        place = chosen.folder or Path(temporary)
        try:
            result = measure(
                place, range(chosen.seeds), chosen.train, chosen.test, chosen.folds, chosen.epochs
            )
        except MvpError as error:
            sys.exit(f"{Path(__file__).name}: {error}")
    print(result.text)


if __name__ == "__main__":
    main()
