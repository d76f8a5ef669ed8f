"""Where everything lies in a workspace. No other file names a path."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mvp.config import NAME, Config, nearest
from mvp.errors import ConfigError
from mvp.files import create_exclusive
from mvp.types import UNFOLDED

# The network that no fold is held out from; what every name of a fold defaults to.
FOLD = UNFOLDED
# The networks of the joint training, which stand beside those of the folds.
JOINT = "joint"
EVALUATE_RUNS = "*-evaluate"
_NUMBERED = re.compile(r"fold-(0|[1-9][0-9]*)")


def fold_name(number: int) -> str:
    """The name of the network that never sees fold `number` of `split.csv`."""
    return f"fold-{number}"


def fold_number(name: str) -> int | None:
    """The fold that a network never sees, None for `all` and `joint`.

    Raises:
        ConfigError: nothing is called so.
    """
    if name in (FOLD, JOINT):
        return None
    if (found := _NUMBERED.fullmatch(name)) is None:
        raise ConfigError(
            f"{name!r} is no fold", remedy=f'folds are called "{FOLD}", "fold-0", "fold-1" and on'
        )
    return int(found[1])


@dataclass(frozen=True)
class Workspace:
    """One folder: settings, cache, networks, heads, runs and scores."""

    folder: Path

    @property
    def config(self) -> Path:
        """What the user wrote."""
        return self.folder / "mvp.toml"

    @property
    def manifest(self) -> Path:
        """The table that `mvp import` makes of a data set's own tables."""
        return self.folder / "manifest.csv"

    @property
    def split(self) -> Path:
        """Which part every study belongs to."""
        return self.folder / "split.csv"

    @property
    def inventory(self) -> Path:
        """What the image files are."""
        return self.folder / "cache" / "inventory.sqlite"

    def cache(self, config: Config) -> str | Path:
        """The feature store: a folder, or a URL as it stands."""
        place = config.extract.cache
        return place if "://" in place else self.folder / place

    def stage1(self, view: str, fold: str = FOLD) -> Path:
        """A view's network, that without one fold, or the joint network's body for the view."""
        fold_number(fold)
        return self.folder / "stage1" / view / fold

    def trained_folds(self, view: str) -> list[str]:
        """Names of the folds that a view has finished networks for, in order."""
        found = (self.folder / "stage1" / view).glob("fold-*/provenance.json")
        names = (p.parent.name for p in found if _NUMBERED.fullmatch(p.parent.name))
        return sorted(names, key=lambda name: fold_number(name) or 0)

    def engine(self, key: str) -> Path:
        """Which engine was decided on for a key, by its digest without the engine."""
        return self.folder / "engines" / f"{key}.json"

    @property
    def exports(self) -> Path:
        """Exported networks, as `KeptExports` names them."""
        return self.folder / "engines"

    def weights(self, view: str, fold: str = FOLD) -> Path:
        """The best weights of a view's network."""
        return self.stage1(view, fold) / "weights.safetensors"

    def encoder(self, view: str) -> Path:
        """How a view's values become features."""
        return self.stage1(view) / "encoder.json"

    def checkpoint(self, view: str, fold: str = FOLD) -> Path:
        """Where an interrupted training goes on."""
        return self.stage1(view, fold) / "checkpoint.safetensors"

    def training_started(self, view: str, fold: str = FOLD) -> Path:
        """What the training that left the checkpoint was begun with."""
        return self.stage1(view, fold) / "started.json"

    @property
    def joint(self) -> Path:
        """The joint network beside its bodies: its head, checkpoint and provenance."""
        return self.folder / "joint"

    def imported(self, view: str) -> Path:
        """Which studies have features from elsewhere, and which stored rows those are."""
        return self.folder / "imported" / f"{view}.json"

    @property
    def heads(self) -> Path:
        """All heads."""
        return self.folder / "heads"

    def head(self, name: str) -> Path:
        """One head: the fusion, and the heads of the single views in `views/`."""
        if not NAME.fullmatch(name):
            raise ConfigError(
                f"{name!r} cannot be the name of a head",
                remedy="use letters, digits, - and _ only",
            )
        return self.heads / name

    def fusion(self, name: str, fold: str = FOLD) -> Path:
        """The fusion of a head; of a cross-fitted one, that of one fold."""
        return self.head(name) if fold == FOLD else self.head(name) / fold

    def single(self, name: str, view: str, fold: str = FOLD) -> Path:
        """The head of one view alone, beside a fusion head."""
        return self.fusion(name, fold) / "views" / view

    def ablation(self, name: str) -> Path:
        """The fusion fitted on the rows of its own networks, beside a head."""
        return self.head(name) / "same-rows"

    def decisions(self, name: str) -> Path:
        """What a head decides: calibration, thresholds, prediction sets."""
        return self.head(name) / "decisions.json"

    def drift(self, name: str, fold: str = FOLD) -> Path:
        """What features looked like when a head was fitted."""
        return self.fusion(name, fold) / "drift.json"

    @staticmethod
    def provenance(folder: Path) -> Path:
        """What made an artefact."""
        return folder / "provenance.json"

    def new_run(self, verb: str) -> Path:
        """A fresh folder for one run's log, metrics and pictures."""
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        for attempt in range(1000):
            # Always there, so that names sort by time within one second too.
            folder = self.folder / "runs" / f"{stamp}-{attempt:03d}-{verb}"
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                continue
            return folder
        raise ConfigError("no run folder could be made", path=self.folder / "runs")

    def evaluations(self) -> list[Path]:
        """Folders of finished evaluations, the newest first."""
        folders = (self.folder / "runs").glob(EVALUATE_RUNS)
        done = [f for f in folders if self.provenance(f).exists()]
        return sorted(done, key=lambda f: f.name, reverse=True)

    @property
    def scores(self) -> Path:
        """Default place of score tables."""
        return self.folder / "scores"

    def secret(self) -> bytes:
        """The key under which patient ids are hashed in provenance; made once, kept here.

        Not in the cache: without it nobody can tell any more whom a network has seen.
        """
        path = self.folder / "patients.key"
        if not path.exists():
            create_exclusive(path, secrets.token_bytes(32))
        return path.read_bytes()

    def head_names(self) -> list[str]:
        """Names of the finished heads."""
        return sorted(p.parent.name for p in self.heads.glob("*/provenance.json"))

    def require_head(self, name: str | None, default: str) -> str:
        """The head meant: the one named, else the default's, else the only one.

        Raises:
            ConfigError: it is not there; what is there is listed.
        """
        names = self.head_names()
        fitted = [one for one in names if one != JOINT] or names
        if name is None and default not in names and len(fitted) == 1:
            return fitted[0]
        wanted = name or default
        if wanted not in names:
            raise ConfigError(
                f"there is no fitted head {wanted!r}" + nearest(wanted, names),
                cause=f"fitted heads: {', '.join(names) or 'none'}",
                remedy="name one of them with --head" if names else "run `mvp fit-head`",
            )
        return wanted
