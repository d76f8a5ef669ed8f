"""`mvp next-view`: which view that a study lacks would most likely change its decisions."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mvp.data.tables.manifest import Manifest, manifest_parts
from mvp.errors import REJECTED_EXIT_CODE, ConfigError, DataError
from mvp.features import FeatureTable
from mvp.files import replacing, safe_cell
from mvp.learners.comparison import HeadFamily
from mvp.learners.ensemble import Ensemble, HeadRows
from mvp.pipeline.decisions import warn_of_other_decisions
from mvp.pipeline.heads import (
    SavedHead,
    load_head,
    require_current_keys,
    require_current_reading,
    require_same_labels,
)
from mvp.pipeline.project import Project
from mvp.pipeline.recording import Reject, Run, recording
from mvp.pipeline.scoring import Scorer
from mvp.pipeline.stage_two import head_rows
from mvp.reports.tables import grid, number
from mvp.stages._hidden import reference_of
from mvp.stages.next_view import LEAST, NextViews, next_views
from mvp.types import FloatArray, Target, TextArray

log = logging.getLogger("mvp")
COLUMNS = (
    "study", "label", "call", "next_view", "flips", "low", "high", "rests_on", "held_out",
)  # fmt: skip


@dataclass
class NextViewOutcome:
    """How many studies lack a view, and what the views would change."""

    head: str
    out: str
    studies: int = 0
    lacking: int = 0
    without_views: int = 0
    unknown: int = 0
    summary: list[dict[str, Any]] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    reject_table: str | None = None

    @property
    def exit_code(self) -> int:
        """0, or 4 when images or studies were rejected."""
        return REJECTED_EXIT_CODE if self.rejects else 0

    def to_json(self) -> dict[str, Any]:
        """The outcome as plain values."""
        return {
            "head": self.head,
            "out": self.out,
            "studies": self.studies,
            "lacking": self.lacking,
            "without_views": self.without_views,
            "unknown": self.unknown,
            "summary": self.summary,
            "rejected": len(self.rejects),
            "reject_table": self.reject_table,
        }

    @property
    def text(self) -> str:
        """For a person."""
        lines = [
            f"{self.lacking} of {self.studies} studies lack a view of head {self.head}; for each "
            f"and each label the one most likely to change the decision: {self.out}"
        ]
        if self.summary:
            table = [["label", "next view", "studies", "mean share of flips", "at least 0.2"]]
            table += [
                [r["label"], r["view"], str(r["studies"]), number(r["flips"]), str(r["many"])]
                for r in self.summary
            ]
            lines += ["", grid(table), ""]
        if self.unknown:
            lines.append(
                f"{self.unknown} decisions have fewer than 10 similar studies with the missing "
                "view: nothing is said of them"
            )
        if self.without_views:
            lines.append(
                f"{self.without_views} studies have none of the views: nothing is decided of them"
            )
        if self.rejects:
            lines.append(f"{len(self.rejects)} rejected: {self.reject_table}")
        return "\n".join(lines)


def run_next_view(
    workspace: str | Path = ".",
    table: str | Path | None = None,
    *,
    head: str | None = None,
    root: str | Path | None = None,
    neighbours: int | None = None,
    progress: bool = True,
) -> NextViewOutcome:
    """Say of every study that lacks a view which one would most likely change its decisions.

    Args:
        workspace: its folder.
        table: studies, as `score` takes them; default: the test studies of the workspace.
        head: the head's name; default: the one of mvp.toml's learner, or the only one.
        root: where the table's paths start; default: data.root.
        neighbours: how many similar studies an estimate rests on, at least 10; default: 30, more
            where there are many.
        progress: show bars.
    """
    if neighbours is not None and neighbours < LEAST:
        raise ConfigError(
            f"a share of {neighbours} studies tells nothing",
            remedy=f"take {LEAST} neighbours or more",
        )
    if root is not None and table is None:
        raise ConfigError("--root has no meaning without a table", remedy="leave it away")
    project = Project(workspace, progress=progress)
    with recording(project.workspace, "next-view") as run:
        saved = load_head(project, head)
        warn_of_other_decisions(project.config.head, saved.name, saved.provenance)
        require_current_reading(project, saved)
        require_same_labels(project, saved)
        views = saved.ensemble.views
        if len(views) < 2:
            raise ConfigError(
                f"the head {saved.name!r} knows one view, and a study without it is not scored",
                remedy="name a head of several views with --head",
            )
        rows, keys = head_rows(
            project,
            list(views),
            saved.provenance["protocol"],
            joint=saved.on_joint,
            ablation=False,
        )
        require_current_keys(saved, keys)
        asking = _Asking(saved, rows, neighbours)
        outcome = NextViewOutcome(saved.name, str(run.folder / "next-view.csv"))
        with asking.writing(outcome) as take:
            if table is None:
                take({fold: one.table.select(one.roles["test"]) for fold, one in rows.items()})
            else:
                base = Path(root) if root is not None else None
                for tables in _parts(project, saved, Path(table), base, outcome.rejects):
                    take(tables)
        _publish_rejects(run, outcome)
        log.info("next-view: %d of %d studies lack a view", outcome.lacking, outcome.studies)
    return outcome


class _Asking:
    """Asks a head with views hidden, and writes what that says of studies."""

    def __init__(
        self, saved: SavedHead, rows: Mapping[str, HeadRows], neighbours: int | None
    ) -> None:
        self._saved, self._neighbours = saved, neighbours
        # Of the heads the fusion alone is asked.
        fusions = {f: HeadFamily(one.fusion, {}) for f, one in saved.ensemble.members.items()}
        self._ensemble = Ensemble(fusions)
        labels = saved.decisions.labels
        self._targets: tuple[Target, ...] = tuple(label.target for label in labels)
        self._thresholds = [
            0.5 if one.threshold is None or one.threshold.value is None else one.threshold.value
            for one in labels
        ]
        self._reference = reference_of(self._ensemble, rows, saved.decisions.calibrated)

    def said(self, tables: Mapping[str, FeatureTable]) -> FloatArray:
        """(study, output) calibrated probabilities of some studies."""
        return self._saved.decisions.calibrated(self._ensemble.fused(tables))

    @property
    def views(self) -> tuple[str, ...]:
        """Of the head."""
        return self._ensemble.views

    @contextmanager
    def writing(self, outcome: NextViewOutcome) -> Iterator[Any]:
        """Give what takes studies and writes their rows; the table appears whole."""
        tally: dict[tuple[int, int], list[float]] = {}
        path = Path(outcome.out)
        with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(COLUMNS)

            def take(tables: Mapping[str, FeatureTable]) -> None:
                first = next(iter(tables.values())).only(self.views)
                some = first.presence.any(axis=1)
                lacking = np.flatnonzero(some & ~first.presence.all(axis=1))
                outcome.studies += len(first)
                outcome.lacking += len(lacking)
                outcome.without_views += int((~some).sum())
                if not len(lacking):
                    return
                part = {fold: table.select(lacking) for fold, table in tables.items()}
                found = next_views(
                    self._reference,
                    first.presence[lacking],
                    self.said(part),
                    self._targets,
                    self._thresholds,
                    neighbours=self._neighbours,
                )
                writer.writerows(self._cells(found, first.studies[lacking], outcome, tally))

            yield take
        outcome.summary = [
            {
                "label": self._targets[label].name,
                "view": self.views[view],
                "studies": len(shares),
                "flips": float(np.mean(shares)),
                "many": int(np.sum(np.array(shares) >= 0.2)),
            }
            for (label, view), shares in sorted(tally.items())
        ]

    def _cells(
        self,
        found: NextViews,
        studies: TextArray,
        outcome: NextViewOutcome,
        tally: dict[tuple[int, int], list[float]],
    ) -> Iterator[list[Any]]:
        best = found.best()
        for i, study in enumerate(studies):
            for label, target in enumerate(self._targets):
                call, view = int(found.calls[i, label]), int(best[i, label])
                said = target.classes[call] if target.multiclass else str(call)
                row = [safe_cell(str(study)), safe_cell(target.name), safe_cell(said)]
                if view < 0:
                    outcome.unknown += 1
                    yield [*row, *[""] * 6]
                    continue
                at = (i, label, view)
                tally.setdefault((label, view), []).append(float(found.flips[at]))
                shares = [f"{one[at]:.4f}" for one in (found.flips, found.low, found.high)]
                clean = "yes" if found.held_out[at] else "no"
                yield [*row, self.views[view], *shares, int(found.rests_on[at]), clean]


def _parts(
    project: Project, saved: SavedHead, table: Path, root: Path | None, rejects: list[Reject]
) -> Iterator[dict[str, FeatureTable]]:
    """The features of a table's studies, as `score` takes them; what is missing is extracted."""
    scorer: Scorer | None = None
    seen: set[str] = set()
    for found in manifest_parts(project.config, project.workspace.folder, table, root):
        if not isinstance(found, Manifest):
            rejects += [Reject(row.study, "", "", str(row.line), row.reason) for row in found]
            continue
        studies = set(map(str, found.studies))
        if twice := sorted(studies & seen):
            raise DataError(
                "the rows of a study stand apart",
                study=twice[0],
                path=table,
                cause="so long a table is read in parts",
                remedy="sort it by study",
            )
        seen |= studies
        scorer = scorer or Scorer(project, saved, root, False)
        part = scorer.part(found)
        rejects += part.rejects
        yield part.tables


def _publish_rejects(run: Run, outcome: NextViewOutcome) -> None:
    if outcome.rejects:
        outcome.reject_table = str(run.write_rejects(outcome.rejects))
