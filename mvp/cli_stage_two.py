"""Commands that compare what stage two can be made of."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mvp.cli_common import HeadOption, JsonOption, QuietOption, WorkspaceOption, listen, show
from mvp.errors import ConfigError


def add_stage_two_commands(app: typer.Typer) -> None:
    """Put them among the others."""
    app.command("compare")(compare)
    app.command("next-view")(next_view)


def compare(
    workspace: WorkspaceOption = Path(),
    learners: Annotated[
        str | None,
        typer.Option(help="With commas (default: mlp,xgboost,logistic and mvp.toml's)."),
    ] = None,
    protocols: Annotated[
        str | None, typer.Option(help="With commas, as holdout,crossfit (default: mvp.toml's).")
    ] = None,
    subsets: Annotated[
        str,
        typer.Option(
            help="Of the views: all, singles (and all together), full; auto: all of up to five."
        ),
    ] = "auto",
    views: Annotated[
        str | None, typer.Option(help="Views to take subsets of, with commas (default: all).")
    ] = None,
    heads: Annotated[
        str | None,
        typer.Option(help="Finished heads beside them, with commas (default: joint, if there)."),
    ] = None,
    shapley: Annotated[
        bool | None,
        typer.Option(
            "--shapley/--no-shapley", help="What each view is worth (default: of up to five)."
        ),
    ] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Learners on subsets of views under protocols: ranked on validation, reported on test.

    Example: mvp compare --learners mlp,xgboost --subsets full
    """
    from mvp import pipeline

    listen(quiet)
    found = pipeline.compare(
        workspace,
        _names(learners, "--learners"),
        protocols=_names(protocols, "--protocols"),
        subsets=subsets,
        views=_names(views, "--views"),
        heads=_names(heads, "--heads"),
        shapley=shapley,
        progress=not quiet,
    )
    show(found, json)


def next_view(
    table: Annotated[
        Path | None, typer.Argument(help="Studies, as for `mvp score` (default: the test studies).")
    ] = None,
    workspace: WorkspaceOption = Path(),
    head: HeadOption = None,
    root: Annotated[
        Path | None, typer.Option(help="Where the table's paths start (default: data.root).")
    ] = None,
    neighbours: Annotated[
        int | None,
        typer.Option(
            min=10, help="Similar studies that a share rests on (default: 30, of many more)."
        ),
    ] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """For every study that lacks a view: which one would most likely change its decisions.

    Example: mvp next-view new.csv --head xgboost
    """
    from mvp import pipeline

    listen(quiet)
    show(
        pipeline.next_view(
            workspace,
            table,
            head=head,
            root=root,
            neighbours=neighbours,
            progress=not quiet,
        ),
        json,
    )


def _names(text: str | None, option: str) -> list[str] | None:
    """Names with commas between them; None where the option was not given."""
    if text is None:
        return None
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise ConfigError(f"{option} names nothing", remedy=f"name some, or leave {option} out")
    return names
