"""What made an artefact: versions, seed, digests of its inputs, keyed hashes of its patients."""

from __future__ import annotations

import hashlib
import hmac
import importlib.metadata
import logging
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mvp.config import ResolvedView, weights_file
from mvp.config.variants import has_cnn
from mvp.errors import StaleError
from mvp.files import digest_bytes, read_json, write_json
from mvp.pipeline.workspace import Workspace

log = logging.getLogger("mvp")

_LIBRARIES = (
    "multiview-pipeline",
    "torch",
    "torchvision",
    "timm",
    "zarr",
    "numpy",
    "scikit-learn",
    "xgboost",
)

# A study and a patient may have one id; their hashes are two.
_STUDY = "study\0"


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
    return sorted(set(_hashes(workspace, patients).values()))


def study_hashes(workspace: Workspace, studies: Iterable[str]) -> list[str]:
    """The same of studies: they tell of a patient who goes by another id since."""
    return sorted(set(_hashes(workspace, studies, _STUDY).values()))


def _hashes(workspace: Workspace, ids: Iterable[str], kind: str = "") -> dict[str, str]:
    key = workspace.secret()
    return {
        one: hmac.new(key, (kind + one).encode(), hashlib.sha256).hexdigest()[:20]
        for one in set(map(str, ids))
    }


def write_provenance(
    folder: Path,
    *,
    inputs: Mapping[str, Any],
    seed: int,
    workspace: Workspace | None = None,
    patients: Iterable[str] = (),
    studies: Iterable[str] = (),
    inherited: Iterable[Mapping[str, Any]] = (),
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write `provenance.json`, last of all: its presence says that the artefact is whole.

    Args:
        folder: of the artefact.
        inputs: what it was made from, by name; compared to tell whether it is still fresh.
        seed: the seed it was made with.
        workspace: whose key the patients are hashed with.
        patients: ids of the patients that it was fitted on; only keyed hashes are written.
        studies: ids of their studies that it was fitted on; likewise.
        inherited: provenances of artefacts that it started from; whom these saw, it has seen.
        extra: results worth keeping beside.
    """
    seen = list(inherited)
    people = set(patient_hashes(workspace, patients) if workspace else [])
    examined = set(study_hashes(workspace, studies) if workspace else [])
    write_json(
        Workspace.provenance(folder),
        {
            "versions": versions(),
            "seed": seed,
            "inputs": dict(inputs),
            "patients": sorted(people.union(*(made["patients"] for made in seen))),
            "studies": sorted(examined.union(*(made.get("studies", ()) for made in seen))),
            "patients_key": digest_bytes(workspace.secret()) if workspace else None,
            **(extra or {}),
        },
    )


def read_provenance(folder: Path) -> dict[str, Any] | None:
    """The provenance of a finished artefact, None when there is none."""
    path = Workspace.provenance(folder)
    try:
        return dict(read_json(path))
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        return None


def weights_provenance(workspace: Workspace, view: ResolvedView) -> dict[str, Any] | None:
    """The provenance of a network of this workspace that a view's weights file is.

    None where the weights are no file, or one of nobody here; the log says so of a network that
    another workspace has trained.
    """
    file = weights_file(view.network) if has_cnn(view) else None
    made = read_provenance(file.parent) if file is not None else None
    if made is None or not made.get("patients"):
        return None
    if made.get("patients_key") == digest_bytes(workspace.secret()):
        return made
    log.warning(
        "view %s: %s was trained in another workspace; whether patients of this one took part, "
        "nobody can tell here",
        view.name,
        file,
    )
    return None


def shared_patients(
    workspace: Workspace,
    made: Mapping[str, Any],
    patients: Iterable[str],
    studies: Iterable[str],
    what: str,
) -> int:
    """How many of some patients an artefact was fitted on, by their ids or by their studies'.

    Args:
        workspace: whose key hashed them.
        made: the artefact's provenance.
        patients: (row,) ids.
        studies: (row,) ids.
        what: the artefact, for the error.

    Raises:
        StaleError: the key is not the one they were hashed with, so nobody can tell.
    """
    if made.get("patients_key") != digest_bytes(workspace.secret()):
        raise StaleError(
            f"nobody can tell any more which patients {what} has seen",
            path=workspace.folder / "patients.key",
            cause="this key is not the one that its patients were hashed with",
            remedy="restore the file, or run `mvp finetune --force` and `mvp fit-head` again",
        )
    rows = [(str(patient), str(study)) for patient, study in zip(patients, studies, strict=True)]
    by_patient = _hashes(workspace, (patient for patient, _ in rows))
    by_study = _hashes(workspace, (study for _, study in rows), _STUDY)
    people, seen = set(made["patients"]), set(made.get("studies", ()))
    # Patients may be merged or renamed after the fitting; their studies give them away.
    return len({p for p, s in rows if by_patient[p] in people or by_study[s] in seen})


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
