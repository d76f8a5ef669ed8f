"""Head: a fitted learner together with what it was fitted on."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mvp.errors import ConfigError, MvpError, StaleError, StoreDamagedError
from mvp.features.table import FeatureTable, Signature
from mvp.files import canonical_json, digest_file, digest_json, read_json, write_json
from mvp.learners.base import Learner, Validation
from mvp.learners.guards import checked_probabilities, require_matching, require_two_classes
from mvp.learners.registry import find_learner, make_learner
from mvp.types import FloatArray, Labels, Target

Tta = Literal["mean", "augment"]
FORMAT = 1
RECORD = "head.json"
_REFIT = "fit the head again: mvp fit-head"


@dataclass(eq=False)
class Head:
    """A fitted learner and what it was fitted on; study ids and patients are not kept.

    Attributes:
        learner: the fitted learner.
        name: its name or dotted path.
        options: the options it was made with.
        signature: views in order, their widths and feature keys.
        targets: the labels in order, with the classes of multi-class ones.
        seed: the seed of the fit.
        version: the version of this package that fitted it.
        tta: what it is of a study's draws: `mean`, fitted on their mean features; `augment`, fitted
            on every draw, and its probabilities are the mean over the draws.
    """

    learner: Learner
    name: str
    options: dict[str, Any]
    signature: Signature
    targets: tuple[Target, ...]
    seed: int
    version: str
    tta: Tta = "mean"
    _digest: str | None = field(default=None, repr=False)

    @classmethod
    def fit(
        cls,
        learner_name: str,
        options: Mapping[str, Any] | None,
        table: FeatureTable,
        labels: Labels,
        *,
        validation: Validation | None = None,
        seed: int,
        tta: Tta = "mean",
    ) -> Head:
        """Fit a learner by name.

        Args:
            learner_name: see `find_learner`.
            options: the learner's options; JSON values.
            table: features of the training studies.
            labels: their labels, in the same row order.
            validation: other patients' studies for early stopping.
            seed: decides everything that is random.
            tta: `augment` fits on a row for each draw of a study, and stops early on a row for each
                draw of a validation study, whose loss is then the mean over them.

        Raises:
            ConfigError: unknown learner or option, a value that it refuses, or a failing plugin.
            DataError: a label without two classes, or data that do not belong together.
        """
        options = dict(options or {})
        try:
            canonical_json(options)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                "a learner's options must be JSON values", cause=str(error)
            ) from error
        learner = make_learner(learner_name, options)
        require_matching(table, labels, validation)
        require_two_classes(labels)
        signature, targets = table.signature, labels.targets
        if tta == "augment":
            table, labels = _by_draw(table, labels)
            validation = None if validation is None else _by_draw(*validation)
        try:
            learner.fit(table, labels, validation=validation, seed=seed)
        except MvpError:
            raise
        except Exception as error:
            raise _failed(learner_name, "fitting", error) from error
        version = importlib.metadata.version("multiview-pipeline")
        return cls(learner, learner_name, options, signature, targets, seed, version, tta)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the probability columns, in order."""
        return tuple(name for target in self.targets for name in target.outputs)

    @property
    def digest(self) -> str:
        """Digest of the saved learner and its record; there is none before `save`."""
        if self._digest is None:
            raise ConfigError("a head has no digest before it is saved", remedy="call Head.save")
        return self._digest

    def predict(self, table: FeatureTable) -> FloatArray:
        """Probabilities, (study, output) float32 in [0, 1], columns as in `outputs`.

        Of a head that was fitted on draws: the mean of the probabilities of a study's draws.
        The table may hold more views than the head was fitted on, and in another order.

        Raises:
            ConfigError: a view is missing or has another width, or the learner fails.
            StaleError: a view's features were made by another network or preprocessing.
        """
        table = self._fitting(table)
        studies = len(table)
        if self.tta == "augment":
            table = table.by_draw()
        try:
            values = self.learner.predict(table)
        except MvpError:
            raise
        except Exception as error:
            raise _failed(self.name, "predicting", error) from error
        values = checked_probabilities(values, len(table), self.targets, self.name)
        if len(table) == studies:
            return values
        return np.asarray(values.reshape(studies, -1, values.shape[1]).mean(axis=1))

    def save(self, folder: Path) -> None:
        """Write `folder/learner/` and then, as the sign that it is whole, `folder/head.json`."""
        record = folder / RECORD
        record.unlink(missing_ok=True)
        files = folder / "learner"
        if files.exists():
            shutil.rmtree(files)
        files.mkdir(parents=True)
        self.learner.save(files)
        content = {
            "format": FORMAT,
            "version": self.version,
            "learner": self.name,
            "options": self.options,
            "seed": self.seed,
            "tta": self.tta,
            "signature": {
                "views": list(self.signature.views),
                "widths": list(self.signature.widths),
                "keys": list(self.signature.keys),
            },
            "targets": [{"name": t.name, "classes": list(t.classes)} for t in self.targets],
            "files": _digests(files, sync=True),
        }
        self._digest = digest_json(content)
        write_json(record, {**content, "digest": self._digest})

    @classmethod
    def load(cls, folder: Path) -> Head:
        """Read a saved head.

        Raises:
            ConfigError: there is no finished head, or its learner is not installed.
            StoreDamagedError: its files are not those that were saved.
        """
        record = folder / RECORD
        if not record.is_file():
            raise ConfigError("there is no finished head here", path=folder, remedy=_REFIT)
        try:
            content = read_json(record)
            digest = content.pop("digest")
            intact = digest == digest_json(content)
        except (ValueError, KeyError, AttributeError):
            intact = False
        if not intact:
            raise StoreDamagedError("the head's record was changed", path=record, remedy=_REFIT)
        if content["format"] != FORMAT:
            raise ConfigError(
                f"the head has format {content['format']}, this version reads {FORMAT}",
                path=record,
                remedy=_REFIT,
            )
        found = _digests(folder / "learner")
        for name in sorted(found.keys() | content["files"].keys()):
            if found.get(name) != content["files"].get(name):
                raise StoreDamagedError(
                    "a file of the head is not the one that was saved",
                    path=folder / "learner" / name,
                    remedy=_REFIT,
                )
        # The class that wrote the files reads them, and no other: checked before it is imported.
        learner_class = find_learner(content["learner"])
        try:
            learner = learner_class.load(folder / "learner")
        except MvpError:
            raise
        except Exception as error:
            raise _failed(content["learner"], "loading", error) from error
        signature = Signature(
            *(tuple(content["signature"][k]) for k in ("views", "widths", "keys"))
        )
        targets = tuple(Target(t["name"], tuple(t["classes"])) for t in content["targets"])
        return cls(
            learner,
            content["learner"],
            content["options"],
            signature,
            targets,
            content["seed"],
            content["version"],
            content.get("tta", "mean"),  # heads of older versions know no draws
            digest,
        )

    def _fitting(self, table: FeatureTable) -> FeatureTable:
        """The table with exactly the columns that the learner was fitted on."""
        wanted = self.signature
        missing = [view for view in wanted.views if view not in table.views]
        if missing:
            raise ConfigError(
                f"the head needs the view(s) {', '.join(missing)}, "
                f"the features hold {', '.join(table.views) or 'none'}",
                remedy="extract the missing view(s), or fit a head without them: mvp fit-head",
            )
        if table.views != wanted.views:
            table = table.only(wanted.views)
        offered = table.signature
        for view, old, new in zip(wanted.views, wanted.keys, offered.keys, strict=True):
            if old != new:
                raise StaleError(
                    f"the head was fitted on features with key {old}, these have key {new}",
                    view=view,
                    cause="they come from other weights, another layer or other preprocessing",
                    remedy=_REFIT,
                )
        for view, old_width, new_width in zip(
            wanted.views, wanted.widths, offered.widths, strict=True
        ):
            if old_width != new_width:
                raise ConfigError(
                    f"the head was fitted on {old_width} features, these are {new_width}",
                    view=view,
                    remedy=_REFIT,
                )
        return table


def _by_draw(table: FeatureTable, labels: Labels) -> Validation:
    """A row for each draw of every study, with the study's labels."""
    drawn = table.by_draw()
    if drawn is table:
        return table, labels
    return drawn, labels.select(np.arange(len(table)).repeat(table.draws))


def _digests(folder: Path, *, sync: bool = False) -> dict[str, str]:
    """Digest of every file under a folder, by relative path."""
    digests = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        if sync:
            with path.open("rb+") as stream:
                os.fsync(stream.fileno())
        digests[path.relative_to(folder).as_posix()] = digest_file(path)
    return digests


def _failed(learner: str, doing: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"the learner {learner!r} failed while {doing}",
        cause=f"{type(error).__name__}: {error}",
        remedy="check its options; mvp.learners.check_learner tests a learner of your own",
    )
