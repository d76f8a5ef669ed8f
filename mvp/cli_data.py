"""Commands on what users bring: tables, images, splits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mvp.cli_common import JsonOption, QuietOption, WorkspaceOption, listen, show


def add_data_commands(app: typer.Typer) -> None:
    """Mount the commands of this file."""
    app.command()(init)
    app.command()(check)


def init(
    table: Annotated[Path, typer.Argument(help="CSV, TSV or Parquet, one row per image.")],
    workspace: WorkspaceOption = Path(),
    root: Annotated[
        Path | None, typer.Option(help="Where the table's paths start (default: its folder).")
    ] = None,
    study: Annotated[
        list[str] | None, typer.Option(help="Column of the study id; repeat to join several.")
    ] = None,
    patient: Annotated[list[str] | None, typer.Option(help="Column of the patient id.")] = None,
    view: Annotated[str, typer.Option(help="Column that names the view.")] = "",
    path: Annotated[str, typer.Option(help="Column of the image files.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Overwrite an mvp.toml.")] = False,
) -> None:
    """Look at a table and write a commented mvp.toml; says what it guessed.

    Example: mvp init studies.csv --root images --study patient --study day
    """
    from mvp import pipeline

    show(
        pipeline.init(
            table,
            workspace,
            root=root,
            study=study or (),
            patient=patient or (),
            view=view,
            path=path,
            force=force,
        )
    )


def check(
    workspace: WorkspaceOption = Path(),
    files: Annotated[
        bool, typer.Option("--files/--no-files", help="Open every image, or only the table.")
    ] = True,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Check table, files, views, labels per split, leaks and damaged files.

    Exit code 3 when something costs images or studies.

    Example: mvp check --json
    """
    from mvp import pipeline

    listen(quiet)
    show(pipeline.check(workspace, files=files, progress=not quiet), json)
