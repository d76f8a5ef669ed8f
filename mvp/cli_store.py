"""Commands on the feature store itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mvp.cli_common import JsonOption, QuietOption, ViewOption, WorkspaceOption, listen, show

cache = typer.Typer(
    no_args_is_help=True,
    help="Look into the feature store, check it, tidy it, hand its features on.",
)
KeyArgument = Annotated[str, typer.Argument(help="A key's digest, or its beginning.")]


def add_store_commands(app: typer.Typer) -> None:
    """Mount the commands of this file."""
    app.add_typer(cache, name="cache")
    app.command("import-features")(import_features)


def import_features(
    table: Annotated[Path, typer.Argument(help="CSV, TSV, Parquet or .npz, one row per study.")],
    view: Annotated[str, typer.Option("--view", help="Name of the view, new or imported before.")],
    workspace: WorkspaceOption = Path(),
    study: Annotated[
        list[str] | None,
        typer.Option(
            help="Column of the study's id; repeat to join several (default: data.study)."
        ),
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="The features, with commas (default: every other column).")
    ] = None,
    drop: Annotated[
        str | None, typer.Option(help="Columns that are no features, with commas.")
    ] = None,
    made_by: Annotated[
        str | None, typer.Option(help="What gave the numbers: a model or software, with version.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Forget what was imported for the view before.")
    ] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Take a table of features from elsewhere as a view of its own, with the same guards.

    Example: mvp import-features --view radiomics radiomics.csv
    """
    from mvp import pipeline

    listen(quiet)
    show(
        pipeline.import_features(
            table,
            workspace,
            view=view,
            study=study or (),
            columns=names(columns),
            drop=names(drop),
            made_by=made_by,
            replace=replace,
            progress=not quiet,
        ),
        json,
    )


def names(text: str | None) -> list[str]:
    """The names in a text with commas."""
    return [name.strip() for name in (text or "").split(",") if name.strip()]


@cache.command("ls")
def ls(workspace: WorkspaceOption = Path(), json: JsonOption = False) -> None:
    """The keys in the store: rows, bytes, what made them, who uses them.

    Example: mvp cache ls
    """
    from mvp import pipeline

    show(pipeline.cache_ls(workspace), json)


@cache.command()
def verify(
    workspace: WorkspaceOption = Path(),
    view: ViewOption = None,
    sample: Annotated[
        int, typer.Option(min=0, help="Rows of each view to compute anew and compare.")
    ] = 8,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Compare all stored bytes with the ledger, and a sample with a fresh forward pass.

    Exit code 5 when anything differs; `mvp extract --verify` then recomputes just that.

    Example: mvp cache verify --sample 32
    """
    from mvp import pipeline

    listen(quiet)
    show(pipeline.cache_verify(workspace, view, sample=sample, progress=not quiet), json)


@cache.command()
def gc(
    workspace: WorkspaceOption = Path(),
    delete: Annotated[
        bool, typer.Option("--delete", help="Take it away; otherwise it is only listed.")
    ] = False,
    forget_missing: Annotated[
        bool,
        typer.Option(
            "--forget-missing", help="Workspaces whose folder is not on this machine do not count."
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """List features that no workspace uses, and what was merged or never published.

    Example: mvp cache gc, and when the list is right: mvp cache gc --delete
    """
    from mvp import pipeline

    listen(False)
    show(pipeline.cache_gc(workspace, delete=delete, forget_missing=forget_missing), json)


@cache.command()
def compact(
    workspace: WorkspaceOption = Path(),
    view: ViewOption = None,
    every: Annotated[bool, typer.Option("--all", help="Merge large segments too.")] = False,
    json: JsonOption = False,
) -> None:
    """Merge the many small segments that single studies leave; readers are not disturbed.

    Example: mvp cache compact && mvp cache gc --delete
    """
    from mvp import pipeline

    listen(False)
    show(pipeline.cache_compact(workspace, view, every=every), json)


@cache.command()
def diff(
    first: KeyArgument,
    second: KeyArgument,
    workspace: WorkspaceOption = Path(),
    json: JsonOption = False,
) -> None:
    """What differs between two keys, and between the rows that both have.

    Example: mvp cache diff 3f9a 71c0
    """
    from mvp import pipeline

    show(pipeline.cache_diff(workspace, first, second), json)


@cache.command()
def export(
    out: Annotated[Path, typer.Option(help="A new .npz, .parquet or .zarr.")],
    view: Annotated[str, typer.Option("--view", help="The view.")],
    workspace: WorkspaceOption = Path(),
    key: Annotated[
        str | None, typer.Option(help="Digest of another key than the present one.")
    ] = None,
    every_instance: Annotated[
        bool,
        typer.Option("--every-instance", help="A row for every image or slice, not one a study."),
    ] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write a view's features and their studies for somebody without mvp.

    Example: mvp cache export --view lateral --out lateral.npz
    """
    from mvp import pipeline

    listen(quiet)
    show(
        pipeline.cache_export(
            workspace, view, out, key=key, every_instance=every_instance, progress=not quiet
        ),
        json,
    )
