"""Which engine runs a view's network where `extract.engine` is "auto": decided once, then kept.

The engine is part of the feature key, so whoever reads features has to know it. What extraction
decided lies in `engines/` of the workspace, under the digest of the key without its engine: other
weights, layers or preparations are decided anew.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mvp.data.inputs import Inputs
from mvp.errors import ConfigError
from mvp.features import FeatureKey, FeatureStore
from mvp.files import canonical_json, create_exclusive, read_json
from mvp.networks.engines import ENGINES, choose_engine
from mvp.pipeline.project import Project

if TYPE_CHECKING:
    from mvp.pipeline.networks import ViewNetwork

# In a key: nothing is stored under it, as nothing is decided.
UNDECIDED = "auto"


def engine_of(project: Project, key: FeatureKey, store: FeatureStore) -> str:
    """The engine that makes a view's features, as its key names it.

    It is the one that the settings name. Where they say "auto", it is the one that was decided in
    this workspace; else the first of `ENGINES` that rows of this key are stored of; else
    "auto" itself, and extraction has to decide.

    Args:
        project: the workspace.
        key: of the features, whatever its engine.
        store: the features.

    Raises:
        ConfigError: what was decided cannot be read.
    """
    named = project.config.extract.engine
    if named != UNDECIDED:
        return named
    if (kept := _kept(_place(project, key))) is not None:
        return kept
    stored = (name for name in ENGINES if len(store.open(replace(key, engine=name))))
    return next(stored, UNDECIDED)


def with_engine(project: Project, made: ViewNetwork, inputs: Inputs, images: int) -> ViewNetwork:
    """A view's network with an engine that is decided, and kept for everyone who reads.

    Args:
        project: the workspace.
        made: the network, of a workspace whose settings say "auto".
        inputs: what it is shown.
        images: how many it will be shown at least.
    """
    place = _place(project, made.key)
    if _kept(place) is None:
        engine = made.key.engine
        if engine == UNDECIDED:
            engine = _chosen(project, made, inputs, images)
        place.parent.mkdir(parents=True, exist_ok=True)
        note = canonical_json({"view": made.key.view, "engine": engine}) + "\n"
        create_exclusive(place, note.encode())
    # Of several processes that decide at a time the first one's word counts.
    engine = _kept(place) or UNDECIDED
    settings = made.settings.model_copy(update={"engine": engine})
    return replace(made, key=replace(made.key, engine=engine), settings=settings)


def _chosen(project: Project, made: ViewNetwork, inputs: Inputs, images: int) -> str:
    import torch

    from mvp.stages._extraction import ready_for_network

    device = project.device
    example = ready_for_network(made.network, inputs, torch.stack(inputs.synthetic()), device)
    images *= made.settings.tta
    return choose_engine(
        made.network, made.view.network, made.settings, device, example, images, made.exports
    )


def _place(project: Project, key: FeatureKey) -> Path:
    return project.workspace.engine(replace(key, engine=UNDECIDED).digest)


def _kept(path: Path) -> str | None:
    try:
        engine = read_json(path)["engine"]
        if engine in ENGINES:
            return str(engine)
        cause = f"it names {engine!r}"
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        cause = f"{type(error).__name__}: {error}"
    raise ConfigError(
        "the note of the engine that was decided cannot be read",
        path=path,
        cause=cause,
        remedy="delete it, or name the engine in extract.engine",
    )
