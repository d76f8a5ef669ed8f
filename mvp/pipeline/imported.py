"""Views whose features come from elsewhere: which stored row belongs to which study.

The store knows rows by their numbers alone. Which study they belong to stands in the workspace, in
one file for each view, so that it is never half of one import and half of another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mvp.data.tables.manifest import Manifest, Problem
from mvp.errors import ConfigError, DataError, StaleError
from mvp.features import FeatureKey, row_id
from mvp.files import read_json, write_json
from mvp.pipeline.project import Project
from mvp.pipeline.workspace import Workspace
from mvp.stages.import_features import imported_key
from mvp.types import BoolArray

FORMAT = 1


@dataclass(frozen=True, eq=False)
class Imported:
    """What was imported for a view.

    Attributes:
        key: of its features.
        columns: their names, in order.
        made_by: the model or software that gave them, as the user calls it, or "".
        source: name of the file that was imported last; not its place.
        rows: study to the digest of its numbers.
    """

    key: FeatureKey
    columns: tuple[str, ...]
    made_by: str
    source: str
    rows: Mapping[str, str]

    def row_ids(self, studies: object) -> list[list[bytes]]:
        """For each study its row id, or none."""
        found = (self.rows.get(str(study)) for study in np.asarray(studies))
        return [[row_id(digest)] if digest else [] for digest in found]

    def present(self, studies: object) -> BoolArray:
        """(study,) which studies have the view."""
        return np.array([str(study) in self.rows for study in np.asarray(studies)], dtype=bool)


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
        rows = {str(study): str(digest) for study, digest in value["rows"].items()}
        for digest in rows.values():
            row_id(digest)
        found = Imported(
            FeatureKey.from_json(value["key"]),
            tuple(map(str, value["columns"])),
            str(value["made_by"]),
            str(value["source"]),
            rows,
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


def write_import(workspace: Workspace, view: str, imported: Imported) -> Path:
    """Publish what was imported for a view, whole."""
    path = workspace.imported(view)
    write_json(
        path,
        {
            "format": FORMAT,
            "source": imported.source,
            "made_by": imported.made_by,
            "studies": len(imported.rows),
            "columns": list(imported.columns),
            "key": imported.key.to_json(),
            "rows": dict(imported.rows),
        },
    )
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
