"""Which network a view has, and under which key its features lie."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mvp.config import ExtractConfig, ResolvedView, weights_file
from mvp.config.variants import NO_SHARE, source_network, stays_untrained
from mvp.data.draws import Draws
from mvp.data.inputs import Inputs, inputs_of, preparation_of
from mvp.data.tables.labels import target_of
from mvp.data.tables.manifest import Manifest
from mvp.errors import ConfigError, StaleError
from mvp.features import FeatureKey, FeatureStore, KeyStore
from mvp.files import digest_file, digest_json
from mvp.networks import Capture, Network, build_view, restore_view
from mvp.networks.engines import KeptExports
from mvp.pipeline.encoded import load_encoder, table_key
from mvp.pipeline.engines import engine_of
from mvp.pipeline.imported import read_import, require_import
from mvp.pipeline.items import cell_texts
from mvp.pipeline.project import Project
from mvp.pipeline.provenance import read_provenance
from mvp.pipeline.workspace import FOLD, JOINT, fold_number
from mvp.stages.extract import feature_key
from mvp.types import Target

log = logging.getLogger("mvp")


@dataclass(frozen=True, eq=False)
class ViewNetwork:
    """A view with its network as it is used for features.

    Attributes:
        view: its settings.
        network: with its final weights.
        key: of the features.
        settings: of the extraction; the engine is "auto" until it is decided, as in the key.
        draws: what is cached of an image beside itself; None for nothing.
        exports: where an engine keeps what it makes of the network.
    """

    view: ResolvedView
    network: Network
    key: FeatureKey
    settings: ExtractConfig
    draws: Draws | None
    exports: KeptExports


def view_targets(project: Project, view: ResolvedView) -> tuple[Target, ...]:
    """The targets that a view's network is trained on."""
    return tuple(target_of(name, project.config.labels[name]) for name in view.labels)


def outputs_of(targets: tuple[Target, ...]) -> int:
    """Number of logits for some targets."""
    return sum(len(target.outputs) for target in targets)


def initial_network(project: Project, view: ResolvedView, outputs: int | None) -> Network:
    """The network before any training; random values come from the workspace's seed."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(project.config.seed)
        return build_view(view, outputs)


def network_inputs(project: Project, view: ResolvedView, fold: str = FOLD) -> dict[str, Any]:
    """Those inputs of a trained network that its use for features must agree with, by name."""
    published, start = weights_file(view.network), source_network(view)
    if start is not None:
        published = project.workspace.weights(start, fold)
    first = digest_file(published) if published and published.exists() else view.network.weights
    if fold == JOINT:
        first = JOINT  # where it started is said with the joint network
    settings = view.network.model_dump(mode="json", exclude={"layer", "pooling", "weights"})
    if settings["share"] == NO_SHARE:
        del settings["share"]  # networks that were trained before it could be said stay fresh
    if view.kind == "text":
        settings = view.text.model_dump(mode="json")
    return {
        "the network": digest_json([settings, first]),
        "the preparation of the images": preparation_of(view).digest,
        # Folds decide the rows of a fold's network, whatever the workspace does otherwise.
        "the protocol": {FOLD: project.config.protocol, JOINT: JOINT}.get(fold, "crossfit"),
    }


def network_of(fold: str) -> str:
    """A view's network in the words of an error."""
    if fold == JOINT:
        return "the view's network in the joint one"
    return "the view's network" if fold == FOLD else f"the view's network for {fold}"


def finetune_command(view: str, fold: str = FOLD) -> str:
    """What trains a view's network."""
    if fold == JOINT:
        return "mvp finetune-joint"
    number = fold_number(fold)
    return f"mvp finetune --view {view}" + ("" if number is None else f" --fold {number}")


def extract_command(view: str, fold: str = FOLD) -> str:
    """What extracts a view's features."""
    more = "" if fold == FOLD else " --from-joint" if fold == JOINT else " --folds"
    return f"mvp extract --view {view}{more}"


def _require_trained_so(
    project: Project, view: ResolvedView, fold: str, made: dict[str, Any]
) -> None:
    now = network_inputs(project, view, fold)
    changed = [name for name, value in now.items() if made["inputs"].get(name) != value]
    if changed:
        raise StaleError(
            f"{network_of(fold)} was trained otherwise than mvp.toml says now",
            view=view.name,
            cause=f"{', '.join(changed)} changed",
            remedy=f"run `{finetune_command(view.name, fold)}`, or restore the settings",
        )


def require_fitted_layer(view: ResolvedView, network: Network) -> None:
    """Refuse features that depend on a new classifier which nothing trains.

    Raises:
        ConfigError: they would be random.
    """
    layer = view.network.layer
    if stays_untrained(view) and Capture(network, layer, view.network.pooling).uses_classifier:
        raise ConfigError(
            f"layer {layer!r} depends on the classifier, which nothing trains",
            view=view.name,
            cause='training.freeze = "all" leaves the network as it is, its new classifier with '
            "random values",
            remedy='set network.layer to a layer before it, or to "auto"',
        )


def feature_network(project: Project, name: str, fold: str = FOLD) -> ViewNetwork:
    """The network that gives a view's features, with its weights.

    Args:
        project: the workspace.
        name: of the view.
        fold: "all", "fold-K" for the network that was trained without fold K, or "joint" for the
            body of the joint network.

    Raises:
        ConfigError: it is to be fine-tuned and is not yet.
        StaleError: it was trained with another preparation, network or protocol.
    """
    view = project.view(name)
    if fold == FOLD and project.config.protocol == "frozen":
        if view.kind == "text":
            log.warning("%s: no published weights for texts; its frozen network is random", name)
        network = initial_network(project, view, None)
    else:
        path = project.workspace.weights(name, fold)
        made = read_provenance(project.workspace.stage1(name, fold))
        if made is None or not path.exists():
            frozen = 'set protocol = "frozen" in mvp.toml to use published weights as they are'
            raise ConfigError(
                f"{network_of(fold)} is not trained yet"
                if not path.exists()
                else f"the training of {network_of(fold)} did not finish",
                view=name,
                remedy=f"run `{finetune_command(name, fold)}`"
                + (f", or {frozen}" if fold == FOLD else ""),
            )
        _require_trained_so(project, view, fold, made)
        if digest_file(path) != made.get("weights"):
            raise StaleError(
                f"the weights of {network_of(fold)} are not those that its provenance speaks of",
                view=name,
                path=path,
                cause="the file was exchanged, or its training was broken off at the very end",
                remedy=f"restore the file, or run `{finetune_command(name, fold)} --force`",
            )
        network = restore_view(view, outputs_of(view_targets(project, view)), path)
        if fold != JOINT:
            require_fitted_layer(view, network)
    settings, draws = project.config.extract, view_draws(project, view)
    key = feature_key(name, network, view.network, preparation_of(view), settings, draws)
    key = replace(key, engine=engine_of(project, key, feature_store(project)))
    settings = settings.model_copy(update={"engine": key.engine})
    exports = KeptExports(project.workspace.exports, f"{name}.{fold}")
    return ViewNetwork(view, network, key, settings, draws, exports)


def view_draws(project: Project, view: ResolvedView) -> Draws | None:
    """The random changes of a view's images that are cached beside them; None for none."""
    number = project.config.extract.tta
    if view.kind != "image" or number == 1:
        return None
    return Draws(view.augment, number, project.config.seed)


def view_key(project: Project, name: str, fold: str = FOLD) -> FeatureKey:
    """The key of a view's features: of what was imported, or what its network or encoder gives.

    What is imported or encoded has one key, whatever the fold.

    Raises:
        ConfigError: nothing was imported, or the network or encoder is not trained yet.
        StaleError: it was trained with other settings than those of today.
    """
    if project.config.views[name].imported:
        return require_import(project, name).key
    if project.config.views[name].kind == "table":
        view = project.view(name)
        return table_key(project, view, load_encoder(project, view))
    return feature_network(project, name, fold).key


def view_inputs(
    project: Project, manifest: Manifest, view: ResolvedView, root: Path | None = None
) -> Inputs:
    """What a view's network is shown of some studies.

    Args:
        project: the workspace.
        manifest: the studies.
        view: of images or texts.
        root: where the manifest's paths start, if not at data.root.
    """
    return inputs_of(view, project.limits(root), cell_texts(manifest, view))


def feature_store(project: Project) -> FeatureStore:
    """The workspace's store."""
    settings = project.config.extract
    place = project.workspace.cache(project.config)
    return FeatureStore(place, settings.cache_options, settings.lease)


def stored_imports(project: Project, view: str, verify: bool) -> tuple[int, int]:
    """Rows of an imported view that are stored, and studies whose rows are not.

    Args:
        project: the workspace.
        view: its name.
        verify: compare all stored bytes first; what is damaged has to be imported again.
    """
    found = read_import(project.workspace, view)
    if found is None:
        return 0, 0
    store = feature_store(project).open(found.key, mend=verify)
    if verify:
        store.discard_damaged(deep=True)
    ids = found.rows.every().ids
    there = store.has_ids(ids)
    return len(np.unique(ids[there], axis=0)), int((~there).sum())


def open_stores(project: Project, views: Sequence[str], fold: str = FOLD) -> dict[str, KeyStore]:
    """For each view its features under the present key, all of one fold's networks."""
    store = feature_store(project)
    return {view: store.open(view_key(project, view, fold)) for view in views}
