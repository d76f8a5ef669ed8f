"""The feature table of a manifest: which stored rows belong to which study."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import compress

import numpy as np

from mvp.data.reading.inventory import FileRecord
from mvp.data.tables.manifest import Manifest
from mvp.errors import ConfigError, DataError
from mvp.features import FeatureTable, KeyStore, StudyRows, table_from_stores
from mvp.features.block import Aggregate
from mvp.features.rows import unpack
from mvp.files import digest_json
from mvp.pipeline.imported import require_import
from mvp.pipeline.items import view_items
from mvp.pipeline.networks import extract_command, finetune_command
from mvp.pipeline.project import Project
from mvp.pipeline.provenance import read_provenance, shared_patients, weights_provenance
from mvp.pipeline.workspace import FOLD, JOINT
from mvp.stages.extract import rows_of
from mvp.types import BoolArray, Labels


def study_rows(
    project: Project,
    manifest: Manifest,
    view: str,
    records: Mapping[str, FileRecord],
    instances: str,
) -> list[list[bytes]]:
    """For each study the row ids of a view's images and slices; unreadable ones are left out.

    Of an imported view: the row that was imported for the study; of a table or text: its own.

    Args:
        project: the workspace.
        manifest: the studies.
        view: the view.
        records: what the files are.
        instances: what a row is of several slices, as the key of the features says.
    """
    if project.config.views[view].imported:
        return require_import(project, view).row_ids(manifest.studies)
    settings = project.view(view)
    # Each once: two copies of an image in a study are one opinion, not two.
    rows: list[dict[bytes, None]] = [{} for _ in range(len(manifest))]
    for item in view_items(project, manifest, settings, records):
        if item.record is not None and not item.error:
            rows[item.study].update(dict.fromkeys(rows_of(item.record, instances)))
    return [list(ids) for ids in rows]


def cached_table(
    project: Project,
    stores: Mapping[str, KeyStore],
    chosen: BoolArray | None = None,
    fold: str = FOLD,
    instances: Aggregate | None = None,
) -> FeatureTable:
    """The features of all studies of the workspace, or of those that are chosen.

    Args:
        project: the workspace.
        stores: for each view, in order, the features of its key.
        chosen: (study,) of the manifest; the table has a row for each study that is True.
        fold: whose networks the stores are of, for errors.
        instances: how several instances become one row; default: `head.instances`.

    Raises:
        ConfigError: images have neither features nor a reason why not: they were not extracted.
    """
    manifest = project.manifest
    rows = {
        view: study_rows(project, manifest, view, project.contents, store.key.instances)
        for view, store in stores.items()
    }
    studies, patients = manifest.studies, manifest.patients
    if chosen is not None:
        studies, patients = studies[chosen], patients[chosen]
        rows = {view: list(compress(ids, chosen)) for view, ids in rows.items()}
    for view, store in stores.items():
        require_stored(project, store, rows[view], view, fold)
    return table_from_stores(
        studies,
        patients,
        stores,
        rows,
        instances or project.config.head.instances,
        stored_draws(project, stores),
    )


def stored_draws(project: Project, views: Iterable[str]) -> dict[str, int]:
    """For each view how many draws a stored row holds: views of images have `extract.tta`."""
    chosen = {view: project.config.views[view] for view in views}
    drawn = [v for v, own in chosen.items() if own.kind == "image" and not own.imported]
    return dict.fromkeys(drawn, project.config.extract.tta)


def rows_digests(project: Project, views: Sequence[str], masks: Sequence[BoolArray]) -> list[str]:
    """For each mask the digest of what its studies are made of: id, patient, images by view."""
    manifest = project.manifest
    instances = project.config.extract.instances
    rows = {v: study_rows(project, manifest, v, project.contents, instances) for v in views}
    digests = []
    for mask in masks:
        chosen = np.flatnonzero(mask)
        ids = [[str(manifest.studies[i]), str(manifest.patients[i])] for i in chosen]
        images = {view: [[row.hex() for row in rows[view][i]] for i in chosen] for view in views}
        digests.append(digest_json([ids, images]))
    return digests


def labels_digest(labels: Labels) -> str:
    """Digest of targets and values."""
    targets = [[t.name, list(t.classes)] for t in labels.targets]
    return digest_json([targets, np.nan_to_num(labels.values, nan=-1).tolist()])


def require_unseen(
    project: Project, views: Sequence[str], rows: BoolArray, role: str, fold: str = FOLD
) -> None:
    """Refuse patients whom a view's network was trained on.

    The split says so already; this asks what the networks themselves say they saw.

    Args:
        project: the workspace.
        views: names of views.
        rows: (study,) of the manifest, whom nobody may have been trained on.
        role: what the rows are for, for the error: "head", "calibration" or "test".
        fold: whose networks; an encoder of values has no folds, and is asked all the same.

    Raises:
        DataError: some were.
    """
    patients, studies = project.manifest.patients[rows], project.manifest.studies[rows]
    for view in views:
        if project.config.views[view].imported:
            continue  # no network of ours; what its numbers were made from, nobody here knows
        table = project.config.views[view].kind == "table"
        whose = FOLD if table else fold
        # A frozen network has seen nobody, unless its weights file was trained here; an encoder of
        # values has seen all training rows.
        frozen = project.config.protocol == "frozen" and not (table and role != "head")
        frozen = frozen and whose == FOLD
        if frozen:
            made = weights_provenance(project.workspace, project.view(view))
        else:
            made = read_provenance(project.workspace.stage1(view, whose))
        if made is None:
            continue
        what = "encoder" if table else "network"
        again = f"mvp extract --view {view}" if table else finetune_command(view, whose)
        what += {FOLD: "", JOINT: " in the joint one"}.get(whose, f" for {whose}")
        both = shared_patients(project.workspace, made, patients, studies, f"the {what} of {view}")
        if both:
            raise DataError(
                f"{both} patients of the {role} rows trained this view's {what}",
                view=view,
                cause="its weights file is a network that this workspace has trained"
                if frozen
                else f"the split or the patient ids changed after the {what} was trained",
                remedy='start from it by weights = "view:NAME" and protocol = "holdout"'
                if frozen
                else f"run `{again}` again, or restore split.csv",
            )


def require_stored(
    project: Project,
    store: KeyStore,
    rows: Sequence[Sequence[bytes]] | StudyRows,
    view: str,
    fold: str = FOLD,
) -> None:
    """Refuse an image that nobody extracted: it must not pass for a missing view.

    Raises:
        ConfigError: a view has rows that are neither stored nor rejected.
        StoreDamagedError: rows cannot be found for damage.
    """
    if isinstance(rows, StudyRows):
        missing = unpack(np.unique(rows.ids[~store.has_ids(rows.ids)], axis=0))
    else:
        wanted = list({row for ids in rows for row in ids})
        missing = [row for row, there in zip(wanted, store.has(wanted), strict=True) if not there]
    waiting = sum(row not in store.rejected for row in missing)
    if waiting and store.problems:
        raise store.problems[0]
    if waiting and project.config.views[view].imported:
        raise ConfigError(
            f"the imported numbers of {waiting} studies are not in the cache",
            view=view,
            cause="the cache is another one, or rows of it were damaged and taken away",
            remedy=f"run `mvp import-features --view {view} TABLE` again",
        )
    if waiting:
        whose = {FOLD: "", JOINT: " in the joint one"}.get(fold, f" for {fold}")
        own = f"its present network{whose}"
        nothing = f"no cached features of this view under {own} and settings"
        raise ConfigError(
            nothing if not len(store) else f"{waiting} images have no cached features yet",
            view=view,
            remedy=f"run `{extract_command(view, fold)}`",
        )
