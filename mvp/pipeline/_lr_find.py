"""`mvp lr-find`: which learning rate a view's network can take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mvp.config.variants import FROZEN_BODY, stays_untrained, trained_together
from mvp.errors import ConfigError
from mvp.pipeline.project import Project
from mvp.pipeline.recording import recording
from mvp.pipeline.sharing import all_views, require_sources, view_seed, with_first_weights
from mvp.pipeline.training_rows import training_inputs, training_rows
from mvp.stages.lr_find import lr_find
from mvp.training.curves import draw_range_test, write_range_test
from mvp.training.range_test import RangeTest

SETTINGS = {"head": "head_learning_rate", "all": "learning_rate"}


@dataclass
class LrFindOutcome:
    """What was found.

    Attributes:
        view: the view.
        setting: that the suggestion is for.
        found: the test.
        folder: with `lr_find.csv` and `lr_find.png`.
    """

    view: str
    setting: str
    found: RangeTest
    folder: str
    exit_code = 0

    def to_json(self) -> dict[str, Any]:
        """The outcome as plain values."""
        return {
            "view": self.view,
            "setting": f"training.{self.setting}",
            "suggestion": self.found.suggestion,
            "steepest": self.found.steepest,
            "tenth_of_minimum": self.found.tenth,
            "steps": len(self.found.rates),
            "diverged": self.found.diverged,
            "folder": self.folder,
        }

    @property
    def text(self) -> str:
        """For a person."""
        found = self.found
        steepest = "nowhere" if found.steepest is None else f"{found.steepest:.1e}"
        end = "it diverged" if found.diverged else "it did not diverge"
        return "\n".join(
            [
                f"{self.view}: the loss falls fastest at {steepest}; a tenth of its minimum's rate "
                f"is {found.tenth:.1e}; {end} ({len(found.rates)} steps)",
                f"suggestion, to be written into mvp.toml below [training]: "
                f"{self.setting} = {found.suggestion:.1e}",
                f"look at {self.folder}/lr_find.png before you believe it",
            ]
        )


def run_lr_find(
    workspace: str | Path = ".",
    view: str = "",
    *,
    phase: Literal["head", "all"] = "all",
    steps: int = 100,
    progress: bool = True,
) -> LrFindOutcome:
    """Test learning rates for a view's network; only a run folder is written.

    Args:
        workspace: its folder.
        view: its name.
        phase: "head", or "all" for the whole network.
        steps: of the test, at most.
        progress: show bars.

    Raises:
        ConfigError: there is no such view, or it has no network that is trained.
    """
    project = Project(workspace, progress=progress)
    name = project.config.require_views([view])[0]
    resolved = project.view(name)
    _require_training(project, name, phase)
    require_sources(project, [name])
    with recording(project.workspace, "lr-find") as run:
        rows = training_rows(project, resolved)
        found = lr_find(
            with_first_weights(project, resolved),
            training_inputs(project, resolved, rows),
            rows.labels,
            train=rows.train,
            inner=rows.inner,
            phase=phase,
            steps=steps,
            seed=view_seed(project, resolved),
            device=project.device,
            progress=progress,
        )
        write_range_test(run.folder / "lr_find.csv", found)
        draw_range_test(run.folder / "lr_find.png", f"{name}, phase {phase}", found)
        return LrFindOutcome(name, SETTINGS[phase], found, str(run.folder))


def _require_training(project: Project, name: str, phase: Literal["head", "all"]) -> None:
    view = project.view(name)
    why = None
    if view.imported or view.kind == "table":
        why = "it has no network"
    elif project.config.protocol == "frozen":
        why = 'protocol = "frozen"'
    elif stays_untrained(view):
        why = 'training.freeze = "all"'
    if len(group := trained_together(all_views(project), name)) > 1:
        raise ConfigError(
            "the rate of views with layers in common cannot be found for one of them",
            view=name,
            cause=f"{', '.join(group)} are trained together (network.share)",
            remedy='test with network.share = "none", and set the rate for the group',
        )
    if why is not None:
        raise ConfigError(
            "no network of this view is trained, so there is no learning rate to find",
            view=name,
            cause=why,
            remedy="name a view that `mvp finetune` trains",
        )
    if phase == "all" and view.training.freeze == FROZEN_BODY:
        raise ConfigError(
            "the head alone is trained, so learning_rate has no effect",
            view=name,
            cause='training.freeze = "all"',
            remedy="test head_learning_rate with --phase head",
        )
