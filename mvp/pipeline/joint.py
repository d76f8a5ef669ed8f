"""What a joint network is made of: its views, studies and starting point, and what decides it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from mvp.config import ResolvedView
from mvp.config.training import WITHOUT_EFFECT_ON_WEIGHTS, Slices
from mvp.config.variants import NO_SHARE, stays_untrained, trained_together
from mvp.data.augment import Augmentation
from mvp.data.datasets import InputSet
from mvp.data.loading import Request
from mvp.data.reading.inventory import FileRecord
from mvp.errors import ConfigError
from mvp.features import FeatureTable
from mvp.files import digest_json
from mvp.learners.torch_base import TorchLearner
from mvp.networks import Network
from mvp.networks.sharing import SharedNetworks, share_stem
from mvp.pipeline.heads import (
    SavedHead,
    load_head,
    reading,
    require_current_keys,
    require_current_reading,
    require_same_labels,
)
from mvp.pipeline.joint_rows import ViewRows, reduction, view_rows
from mvp.pipeline.networks import (
    feature_network,
    initial_network,
    network_inputs,
    open_stores,
    outputs_of,
    view_inputs,
    view_key,
    view_targets,
)
from mvp.pipeline.project import Project
from mvp.pipeline.provenance import read_provenance
from mvp.pipeline.sharing import all_views, inherited, require_sources, with_first_weights
from mvp.pipeline.stage_two import current_keys, joint_masks
from mvp.pipeline.tables import cached_table, labels_digest, rows_digests
from mvp.pipeline.workspace import JOINT
from mvp.stages._joint_head import joinable
from mvp.stages.finetune_joint import JointData, JointMember
from mvp.training.result import first_network
from mvp.types import BoolArray, FloatArray, IntArray


class JointPlan:
    """A joint network as it would be trained.

    Args:
        project: the workspace.

    Attributes:
        project: the workspace.
        settings: `[joint]`.
        saved: the head of stage two that it starts from; None where it starts without one.
        views: all its views, in the head's order.
        bodies: those of them with a network.

    Raises:
        ConfigError: there is no such start.
        StaleError: what it would start from is not up to date.
    """

    def __init__(self, project: Project) -> None:
        self.project, self.settings = project, project.config.joint
        if self.settings.start != "weights" and project.config.protocol == "crossfit":
            raise ConfigError(
                f'joint.start = "{self.settings.start}" needs one network a view, and protocol = '
                '"crossfit" has one for every fold',
                remedy='set joint.start = "weights", or protocol = "holdout"',
            )
        self.saved = self._head() if self.settings.start == "stages" else None
        self.views = (
            list(self.saved.ensemble.views)
            if self.saved is not None
            else project.config.require_views(project.config.head.views)
        )
        kinds = project.config.views
        self.bodies = [v for v in self.views if not kinds[v].imported and kinds[v].kind != "table"]
        if not self.bodies:
            raise ConfigError(
                "a joint network needs a view with a network",
                cause=f"{', '.join(self.views)} hold imported features or values",
                remedy="fit a head on them: `mvp fit-head`",
            )

    @cached_property
    def masks(self) -> dict[str, BoolArray]:
        """(study,) of the manifest: `train` and `inner`, whoever has a readable view."""
        seen = self._seen
        masks = joint_masks(self.project)
        return {role: np.asarray(mask & seen) for role, mask in masks.items()}

    @property
    def how(self) -> Slices:
        """What becomes of several images or slices of a study."""
        return reduction(self.project, self.rows.values())

    @property
    def studies(self) -> IntArray:
        """The studies that take part, as the manifest counts them."""
        return np.flatnonzero(self.masks["train"] | self.masks["inner"])

    @cached_property
    def inputs(self) -> dict[str, Any]:
        """What decides the weights, by name."""
        project, settings = self.project, self.settings
        training = settings.model_dump(
            mode="json", exclude={"training": set(WITHOUT_EFFECT_ON_WEIGHTS), "head": True}
        )
        views = {}
        for name in self.bodies:
            view = project.view(name)
            augment = view.augment.model_dump(mode="json") if view.kind == "image" else None
            layer = [view.network.layers, view.network.pooling, view.network.share]
            views[name] = [network_inputs(project, view, JOINT), augment, layer, view.labels]
        rows = {
            name: [
                [own.records[i].digest for i in np.flatnonzero(np.isin(own.owner, part))]
                for part in self._parts
            ]
            for name, own in self.rows.items()
        }
        labels = project.manifest.labels.select(self.studies)
        return {
            "the settings of the joint training": digest_json(training),
            "its views": digest_json([self.views, views, reading(project, self.views)]),
            "where it starts": self._start(),
            "its images": digest_json(rows),
            "its other features": self._fixed_inputs(),
            "what becomes of several images": self.how,
            "its studies": digest_json([part.tolist() for part in self._parts]),
            "the labels": labels_digest(labels),
            "the seed": project.config.seed,
        }

    @property
    def _parts(self) -> tuple[IntArray, IntArray]:
        return np.flatnonzero(self.masks["train"]), np.flatnonzero(self.masks["inner"])

    @cached_property
    def rows(self) -> dict[str, ViewRows]:
        """The inputs of every body, of the studies of stage one and two."""
        return {name: view_rows(self.project, name) for name in self.bodies}

    def members(self) -> tuple[list[JointMember], list[SharedNetworks]]:
        """The bodies with their first weights and inputs, and which of them have common layers."""
        found = {name: self.body(name) for name in self.bodies}
        every, shared = all_views(self.project), []
        for group in dict.fromkeys(
            trained_together(every, name)
            for name in self.bodies
            if every[name].network.share != NO_SHARE
        ):
            networks = {name: found[name][1] for name in group if name in found}
            if len(networks) > 1:
                shared.append(share_stem(networks, every[group[0]].network.share))
        place = {int(study): i for i, study in enumerate(self.studies)}
        members = []
        for name, (view, network, trained) in found.items():
            own = self.rows[name]
            kept = [i for i, study in enumerate(own.owner) if int(study) in place]
            members.append(
                JointMember(
                    view=view,
                    network=network,
                    trained=trained,
                    images=self._images(view, [own.records[i] for i in kept]),
                    owner=np.array([place[int(own.owner[i])] for i in kept], np.int64),
                    folder=self.project.workspace.stage1(name, JOINT),
                )
            )
        return members, shared

    def data(self) -> JointData:
        """Labels, parts, and the features of views without a body."""
        chosen = self.studies
        labels = self.project.manifest.labels.select(chosen)
        train, inner = (np.searchsorted(chosen, part) for part in self._parts)
        # Who has no known label teaches nothing.
        known = np.asarray(np.isfinite(labels.values).any(axis=1))
        fixed: dict[str, FloatArray] = {}
        rest = [view for view in self.views if view not in self.bodies]
        if rest:
            mask = np.zeros(len(self.project.manifest), bool)
            mask[chosen] = True
            table = cached_table(self.project, open_stores(self.project, rest), mask)
            for position, view in enumerate(rest):
                values = table.only([view]).matrix()
                values[~table.presence[:, position]] = np.nan
                fixed[view] = values
        return JointData(labels, train[known[train]], inner[known[inner]], self.views, fixed)

    def learner(self) -> TorchLearner | None:
        """The head that it starts from."""
        if self.saved is None:
            return None
        fusion = self.saved.ensemble.first.fusion
        return joinable(fusion.learner, self.saved.name)

    def table(self) -> FeatureTable | None:
        """Features of all its studies by the networks that it starts from, if all are stored."""
        if self.settings.start != "networks":
            return None
        mask = np.zeros(len(self.project.manifest), bool)
        mask[self.studies] = True
        try:
            return cached_table(self.project, open_stores(self.project, self.views), mask)
        except ConfigError:
            return None

    def inherited(self) -> list[Mapping[str, Any]]:
        """Provenances of what it starts from: whom these saw, it has seen."""
        found: list[Mapping[str, Any]] = []
        if self.saved is not None:
            found.append(self.saved.provenance)
        if self.settings.start == "weights" or self.project.config.protocol == "frozen":
            return [*found, *inherited(self.project, self.bodies)]
        made = (read_provenance(self.project.workspace.stage1(name)) for name in self.bodies)
        return [*found, *(one for one in made if one is not None)]

    def _head(self) -> SavedHead:
        saved = load_head(self.project, self.settings.head)
        if saved.on_joint or saved.provenance["protocol"] in ("joint", "crossfit"):
            raise ConfigError(
                f"the head {saved.name!r} is none that a joint network could start from",
                cause="it stands on the joint network, or on the networks of folds",
                remedy="name another with joint.head, fitted by `mvp fit-head`",
            )
        joinable(saved.ensemble.first.fusion.learner, saved.name)
        require_current_reading(self.project, saved)
        require_same_labels(self.project, saved)
        views = list(saved.ensemble.views)
        require_current_keys(saved, current_keys(self.project, views, "holdout"))
        return saved

    def _fixed_inputs(self) -> Any:
        """The keys and rows of views without a body."""
        rest = [view for view in self.views if view not in self.bodies]
        keys = {view: view_key(self.project, view).digest for view in rest}
        return [keys, rows_digests(self.project, rest, list(self.masks.values()))] if rest else []

    def _start(self) -> Any:
        if self.saved is not None:
            return ["stages", self.saved.digest]
        own = {}
        for name in self.bodies:
            if self.settings.start == "networks" and self.project.config.protocol != "frozen":
                made = read_provenance(self.project.workspace.stage1(name)) or {}
                own[name] = made.get("weights", "not trained yet")
            else:
                own[name] = network_inputs(self.project, self.project.view(name))["the network"]
        return [self.settings.start, own]

    def body(self, name: str) -> tuple[ResolvedView, Network, bool]:
        """A view, its network as training starts from it, and whether its classifier is trained."""
        project, view = self.project, self.project.view(name)
        outputs = outputs_of(view_targets(project, view))
        if self.settings.start == "weights":
            require_sources(project, [name])
            first = with_first_weights(project, view)
            return view, first_network(first, outputs, project.config.seed), False
        if project.config.protocol == "frozen":
            return view, initial_network(project, view, outputs), False
        # Of a network that stays as it was published the classifier is new, and untrained.
        return view, feature_network(project, name).network, not stays_untrained(view)

    def _images(self, view: ResolvedView, records: Sequence[FileRecord]) -> InputSet:
        return InputSet(
            [Request(r.file, r.digest, tuple(range(r.instances))) for r in records],
            view_inputs(self.project, self.project.manifest, view),
            Augmentation(view.augment) if view.kind == "image" else None,
            self.project.workers,
            int(self.settings.training.memory_gb * 2**30 / len(self.bodies)),
        )

    @cached_property
    def _seen(self) -> BoolArray:
        """(study,) whoever has a readable input of a body, or features of another view."""
        seen = np.zeros(len(self.project.manifest), bool)
        for own in self.rows.values():
            seen[own.owner] = True
        rest = [view for view in self.views if view not in self.bodies]
        if rest:
            table = cached_table(self.project, open_stores(self.project, rest))
            seen |= np.asarray(table.presence.any(axis=1))
        return seen
