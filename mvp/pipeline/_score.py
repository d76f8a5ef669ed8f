"""`mvp score`: probabilities for a table of studies, extracting only what is missing."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mvp.data.tables.ids import RefusedRow
from mvp.data.tables.manifest import Manifest, Problem, manifest_parts
from mvp.errors import REJECTED_EXIT_CODE, ConfigError
from mvp.features import FeatureTable
from mvp.pipeline.decisions import warn_of_other_decisions
from mvp.pipeline.drift import DriftWatch, drift_lines
from mvp.pipeline.heads import SavedHead, load_head, require_current_reading
from mvp.pipeline.parts_ahead import one_processor_left, parts_ahead
from mvp.pipeline.project import Project
from mvp.pipeline.recording import Reject, recording, rejects_writer
from mvp.pipeline.scoring import ScoredPart, Scorer
from mvp.pipeline.seen import SeenStudies, require_together
from mvp.pipeline.workspace import FOLD
from mvp.stages.score import RowWriter, require_table_name, score, table_writer
from mvp.statistics.drift_report import DriftReport

log = logging.getLogger("mvp")
# Rejects that an outcome holds; the reject table has all of them.
MOST_HELD = 10_000


@dataclass
class ScoreOutcome:
    """How many studies were scored; every other one is in the reject table.

    `rejects` are the first of the `rejected` rows of that table.
    """

    head: str
    digest: str
    out: str
    studies: int = 0
    scored: int = 0
    forward_passes: int = 0
    cached: int = 0
    rejects: list[Reject] = field(default_factory=list)
    rejected: int = 0
    rejected_images: int = 0
    rejected_studies: int = 0
    reject_table: str | None = None
    drift: dict[str, DriftReport] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """0, or 4 when images or studies were rejected."""
        return REJECTED_EXIT_CODE if self.rejected else 0

    def to_json(self) -> dict[str, Any]:
        """The outcome as plain values."""
        return {
            "head": self.head,
            "digest": self.digest,
            "out": self.out,
            "studies": self.studies,
            "scored": self.scored,
            "rejected_studies": self.rejected_studies,
            "rejected": self.rejected,
            "forward_passes": self.forward_passes,
            "cached": self.cached,
            "reject_table": self.reject_table,
            "drift": {fold: report.to_json() for fold, report in self.drift.items()},
        }

    @property
    def text(self) -> str:
        """For a person."""
        lines = [
            f"{self.scored} of {self.studies} studies scored with head {self.head}: {self.out}",
            f"{self.forward_passes} forward passes, {self.cached} images from the cache",
        ]
        if self.rejected:
            lines.append(
                f"{self.rejected_studies} studies and {self.rejected_images} images rejected: "
                f"{self.reject_table}"
            )
        lines += self.drift_lines
        return "\n".join(lines)

    @property
    def drift_lines(self) -> list[str]:
        """How far the features lie from training; of folds those of the first, `drift` has all."""
        if not self.scored:
            return []
        fold, report = next(iter(self.drift.items()))
        of = "" if fold == FOLD else f" ({fold})"
        return [f"drift{of}: {line}" for line in drift_lines(report)]


def run_score(
    table: str | Path,
    workspace: str | Path = ".",
    out: str | Path | None = None,
    *,
    head: str | None = None,
    root: str | Path | None = None,
    cached_only: bool = False,
    progress: bool = True,
) -> ScoreOutcome:
    """Score the studies of a table that has the columns of the workspace's own.

    Args:
        table: CSV or Parquet; labels and patients may be absent.
        workspace: its folder.
        out: `.csv` or `.parquet`; default: `scores/<table>.csv` in the workspace.
        head: the head's name; default: the one of mvp.toml's learner, or the only one.
        root: where the table's paths start; default: data.root.
        cached_only: open no image; studies whose features are not stored are rejected.
        progress: show bars.
    """
    project = Project(workspace, progress=progress)
    source = Path(table)
    target = Path(out) if out else project.workspace.scores / f"{source.stem}.csv"
    rejected = target.with_name(f"{target.stem}.rejected.csv")
    if source.resolve() in (target.resolve(), rejected.resolve()):
        raise ConfigError(
            "the scores or their reject table would overwrite the table",
            path=source,
            remedy="name another --out",
        )
    require_table_name(target)
    base = Path(root) if root is not None else None
    with recording(project.workspace, "score"):
        saved = load_head(project, head)
        warn_of_other_decisions(project.config.head, saved.name, saved.provenance)
        require_current_reading(project, saved)
        outcome = ScoreOutcome(saved.name, saved.digest, str(target))
        run = _Run(project, saved, outcome, source, base, cached_only)
        with (
            _rejects(rejected, outcome) as rejects,
            table_writer(target, saved.decisions) as writer,
        ):
            run.score(writer, rejects)
        if outcome.rejected:
            outcome.reject_table = str(rejected)
        log.info(
            "score: %d of %d studies, %d forward passes, head %s",
            outcome.scored,
            outcome.studies,
            outcome.forward_passes,
            outcome.digest,
        )
        for line in outcome.drift_lines:
            log.info(line)
    return outcome


class _Rejects:
    """Writes and counts rejects; the table is begun with the first of them."""

    def __init__(self, path: Path, outcome: ScoreOutcome, stack: ExitStack) -> None:
        self._path, self._outcome, self._stack = path, outcome, stack
        self._write: Any = None

    def add(self, rejects: list[Reject]) -> None:
        if rejects and self._write is None:
            self._write = self._stack.enter_context(rejects_writer(self._path))
        if rejects:
            self._write(rejects)
        outcome = self._outcome
        outcome.rejects += rejects[: max(0, MOST_HELD - len(outcome.rejects))]
        outcome.rejected += len(rejects)
        outcome.rejected_images += sum(bool(reject.path) for reject in rejects)


@contextmanager
def _rejects(path: Path, outcome: ScoreOutcome) -> Iterator[_Rejects]:
    """A reject table that appears at the end, if anything was rejected."""
    with ExitStack() as stack:
        yield _Rejects(path, outcome, stack)
        if not outcome.rejected:
            path.unlink(missing_ok=True)  # an earlier run's rejects are not this one's


class _Run:
    """One scoring of one table, part by part."""

    def __init__(
        self,
        project: Project,
        saved: SavedHead,
        outcome: ScoreOutcome,
        source: Path,
        root: Path | None,
        cached_only: bool,
    ) -> None:
        self._project, self._saved, self._outcome = project, saved, outcome
        self._source, self._root, self._cached_only = source, root, cached_only
        self._told: set[str] = set()
        self._again: dict[str, int] = {}
        self._imported: dict[str, int] = {}
        self._lost: set[str] = set()
        self._drift = DriftWatch(saved.drift)

    def score(self, writer: RowWriter, rejects: _Rejects) -> None:
        """Score all parts; nothing is published when a study stands in two of them."""
        project, outcome = self._project, self._outcome
        scorer: Scorer | None = None
        opened: Scorer | None = None
        parts = 0
        found = manifest_parts(project.config, project.workspace.folder, self._source, self._root)
        with (
            SeenStudies(Path(outcome.out).parent) as seen,
            closing(parts_ahead(found, lambda: opened)) as ahead,
        ):
            for manifest, features in ahead:
                if not isinstance(manifest, Manifest):
                    rejects.add([_refused(row) for row in manifest])
                    self._lost |= {row.study for row in manifest}
                    continue
                self._tell(manifest.problems)
                if scorer is None:  # what is wrong with the table is said first
                    scorer = Scorer(project, self._saved, self._root, self._cached_only)
                part = scorer.part(manifest) if features is None else features.result()
                opened = scorer
                self._count(manifest, part)
                seen.add(manifest.studies)
                self._write(scorer, manifest, part, writer, rejects)
                parts += 1
            if parts > 1:
                require_together(project.config, self._source, seen)
        outcome.studies += len(self._lost)
        outcome.rejected_studies += len(self._lost)
        outcome.drift = self._drift.reports()
        self._tell_all()

    def _write(
        self,
        scorer: Scorer,
        manifest: Manifest,
        part: ScoredPart,
        writer: RowWriter,
        rejects: _Rejects,
    ) -> None:
        outcome, saved = self._outcome, self._saved
        self._drift.expect(len(manifest))

        def measured(tables: Mapping[str, FeatureTable]) -> None:
            self._drift.add(tables)
            scorer.let_go()

        with one_processor_left():
            done, unseen = score(
                saved.ensemble, saved.decisions, part.tables, writer, each=measured
            )
        outcome.scored += done
        outcome.studies += len(manifest)
        outcome.rejected_studies += len(unseen)
        reason = "the study has no readable image of any of the head's views"
        if scorer.imported:
            reason += f" and no imported features ({', '.join(scorer.imported)})"
        rejects.add([*part.rejects, *(Reject(study, "", "", "", reason) for study in unseen)])

    def _count(self, manifest: Manifest, part: ScoredPart) -> None:
        self._outcome.forward_passes += part.forward_passes
        self._outcome.cached += part.cached
        if manifest.refused:
            self._lost |= {row.study for row in manifest.refused} - set(manifest.studies)
        for view, here in part.imported.items():
            self._imported[view] = self._imported.get(view, 0) + here

    def _tell(self, problems: tuple[Problem, ...]) -> None:
        """Log what is wrong with a part, of every kind once; the rest is counted."""
        kinds = set(self._told)
        for problem in problems:
            if problem.kind in kinds:
                self._again[problem.kind] = self._again.get(problem.kind, 0) + problem.count
            else:
                self._told.add(problem.kind)
                log.warning(problem.text)

    def _tell_all(self) -> None:
        for kind, count in self._again.items():
            log.warning("%s: %d more further down in the table", kind, count)
        for view, here in self._imported.items():
            total = self._outcome.studies - len(self._lost)
            log.info("%s: %d of %d studies have imported features", view, here, total)


def _refused(row: RefusedRow) -> Reject:
    return Reject(row.study, "", "", str(row.line), row.reason)
