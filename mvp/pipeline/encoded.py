"""Views of values: their encoder, fitted on training rows alone, and its features."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from mvp.config import Protocol, ResolvedView
from mvp.data.splits.split import TRAIN, parts_for
from mvp.data.table_encoder import TableEncoder, fit_encoder
from mvp.errors import ConfigError, DataError, StaleError
from mvp.features import FeatureKey
from mvp.files import digest_json, read_json, write_json
from mvp.pipeline.items import Item, row_values, view_items
from mvp.pipeline.project import Project
from mvp.pipeline.provenance import changed_inputs, read_provenance, write_provenance
from mvp.stages.encode import encoded_key


def encoder_parts(protocol: Protocol) -> tuple[str, ...]:
    """The parts whose rows an encoder may see: stage one's, or all but test where none trains."""
    if protocol == "frozen":
        return TRAIN
    roles = (parts_for(role, protocol, protocol) for role in ("stage1", "stage1-inner"))
    return tuple(dict.fromkeys(part for parts in roles for part in parts))


def current_encoder(project: Project, view: ResolvedView) -> TableEncoder:
    """The encoder of a view, fitted where its training rows or columns are others than before.

    Raises:
        DataError: no training row has a value.
    """
    items = view_items(project, project.manifest, view, {})
    mine = _training(project, items)
    inputs = _inputs(project, view, mine)
    folder = project.workspace.stage1(view.name)
    if changed_inputs(folder, inputs) == [] and project.workspace.encoder(view.name).exists():
        return load_encoder(project, view)
    if not mine:
        raise DataError(
            "no training study has a value to fit the encoder on",
            view=view.name,
            remedy="look with `mvp check`; name other columns, or give stage one more studies",
        )
    values = row_values(project, project.manifest, view)
    rows = [values[item.record.digest] for item in mine if item.record is not None]
    encoder = fit_encoder(project.config.views[view.name], rows)
    project.workspace.provenance(folder).unlink(missing_ok=True)
    write_json(project.workspace.encoder(view.name), encoder.to_json())
    write_provenance(
        folder,
        inputs=inputs,
        seed=project.config.seed,
        workspace=project.workspace,
        patients=(str(project.manifest.patients[item.study]) for item in mine),
        studies=(str(project.manifest.studies[item.study]) for item in mine),
        extra={"rows": len(mine), "columns": list(encoder.columns)},
    )
    return encoder


def why_encode(project: Project, view: ResolvedView) -> str | None:
    """Why the encoder would be fitted anew, None when it stands."""
    mine = _training(project, view_items(project, project.manifest, view, {}))
    changed = changed_inputs(project.workspace.stage1(view.name), _inputs(project, view, mine))
    if changed is None or not project.workspace.encoder(view.name).exists():
        return "its encoder is not fitted yet"
    return f"changed since its encoder was fitted: {', '.join(changed)}" if changed else None


def load_encoder(project: Project, view: ResolvedView) -> TableEncoder:
    """The encoder as it was fitted.

    Raises:
        ConfigError: it is not there, or nothing says whom it has seen.
        DataError: its file is damaged.
        StaleError: it was fitted on other columns than the settings name.
    """
    path = project.workspace.encoder(view.name)
    again = f"run `mvp extract --view {view.name}`"
    try:
        encoder = TableEncoder.from_json(read_json(path))
    except FileNotFoundError:
        raise ConfigError(
            "the view's encoder is not fitted yet", view=view.name, remedy=again
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path, view, again, error) from None
    if read_provenance(project.workspace.stage1(view.name)) is None:
        raise ConfigError(
            "the fitting of the view's encoder did not finish, so nobody can tell whom it has seen",
            view=view.name,
            remedy=again,
        )
    columns = [n for n, _, _ in encoder.numbers] + [n for n, _ in encoder.categories]
    if columns != list(view.columns):
        raise StaleError(
            "the view's encoder was fitted on other columns than mvp.toml names now",
            view=view.name,
            cause=f"{', '.join(columns)} then",
            remedy=f"{again}, or restore the settings",
        )
    return encoder


def table_key(project: Project, view: ResolvedView, encoder: TableEncoder) -> FeatureKey:
    """The key of an encoder's features."""
    return encoded_key(view.name, encoder, project.config.extract.dtype)


def _training(project: Project, items: Sequence[Item]) -> list[Item]:
    parts = encoder_parts(project.config.protocol)
    mask = project.split.mask(project.manifest.studies, parts)
    return [item for item in items if item.record is not None and mask[item.study]]


def _inputs(project: Project, view: ResolvedView, mine: Sequence[Item]) -> dict[str, object]:
    settings = project.config.views[view.name]
    studies = project.manifest.studies
    # Sorted: the order of the table decides nothing.
    rows = sorted(
        [str(item.record and item.record.digest), str(studies[item.study])] for item in mine
    )
    return {
        "the columns": json.dumps([settings.numbers, settings.categories]),
        "the protocol": project.config.protocol,
        "the training rows": digest_json(rows),
    }


def _damaged(path: Path, view: ResolvedView, again: str, error: Exception) -> DataError:
    return DataError(
        "the view's encoder cannot be read",
        view=view.name,
        path=path,
        cause=type(error).__name__,
        remedy=f"delete it and {again}",
    )
