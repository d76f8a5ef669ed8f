"""Cross-fitting: K networks a view, each without one fold of the patients.

A head that learns from what a network says of its own training rows learns to trust it too much.
Network k has never seen fold k, so a head may learn from what it says of fold k; every patient
outside test is held out by exactly one network, and none is lost to stage two (Chernozhukov et
al. 2018, The Econometrics Journal 21, C1-C68: cross-fitting).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from mvp.data.splits.file import read_split
from mvp.data.splits.split import Split
from mvp.errors import ConfigError, DataError
from mvp.pipeline.networks import ViewNetwork, feature_network
from mvp.pipeline.project import Project
from mvp.pipeline.splitting import deal_split, keep_split
from mvp.pipeline.workspace import FOLD, JOINT, fold_name, fold_number
from mvp.training.schedule import derived_seed
from mvp.types import BoolArray, TextArray

log = logging.getLogger("mvp")


def folded_split(project: Project, folds: int | None = None) -> Split:
    """The workspace's split with folds, dealt where it has none and kept in `split.csv`.

    Args:
        project: the workspace; from now on this is its split.
        folds: how many; None: what mvp.toml says, else as many as stand.

    Raises:
        ConfigError: another number stands, or nobody has said one.
        DataError: a fold has no study.
    """
    setting, previous = project.config.split.folds, read_split(project.workspace.split)
    stand = len(previous.fold_counts()) if previous is not None else 0
    wanted = folds if folds is not None else setting or stand
    anew = f"set split.folds = {wanted} in mvp.toml and run `mvp split --new-folds`"
    if not wanted:
        raise ConfigError(
            "the split has no folds",
            remedy="say how many: `mvp finetune --folds 5`, or split.folds in mvp.toml",
        )
    if wanted < 2:
        raise ConfigError(f"--folds {wanted} leaves nothing to train on", remedy="take 2 or more")
    if setting and wanted != setting:
        raise ConfigError(
            f"--folds {wanted} is asked for, and split.folds is {setting}",
            remedy=f"leave --folds away, or {anew}",
        )
    if stand and wanted != stand:
        raise ConfigError(
            f"{wanted} folds are asked for, and split.csv holds {stand}",
            remedy=f"take {stand}; or {anew}, after which every fold's network is trained anew",
        )
    settings = project.config.split.model_copy(update={"folds": wanted})
    split = deal_split(project, previous, config=settings)
    counts = split.fold_counts()
    empty = [k for k in range(wanted) if k >= len(counts) or not counts[k]]
    if empty:
        raise DataError(
            f"no study of the table stands in fold {empty[0]}",
            path=project.workspace.split,
            cause="studies were taken out of the table after the folds were dealt",
            remedy=anew,
        )
    if keep_split(project, split, previous):
        log.info("folds by patient: %s studies", " ".join(map(str, counts)))
    project.take_split(split)
    return split


def fold_names(project: Project) -> list[str]:
    """The names of the folds, "fold-0" and on.

    Raises:
        ConfigError: the split has none.
    """
    return _names(folded_split(project))


def _names(split: Split) -> list[str]:
    return [fold_name(number) for number in range(len(split.fold_counts()))]


def folds_asked_for(project: Project, folds: int | None, fold: int | None) -> list[str]:
    """The folds whose networks a call is about.

    Where neither is given: all folds under protocol "crossfit", and otherwise only "all".

    Args:
        project: the workspace.
        folds: how many there are, dealt where there are none.
        fold: the number of one of them, for that one alone.

    Raises:
        ConfigError: there is no such fold, or the workspace trains no networks.
    """
    if folds is None and fold is None and project.config.protocol != "crossfit":
        return [FOLD]
    if project.config.protocol == "frozen":
        raise ConfigError(
            'protocol = "frozen" trains no network, so no fold can be held out from one',
            remedy='set another protocol in mvp.toml, as "holdout", or leave --folds away',
        )
    names = _names(folded_split(project, folds))
    if fold is None:
        return names
    if fold_name(fold) not in names:
        raise ConfigError(
            f"there is no fold {fold}", remedy=f"name one of 0 to {len(names) - 1} with --fold"
        )
    return [fold_name(fold)]


def fold_seed(seed: int, fold: str) -> int:
    """The seed of a fold's network: its own, and the workspace's where no fold is held out."""
    return seed if fold == FOLD else derived_seed(seed, fold)


def protocol_folds(project: Project, protocol: str, joint: bool = False) -> list[str]:
    """The folds whose networks a head of a protocol stands on: "all" but for crossfit.

    Args:
        project: the workspace.
        protocol: of the head; "joint" is the joint network's own.
        joint: whether it stands on the joint network's bodies.
    """
    if joint or protocol == JOINT:
        return [JOINT]
    if protocol != "crossfit":
        return [FOLD]
    # A verb that only looks has a split that is written nowhere.
    return _names(project.split) if project.split.folds else fold_names(project)


def held_out(split: Split, studies: TextArray, fold: str) -> BoolArray:
    """(study,) which studies a fold's network never saw and a head may learn from: those of it.

    Raises:
        ConfigError: `fold` is no fold.
    """
    number = fold_number(fold)
    if number is None:
        raise ConfigError(f'"{FOLD}" holds nobody out', remedy='name a fold, as "fold-0"')
    return np.array([split.folds.get(str(study)) == number for study in studies], dtype=bool)


def needed_for(split: Split, studies: TextArray, fold: str) -> BoolArray:
    """(study,) which studies of the workspace a fold's network is needed for.

    Those of the fold, which its head learns from, and those of calibration and test, which every
    pair of network and head is asked about. New studies are scored by every pair.
    """
    return held_out(split, studies, fold) | split.mask(studies, ["calibration", "test"])


def fold_networks(project: Project, view: str) -> Iterator[tuple[str, ViewNetwork, BoolArray]]:
    """Each fold's network of a view, one after the other, with the studies it is needed for.

    Args:
        project: the workspace.
        view: of images or texts; what is imported or encoded has no network.

    Yields:
        The fold's name, the network, and (study,) what `needed_for` says.

    Raises:
        ConfigError: the split has no folds, or a network is not trained yet.
        StaleError: a network was trained with other settings than those of today.
    """
    split = folded_split(project)
    for fold in _names(split):
        made = feature_network(project, view, fold)
        yield fold, made, needed_for(split, project.manifest.studies, fold)


@contextmanager
def saying_fold(fold: str) -> Iterator[None]:
    """Let an error of the data say which fold's network could not be trained."""
    try:
        yield
    except DataError as error:
        if fold != FOLD:
            error.view = ", ".join(filter(None, (error.view, fold)))
        raise
