"""What made an artefact: versions, seed, digests of its inputs, keyed hashes of its patients."""

from __future__ import annotations

import hashlib
import hmac
import importlib.metadata
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mvp.files import read_json, write_json
from mvp.pipeline.workspace import Workspace

_LIBRARIES = (
    "multiview-pipeline",
    "torch",
    "torchvision",
    "zarr",
    "numpy",
    "scikit-learn",
    "xgboost",
)


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide the numbers."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def patient_hashes(workspace: Workspace, patients: Iterable[str]) -> list[str]:
    """Keyed hashes: they tell whether a patient took part, and only to the workspace's owner."""
    key = workspace.secret()
    digests = {
        hmac.new(key, str(patient).encode(), hashlib.sha256).hexdigest()[:20]
        for patient in patients
    }
    return sorted(digests)


def write_provenance(
    folder: Path,
    *,
    inputs: Mapping[str, Any],
    seed: int,
    patients: Iterable[str] = (),
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write `provenance.json`, last of all: its presence says that the artefact is whole.

    Args:
        folder: of the artefact.
        inputs: what it was made from, by name; compared to tell whether it is still fresh.
        seed: the seed it was made with.
        patients: keyed hashes of the patients that it was fitted on.
        extra: results worth keeping beside.
    """
    write_json(
        Workspace.provenance(folder),
        {
            "versions": versions(),
            "seed": seed,
            "inputs": dict(inputs),
            "patients": list(patients),
            **(extra or {}),
        },
    )


def read_provenance(folder: Path) -> dict[str, Any] | None:
    """The provenance of a finished artefact, None when there is none."""
    path = Workspace.provenance(folder)
    try:
        return dict(read_json(path))
    except (FileNotFoundError, ValueError):
        return None


def changed_inputs(folder: Path, inputs: Mapping[str, Any]) -> list[str] | None:
    """Names of the inputs that differ from those an artefact was made from.

    None: there is no finished artefact. Empty: it is fresh.
    """
    old = read_provenance(folder)
    if old is None:
        return None
    before = old.get("inputs", {})
    return [
        name for name in dict.fromkeys([*inputs, *before]) if before.get(name) != inputs.get(name)
    ]
