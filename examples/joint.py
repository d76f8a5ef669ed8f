"""The joint network beside the two stages: what it gains, and what it costs, on made data.

First the demo's chest phantoms: two films of one chest, and a finding that only both together
show. Then animals with one photograph each, which several bodies look at: weights as they were
published, networks trained on breed and species, copies of one, or one for each label. Every
system is measured joined (two stages, an MLP head) and joined and trained on (`finetune-joint`).

    python examples/joint.py
    python examples/joint.py --small --folder joint       # quick, and keep the workspaces
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import mvp
from mvp.errors import MvpError
from mvp.pipeline._demo import DEMO_TOML
from mvp.pipeline._evaluate import EvaluateOutcome
from mvp.reports import grid, signed, with_interval
from mvp.stages.compare import Comparison

if __package__:
    from examples import variants
else:
    import variants

HEAD = {"epochs": 100, "hidden": 64, "layers": 1}
JOINT = """
[joint]
head = "mlp"

[joint.training]
epochs = {epochs}
learning_rate = 5e-4
"""
BODIES = ("untrained", "bodies", "copies", "hierarchy")


@dataclass(frozen=True)
class Films:
    """What the two stages and the joint network reached on the phantoms, and what they cost.

    Attributes:
        before, after: mean AUROC on validation of the start and of what was kept.
        rows: for each label AUROC of both on test with intervals, and the paired difference.
        seconds: of the two stages, and of the joint training with its features.
        passes: images through networks, of the two stages and of the joint training.
        best_epoch: 0 says that the start was kept.
    """

    before: float
    after: float
    rows: list[list[str]]
    seconds: tuple[float, float]
    passes: tuple[int, int]
    best_epoch: int


@dataclass(frozen=True)
class Animals:
    """One way of making bodies: accuracy of breed and seconds, joined, and joined and trained."""

    title: str
    joined: str
    trained: str
    seconds: tuple[float, float]
    numbers: int


def films(folder: Path, studies: int, epochs: int, joint_epochs: int) -> Films:
    """Two stages and the joint network on the demo's phantoms.

    Args:
        folder: a new one.
        studies: how many.
        epochs: of each view's network.
        joint_epochs: of the joint network, at most.
    """
    mvp.demo(folder, data_only=True, studies=studies, progress=False)
    toml = DEMO_TOML.replace("epochs = 20", f"epochs = {epochs}")
    (folder / "mvp.toml").write_text(toml + JOINT.format(epochs=joint_epochs), encoding="utf-8")
    started = time.monotonic()
    networks = mvp.finetune(folder, progress=False)
    passes = sum(one.images_seen for one in networks.views.values() if one)
    extracted = mvp.extract(folder, progress=False)
    passes += sum(view.forward_passes for view in extracted.views.values())
    mvp.fit_head(folder, "mlp", HEAD, progress=False)
    stages = time.monotonic() - started
    started = time.monotonic()
    joint = mvp.finetune_joint(folder, progress=False)
    seconds = time.monotonic() - started
    # The mean of opinions takes part so that there is something to be fitted.
    found = mvp.compare(
        folder, ["mean"], heads=["mlp", "joint"], subsets="full", shapley=False, progress=False
    )
    one = joint.result
    assert one is not None and one.start_auroc is not None and one.trained.best_auroc is not None
    return Films(
        one.start_auroc,
        one.trained.best_auroc,
        paired(found.comparison),
        (stages, seconds),
        (passes, one.trained.images_seen + one.probe_inputs + joint.forward_passes),
        one.trained.best_epoch,
    )


def paired(found: Comparison) -> list[list[str]]:
    """For each label test AUROC of both heads, and the difference on the same studies."""
    cells = {(row["learner"], row["label"]): row for row in found.records("rows")}
    gaps = {
        (gap["other"].split()[1], gap["label"]): gap
        for gap in found.records("gaps")
        if gap["other"].startswith("head ")
    }
    first = found.winner.learner.removeprefix("head ")
    second = "mlp" if first == "joint" else "joint"
    lines = [["label", "two stages", "joint network", f"{first} minus {second}"]]
    for label in dict.fromkeys(label for _, label in cells):
        both = [cells[f"head {name}", label] for name in ("mlp", "joint")]
        said = [with_interval(row["test"], row["low"], row["high"]) for row in both]
        lines.append([label, *said, signed(gaps[second, label])])
    return lines


def animals(folder: Path, count: int, epochs: int, joint_epochs: int) -> list[Animals]:
    """Bodies of one photograph, joined, and joined and trained on.

    Args:
        folder: a new one.
        count: how many animals.
        epochs: of each body.
        joint_epochs: of the joint network, at most.
    """
    variants.write_animals(folder / "animals", count, variants.LOBES, seed=0)
    variants.publish(folder, count // 2, epochs)
    found: list[Animals] = []
    split: Path | None = None
    for name in BODIES:
        variant = variants.VARIANTS[name]
        place = variants.write_workspace(folder / name, variant, "animals", epochs)
        with (place / "mvp.toml").open("a", encoding="utf-8") as stream:
            stream.write(JOINT.format(epochs=joint_epochs))
        if split is not None:
            shutil.copy(split, place)
        started = time.monotonic()
        mvp.finetune(place, progress=False)
        mvp.extract(place, progress=False)
        mvp.fit_head(place, "mlp", HEAD, progress=False)
        stages = time.monotonic() - started
        split = place / "split.csv"
        started = time.monotonic()
        mvp.finetune_joint(place, progress=False)
        seconds = time.monotonic() - started
        both = [accuracy(mvp.evaluate(place, head, progress=False)) for head in ("mlp", "joint")]
        numbers = variants.different_numbers(place)
        found.append(Animals(variant.title, *both, (stages, seconds), numbers))
    return found


def accuracy(done: EvaluateOutcome) -> str:
    """Accuracy of breed of the fusion, with its interval."""
    rows = done.evaluation.accuracies
    (row,) = (r for r in rows if r.model == "fusion" and r.label == "breed")
    return with_interval(row.accuracy, row.low, row.high)


def films_text(found: Films) -> str:
    """For a person."""
    kept = f"epoch {found.best_epoch}" if found.best_epoch else "the start"
    return "\n".join(
        [
            grid(found.rows),
            f"validation AUROC (mean over labels): {found.before:.3f} at the start, "
            f"{found.after:.3f} of {kept}, which was kept",
            f"two stages: {found.seconds[0]:.0f} s and {found.passes[0]:,} image passes; joint "
            f"training on top: {found.seconds[1]:.0f} s and {found.passes[1]:,}",
        ]
    )


def animals_text(found: list[Animals]) -> str:
    """For a person: a line for each way of making bodies."""
    rows = [["bodies", "joined", "joined and trained", "s", "s more", "weights"]]
    for one in found:
        seconds = [f"{value:.0f}" for value in one.seconds]
        rows.append([one.title, one.joined, one.trained, *seconds, f"{one.numbers:,}"])
    return grid(rows)


def main() -> None:
    """Read the options, measure, and print both tables."""
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    options.add_argument("--small", action="store_true", help="few studies, few epochs")
    options.add_argument("--folder", type=Path, help="a new folder that is kept")
    chosen = options.parse_args()
    if chosen.folder is not None and chosen.folder.exists():
        options.error(f"{chosen.folder} exists; name a new folder")
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.folder or Path(temporary) / "joint"
        folder.mkdir(parents=True)
        try:
            small = chosen.small
            sys.stdout.write("Chest phantoms, test AUROC\n")
            one = films(folder / "films", *((160, 2, 1) if small else (2400, 20, 10)))
            sys.stdout.write(films_text(one) + "\n\nAnimals, accuracy of breed\n")
            sys.stdout.flush()
            every = animals(folder, *((160, 1, 1) if small else (1200, 12, 10)))
            sys.stdout.write(animals_text(every) + "\n")
        except MvpError as error:
            sys.exit(f"{Path(__file__).name}: {error}")


if __name__ == "__main__":
    main()
