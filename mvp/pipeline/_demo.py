"""`mvp demo`: made data with something to prove, and the whole way on them."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mvp.data.phantoms import write_phantoms
from mvp.errors import ConfigError
from mvp.files import write_bytes
from mvp.pipeline._evaluate import EvaluateOutcome, run_evaluate
from mvp.pipeline._fit_head import run_fit_head
from mvp.pipeline._run import run_all
from mvp.pipeline.workspace import Workspace
from mvp.reports import grid, number, signed, write_csv

log = logging.getLogger("mvp")

STUDIES = 2400
LEARNERS = ("mlp", "xgboost", "logistic")
_MARK = "# Made by `mvp demo`"

DEMO_TOML = f"""{_MARK}: chest phantoms, projected into a frontal and a lateral film.
# tube_misplaced is true when the side of the tube's tip (frontal only) and its depth (lateral
# only) agree: no film alone says anything about it, and no average of two opinions can.
protocol = "holdout"
seed = 0

[data]
table = "data/studies.csv"
root = "data"

[views.frontal]
aliases = ["PA"]

[views.lateral]
aliases = ["LL"]

[labels.enlarged_heart]
[labels.apical_nodule]
[labels.retrocardiac_nodule]
[labels.tube_side]
[labels.tube_depth]
[labels.tube_misplaced]

[split]
test = 0.25
stage2 = 0.3

[network]
name = "small"

[transform]
size = 64

[training]
epochs = 20
learning_rate = 4e-3

[augment]
rotate = 3.0
shift = 0.03
scale = 0.03
brightness = 0.05
contrast = 0.05

[head]
learner = "mlp"
"""


@dataclass
class DemoOutcome:
    """Where the demo lies, and what came out."""

    folder: str
    table: str
    evaluations: dict[str, EvaluateOutcome] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    results: str | None = None
    exit_code: int = 0

    def to_json(self) -> dict[str, Any]:
        """The outcome as plain values."""
        return {
            "folder": self.folder,
            "table": self.table,
            "seconds": self.seconds,
            "results": self.results,
            "evaluations": {name: e.to_json() for name, e in self.evaluations.items()},
        }

    @property
    def text(self) -> str:
        """For a person: the project in one table."""
        if not self.evaluations:
            return f"data: {self.table}\nworkspace: {self.folder}; go on with `mvp run`"
        first = next(iter(self.evaluations.values()))
        spent = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in self.seconds.items())
        return "\n".join(
            [
                f"Test AUROC on {first.evaluation.studies} studies: each film alone and the mean "
                "of their probabilities (mlp heads),",
                "then the fusion of both films' features by three learners; last the paired gain "
                "of the mlp fusion.",
                "",
                grid(self.rows()),
                "",
                f"time: {spent}",
                f"results: {self.results}",
                f"report: {Path(first.folder) / 'report.html'}",
            ]
        )

    def rows(self) -> list[list[str]]:
        """The comparison table, a heading row first."""
        first = next(iter(self.evaluations.values()))
        cells = {
            (learner, row["label"], row["model"]): row
            for learner, outcome in self.evaluations.items()
            for row in outcome.evaluation.records()
        }
        gains = {
            row["label"]: row
            for row in first.evaluation.difference_records()
            if row["other"] != "mean"
        }
        base = next(iter(self.evaluations))
        alone = list(dict.fromkeys(m for _, _, m in cells if m != "fusion"))
        head = ["label", *alone, *self.evaluations, f"gain of {base} over the best film"]
        rows = [head]
        for label in dict.fromkeys(label for _, label, _ in cells):
            row = [label, *(number(cells[base, label, m]["auroc"]) for m in alone)]
            row += [number(cells[name, label, "fusion"]["auroc"]) for name in self.evaluations]
            gain = gains.get(label)
            if gain is None or gain["difference"] is None:
                row.append("undefined")
            else:
                row.append(f"{signed(gain)} vs {gain['other']}")
            rows.append(row)
        return rows


def run_demo(
    folder: str | Path = "mvp-demo",
    *,
    data_only: bool = False,
    studies: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> DemoOutcome:
    """Make chest phantoms and a workspace in a folder, and walk the whole way.

    Args:
        folder: new, or that of an earlier demo, which then goes on where it was.
        data_only: stop after the data and `mvp.toml` are made.
        studies: how many; default 2,400.
        seed: of the data.
        progress: show bars.
    """
    place = Workspace(Path(folder))
    _require_own(place)
    outcome = DemoOutcome(str(place.folder), "")
    started = time.perf_counter()
    count = STUDIES if studies is None else studies
    log.info("making %d studies in %s", count, place.folder)
    outcome.table = str(write_phantoms(place.folder / "data", count, seed))
    if not place.config.exists():
        write_bytes(place.config, DEMO_TOML.encode())
    outcome.seconds["making data"] = time.perf_counter() - started
    if data_only:
        return outcome
    for learner in LEARNERS:
        before = time.perf_counter()
        if learner == LEARNERS[0]:
            done = run_all(place.folder, learner=learner, progress=progress).evaluation
            evaluation = done or run_evaluate(place.folder, learner, progress=progress)
            name = f"both networks, their features, {learner}"
        else:
            run_fit_head(place.folder, learner, progress=progress)
            evaluation = run_evaluate(place.folder, learner, progress=progress)
            name = learner
        outcome.evaluations[learner] = evaluation
        outcome.seconds[name] = time.perf_counter() - before
    path = place.folder / "comparison.csv"
    head, *rows = outcome.rows()
    write_csv(path, [dict(zip(head, row, strict=True)) for row in rows])
    outcome.results = str(path)
    return outcome


def _require_own(place: Workspace) -> None:
    """A demo never writes into a folder that holds something else."""
    if place.config.exists():
        if place.config.read_text(encoding="utf-8").startswith(_MARK):
            return
    elif not place.folder.exists() or not any(place.folder.iterdir()):
        return
    raise ConfigError(
        "the folder holds something else than a demo",
        path=place.folder,
        remedy="name a new folder: mvp demo FOLDER",
    )
