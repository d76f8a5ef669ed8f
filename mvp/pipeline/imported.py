"""Views whose features come from elsewhere: which stored row belongs to which study.

The store knows rows by their numbers alone. Which study they belong to stands in the workspace, in
one file for each view, so that it is never half of one import and half of another. Of many studies
that file names another, which holds them as digests and is looked into rather than read.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mvp.data.tables.manifest import Manifest, Problem
from mvp.errors import ConfigError, DataError, StaleError
from mvp.features import FeatureKey, StudyRows, row_id
from mvp.features.rows import unpack
from mvp.files import read_json, write_json
from mvp.pipeline.project import Project
from mvp.pipeline.study_map import StudyMap
from mvp.pipeline.workspace import Workspace
from mvp.stages.import_features import imported_key
from mvp.types import BoolArray

FORMAT = 1
# So many studies are listed by name; of more their digests stand in a file of their own.
LISTED = 10_000


@dataclass(frozen=True, eq=False)
class Imported:
    """What was imported for a view.

    Attributes:
        key: of its features.
        columns: their names, in order.
        made_by: the model or software that gave them, as the user calls it, or "".
        source: name of the file that was imported last; not its place.
        rows: study to the digest of its numbers.
        names: the same with the studies' ids, where few were imported.
    """

    key: FeatureKey
    columns: tuple[str, ...]
    made_by: str
    source: str
    rows: StudyMap
    names: Mapping[str, str] | None = None

    def study_rows(self, studies: Iterable[Any]) -> StudyRows:
        """For each study its row id, or none."""
        return self.rows.rows(map(str, studies))

    def row_ids(self, studies: Iterable[Any]) -> list[list[bytes]]:
        """The same as lists."""
        found = self.study_rows(studies)
        ids = iter(unpack(found.ids))
        return [[next(ids)] if count else [] for count in found.counts.tolist()]

    def present(self, studies: Iterable[Any]) -> BoolArray:
        """(study,) which studies have the view."""
        return np.asarray(self.rows.find(map(str, studies)) >= 0)

    def updated(self, newer: Imported) -> Imported:
        """What another import makes of this one: its own studies, and those it does not name."""
        names = None
        if self.names is not None and newer.names is not None:
            names = {**self.names, **newer.names}
        rows = self.rows.updated(newer.rows)
        return Imported(newer.key, newer.columns, newer.made_by, newer.source, rows, names)


def imported_now(
    key: FeatureKey,
    columns: tuple[str, ...],
    made_by: str,
    source: str,
    rows: Mapping[str, str],
) -> Imported:
    """What a table brings: for each of its studies the digest of its numbers."""
    found = StudyMap.of(rows, list(rows.values()))
    return Imported(key, columns, made_by, source, found, dict(rows))


def read_import(workspace: Workspace, view: str) -> Imported | None:
    """What was imported for a view, None where nothing was.

    Raises:
        DataError: the file is damaged.
        StaleError: another version of this package stored the features in another way.
    """
    path = workspace.imported(view)
    again = f"run `mvp import-features --view {view} --replace TABLE` with all of its studies"
    try:
        value = read_json(path)
        rows, names = _studies(path, value["rows"])
        found = Imported(
            FeatureKey.from_json(value["key"]),
            tuple(map(str, value["columns"])),
            str(value["made_by"]),
            str(value["source"]),
            rows,
            names,
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise DataError(
            "the list of a view's imported studies cannot be read",
            view=view,
            path=path,
            cause=type(error).__name__,
            remedy=again,
        ) from None
    if found.key != imported_key(view, found.columns, found.made_by, found.key.dtype):
        raise StaleError(
            "the features were imported by another version of mvp, or their list was changed",
            view=view,
            path=path,
            remedy=again,
        )
    return found


def _studies(path: Path, value: Mapping[str, Any]) -> tuple[StudyMap, dict[str, str] | None]:
    """The map, and the same by name where it stands in the list itself."""
    if isinstance(value.get("in"), Mapping):
        kept = value["in"]
        try:
            map_of = StudyMap.read(
                path.with_name(str(kept["file"])), int(kept["studies"]), str(kept["digest"])
            )
        except FileNotFoundError:
            raise ValueError("the file of its studies is missing") from None
        return map_of, None
    names = {str(study): str(digest) for study, digest in value.items()}
    for digest in names.values():
        row_id(digest)
    return StudyMap.of(names, list(names.values())), names


def write_import(workspace: Workspace, view: str, imported: Imported) -> Path:
    """Publish what was imported for a view, whole."""
    path = workspace.imported(view)
    rows: Mapping[str, Any] | None = imported.names
    file = ""
    if rows is None or len(rows) > LISTED:
        # A name of its own: the file that the list names now stays whole until the list changes.
        file = f"{view}.{secrets.token_hex(4)}.rows"
        digest = imported.rows.write(path.with_name(file))
        rows = {"in": {"file": file, "studies": len(imported.rows), "digest": digest}}
    write_json(
        path,
        {
            "format": FORMAT,
            "source": imported.source,
            "made_by": imported.made_by,
            "studies": len(imported.rows),
            "columns": list(imported.columns),
            "key": imported.key.to_json(),
            "rows": dict(rows),
        },
    )
    for other in path.parent.glob(f"{view}.*.rows"):
        if other.name != file:
            with suppress(OSError):  # who reads it has it open
                other.unlink()
    return path


def require_import(project: Project, view: str) -> Imported:
    """What was imported for a view.

    Raises:
        ConfigError: nothing was yet.
    """
    found = read_import(project.workspace, view)
    if found is None:
        raise ConfigError(
            "no features have been imported for this view yet",
            view=view,
            remedy=f"run `mvp import-features --view {view} TABLE`, or take [views.{view}] out of "
            "mvp.toml",
        )
    return found


def imported_views(project: Project) -> list[str]:
    """Names of the views whose features come from elsewhere."""
    return [name for name, view in project.config.views.items() if view.imported]


def import_problems(project: Project, manifest: Manifest) -> list[Problem]:
    """What `mvp check` has to say about imported views."""
    problems = []
    for view in imported_views(project):
        found = read_import(project.workspace, view)
        if found is None:
            text = f"{view}: nothing imported yet; run `mvp import-features --view {view} TABLE`"
            problems.append(Problem("not-imported", "warning", text))
        elif not found.present(manifest.studies).any():
            text = (
                f"{view}: none of its {len(found.rows)} imported studies is in the table; are ids "
                "written alike there (0012 is not 12)?"
            )
            problems.append(Problem("imported-elsewhere", "warning", text, len(found.rows)))
    return problems
