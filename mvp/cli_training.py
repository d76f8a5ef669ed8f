"""Commands that help to train stage one."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mvp.cli_common import JsonOption, QuietOption, WorkspaceOption, listen, show


class _Phase(StrEnum):
    head = "head"
    all = "all"


def add_training_commands(app: typer.Typer) -> None:
    """Put them among the others."""
    app.command("lr-find")(lr_find)
    app.command("finetune-joint")(finetune_joint)


def lr_find(
    view: Annotated[str, typer.Option("--view", help="The view whose network is tested.")],
    workspace: WorkspaceOption = Path(),
    phase: Annotated[
        _Phase, typer.Option(help="head: the new classifier; all: the whole network.")
    ] = _Phase.all,
    steps: Annotated[int, typer.Option(min=10, help="Steps of the test, at most.")] = 100,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Try learning rates on a view's network and suggest one; nothing is trained or changed.

    Example: mvp lr-find --view lateral --phase head
    """
    from mvp import pipeline

    listen(quiet)
    found = pipeline.lr_find(workspace, view, phase=phase.value, steps=steps, progress=not quiet)
    show(found, json)


def finetune_joint(
    workspace: WorkspaceOption = Path(),
    force: Annotated[bool, typer.Option("--force", help="Train a fresh one too.")] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train all views' networks and one head together, from what the two stages have learnt.

    [joint] in mvp.toml says how. Afterwards its head is called joint: mvp evaluate --head joint

    Example: mvp finetune-joint
    """
    from mvp import pipeline

    listen(quiet)
    show(pipeline.finetune_joint(workspace, force=force, progress=not quiet), json)
