"""What a head decides, and what its training looked like: kept beside it, noticed when changed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mvp.config import HeadConfig
from mvp.errors import DataError, StoreDamagedError
from mvp.files import digest_file, digest_json, read_json, write_json
from mvp.pipeline.project import Project
from mvp.pipeline.workspace import Workspace
from mvp.stages._decisions import Decisions
from mvp.stages.decide import require_calibration_rows
from mvp.statistics.drift import DriftReference

_REFIT = "run `mvp fit-head` again"
DECIDED_INPUT = "what is decided by its probabilities"
log = logging.getLogger("mvp")


def require_calibration(project: Project) -> None:
    """Refuse [head] settings that need a calibration part where the split has none.

    Raises:
        ConfigError: with the setting that makes one.
    """
    settings = project.config.head
    if settings.on_calibration_rows:
        kept = project.split.mask(project.manifest.studies, ("calibration",))
        require_calibration_rows(settings, bool(kept.any()))


def decision_settings(settings: HeadConfig) -> str:
    """Digest of the settings that decide decisions."""
    names = {"calibration", "threshold", "at", "conformal"}
    return digest_json(settings.model_dump(mode="json", include=names))


def warn_of_other_decisions(settings: HeadConfig, name: str, made: Mapping[str, Any]) -> None:
    """Say that a head decides otherwise than [head] asks for by now; it is used as it was fitted.

    Args:
        settings: of mvp.toml.
        name: of the head.
        made: its provenance.
    """
    if made["inputs"].get(DECIDED_INPUT) != decision_settings(settings):
        log.warning(
            "head %s was fitted under other settings of head.calibration, threshold, at or "
            "conformal, and decides by those; `mvp fit-head` takes the new ones",
            name,
        )


def save_decisions(
    workspace: Workspace, name: str, decisions: Decisions, drift: Mapping[str, DriftReference]
) -> dict[str, Any]:
    """Write both beside a head.

    Returns:
        What the head's provenance has to say of them.
    """
    write_json(workspace.decisions(name), decisions.to_json())
    for fold, reference in drift.items():
        write_json(workspace.drift(name, fold), reference.to_json())
    return {
        "decisions": digest_file(workspace.decisions(name)),
        "drift": {fold: digest_file(workspace.drift(name, fold)) for fold in drift},
    }


def load_decisions(workspace: Workspace, name: str, made: Mapping[str, Any]) -> Decisions:
    """The decisions of a head.

    Args:
        workspace: where it lies.
        name: of the head.
        made: its provenance.

    Raises:
        StoreDamagedError: they are not those that were saved.
    """
    path = workspace.decisions(name)
    try:
        return Decisions.from_json(_unchanged(path, made["decisions"]))
    except DataError as error:
        raise StoreDamagedError(error.what, path=path, remedy=_REFIT) from error


def load_drift(
    workspace: Workspace, name: str, made: Mapping[str, Any]
) -> dict[str, DriftReference]:
    """For each fold of a head what its training looked like; arguments and errors likewise."""
    references = {}
    for fold, digest in made["drift"].items():
        path = workspace.drift(name, fold)
        try:
            references[fold] = DriftReference.from_json(_unchanged(path, digest))
        except DataError as error:
            raise StoreDamagedError(error.what, path=path, remedy=_REFIT) from error
    return references


def _unchanged(path: Path, digest: str) -> Any:
    if not path.is_file() or digest_file(path) != digest:
        raise StoreDamagedError(
            "what a head decides is not what was saved with it", path=path, remedy=_REFIT
        )
    return read_json(path)
