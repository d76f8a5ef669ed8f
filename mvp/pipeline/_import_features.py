"""`mvp import-features`: a table of features from elsewhere becomes a view of its own."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mvp.data.tables.imported import ImportedTable, read_imported
from mvp.errors import REJECTED_EXIT_CODE, ConfigError, DataError, StaleError
from mvp.pipeline.imported import Imported, imported_now, read_import, write_import
from mvp.pipeline.networks import feature_store
from mvp.pipeline.project import Project
from mvp.pipeline.recording import Reject, Run, recording
from mvp.pipeline.toml_view import add_imported_view, require_room_for
from mvp.pipeline.uses import note_uses, present_uses
from mvp.stages.import_features import (
    import_rows,
    imported_key,
    require_fitting,
    row_digests,
)

log = logging.getLogger("mvp")


@dataclass
class ImportOutcome:
    """What became of a table's studies.

    `new`, `changed` and `unchanged` add up to its studies that were imported; `kept` were imported
    before and are not in it. `known` of the workspace's `studies` have the view now, and
    `elsewhere` imported studies are not in the workspace's table: they wait to be scored.
    """

    view: str
    key: str
    features: int
    new: int
    changed: int
    unchanged: int
    kept: int
    known: int
    studies: int
    elsewhere: int
    added_view: bool
    notes: list[str] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    reject_table: str | None = None

    @property
    def exit_code(self) -> int:
        """0, or 4 when studies were rejected."""
        return REJECTED_EXIT_CODE if self.rejects else 0

    def to_json(self) -> dict[str, Any]:
        """The outcome as plain values."""
        return {**self.__dict__, "rejects": len(self.rejects)}

    @property
    def text(self) -> str:
        """For a person."""
        lines = [
            f"{self.view}: {self.new} new, {self.changed} changed, {self.unchanged} unchanged "
            f"studies of {self.features} features" + (f"; {self.kept} kept" if self.kept else ""),
            f"{self.known} of {self.studies} studies of the workspace have this view, "
            f"{self.elsewhere} imported ones are not in its table",
            *self.notes,
        ]
        if self.rejects:
            lines.append(f"{len(self.rejects)} studies rejected: {self.reject_table}")
        return "\n".join(lines)


def run_import_features(
    table: str | Path,
    workspace: str | Path = ".",
    *,
    view: str,
    study: Sequence[str] = (),
    columns: Sequence[str] = (),
    drop: Sequence[str] = (),
    made_by: str | None = None,
    replace: bool = False,
    progress: bool = True,
) -> ImportOutcome:
    """Take a table with a row per study as a view: radiomics, embeddings, clinical values.

    A study that was imported before gets its new numbers; the others stay.

    Args:
        table: CSV, TSV, Parquet, or `.npz` with arrays `studies` and `features`.
        workspace: its folder.
        view: name of the view; added to mvp.toml if it is not there.
        study: columns of the study's id; default: data.study, else `study`.
        columns: the features; default: every column but the id.
        drop: columns that are no features.
        made_by: what gave the numbers, as `radimagenet-1.2`; part of the feature key.
        replace: forget what was imported for the view before.
        progress: no bars are shown; for the sake of one signature for all verbs.
    """
    project = Project(workspace, progress=progress)
    place = project.workspace
    require_room_for(project, view)
    manifest = project.quiet_manifest()
    with recording(place, "import-features") as run:
        before = None if replace else read_import(place, view)
        found = read_imported(Path(table), project.config, study=study, columns=columns, drop=drop)
        rejects = _rejects(found, view, before)
        reject_table = str(run.write_rejects(rejects)) if rejects else None
        if not found.studies:
            raise DataError(
                f"none of the {len(rejects)} rows can be used",
                view=view,
                path=table,
                cause=rejects[0].reason,
                remedy=f"mend the table, or leave columns out with --drop; see {reject_table}",
            )
        new = _import(project, view, found, before, made_by, replace, Path(table).name)
        added = add_imported_view(project, view)
        present = new.present(manifest.studies)
        outcome = ImportOutcome(
            view=view,
            key=new.key.digest,
            features=len(new.columns),
            **_counts(found.studies, before, new),
            known=int(present.sum()),
            studies=len(manifest),
            elsewhere=len(new.rows) - int(present.sum()),
            added_view=added,
            notes=_notes(project, view, added, bool(present.any())),
            rejects=rejects,
            reject_table=reject_table,
        )
        _tell(outcome, run)
    return outcome


def _rejects(found: ImportedTable, view: str, before: Imported | None) -> list[Reject]:
    studies = [study for study, _, _ in found.refused]
    there = [False] * len(studies) if before is None else before.present(studies).tolist()
    return [
        Reject(study, view, "", str(line), why + ("; its former numbers stay" * former))
        for (study, line, why), former in zip(found.refused, there, strict=True)
    ]


def _import(
    project: Project,
    view: str,
    found: ImportedTable,
    before: Imported | None,
    made_by: str | None,
    replace: bool,
    source: str,
) -> Imported:
    """Store the rows and publish which study has which; gives all of the view's studies."""
    columns, values = found.columns, found.values
    maker, dtype = made_by or "", str(project.config.extract.dtype)
    if before is not None:
        _require_same(view, before, found, made_by)
        columns, maker, dtype = before.columns, before.made_by, before.key.dtype
        values = values[:, [found.columns.index(name) for name in columns]]
    require_fitting(view, columns, found.studies, values, dtype)
    key = imported_key(view, columns, maker, dtype)
    # Said first: nobody may collect the rows while the others are stored.
    note_uses(project, {f"{view} anew": key} if before is not None else {view: key})
    store = feature_store(project).open(key)
    digests = row_digests(values)
    import_rows(store, digests, values, project.config.extract)
    rows = dict(zip(found.studies, digests, strict=True))
    new = imported_now(key, columns, maker, source, rows)
    with store.claims.waiting("import"):
        # Another import of the view may have ended since.
        now = None if replace else read_import(project.workspace, view)
        if now is not None and now.key != key:
            raise StaleError(
                "another process has imported other columns for this view meanwhile",
                view=view,
                remedy="run the command again",
            )
        if now is not None:
            new = now.updated(new)
        write_import(project.workspace, view, new)
    note_uses(project, {view: key})
    present_uses(project)  # the former key may go only now
    return new


def _require_same(view: str, before: Imported, found: ImportedTable, made_by: str | None) -> None:
    anew = "or start the view anew with --replace; heads that were fitted on it have to be refitted"
    lacking = [name for name in before.columns if name not in set(found.columns)]
    strange = [name for name in found.columns if name not in set(before.columns)]
    if lacking or strange:
        parts = [
            f"{what} {', '.join(map(repr, names[:8]))}{' …' if len(names) > 8 else ''}"
            for what, names in (("lacking", lacking), ("not there before", strange))
            if names
        ]
        raise ConfigError(
            "the table has other features than those imported before",
            view=view,
            cause="; ".join(parts),
            remedy=f"bring the same columns (--columns, --drop), {anew}",
        )
    if made_by is not None and made_by != before.made_by:
        raise ConfigError(
            f"these features were made by {made_by!r}, those imported before by "
            + (repr(before.made_by) if before.made_by else "nobody who was named"),
            view=view,
            remedy=f"import them as another view, {anew}",
        )


def _counts(studies: Sequence[str], before: Imported | None, new: Imported) -> dict[str, int]:
    old = same = 0
    if before is not None:
        there = before.rows.find(studies)
        mine = new.rows.find([study for study, at in zip(studies, there, strict=True) if at >= 0])
        old = len(mine)
        former = before.rows.digests(there[there >= 0])
        same = int((former == new.rows.digests(mine)).all(axis=1).sum())
    return {
        "new": len(studies) - old,
        "changed": old - same,
        "unchanged": same,
        "kept": len(new.rows) - len(studies),
    }


def _notes(project: Project, view: str, added: bool, any_known: bool) -> list[str]:
    notes = [f"added [views.{view}] to mvp.toml"] if added else []
    chosen = project.config.head.views
    if chosen is not None and view not in chosen:
        notes.append(f"head.views of mvp.toml does not name {view}: heads are fitted without it")
    if not any_known:
        notes.append(
            "none of the studies is in the workspace's table: are ids written alike there "
            "(0012 is not 12)?"
        )
    return notes


def _tell(outcome: ImportOutcome, run: Run) -> None:
    log.info(
        "import-features %s: %d new, %d changed, %d unchanged, %d rejected, key %s",
        outcome.view,
        outcome.new,
        outcome.changed,
        outcome.unchanged,
        len(outcome.rejects),
        outcome.key,
    )
