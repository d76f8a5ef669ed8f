"""Which study has which view, whatever the view is made of."""

from __future__ import annotations

import numpy as np

from mvp.data.tables.manifest import Manifest
from mvp.pipeline.imported import read_import
from mvp.pipeline.project import Project
from mvp.types import BoolArray


def view_presence(project: Project, manifest: Manifest) -> tuple[list[str], BoolArray]:
    """Names of the views, and (study, view) where a study has an input of its own for it.

    A view that looks at another one's images is left out: it is there when that one is.
    """
    names, columns = [], []
    for name, view in project.config.views.items():
        if view.imported:
            found = read_import(project.workspace, name)
            none = np.zeros(len(manifest), bool)
            columns.append(none if found is None else found.present(manifest.studies))
        elif view.columns:
            columns.append(manifest.filled(name))
        elif view.own_files:
            columns.append(manifest.presence([name])[:, 0])
        else:
            continue
        names.append(name)
    return names, np.stack(columns, axis=1) if columns else np.zeros((len(manifest), 0), bool)
