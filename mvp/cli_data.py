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
    app.command()(split)
    app.command("import")(import_dataset)


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
    burned_in: Annotated[
        bool,
        typer.Option("--burned-in", help="List DICOM files that say their picture holds a name."),
    ] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Check table, files, views, labels per split, leaks and damaged files.

    Exit code 3 when something costs images or studies.

    Example: mvp check --json
    """
    from mvp import pipeline

    listen(quiet)
    found = pipeline.check(workspace, files=files, burned_in=burned_in, progress=not quiet)
    show(found, json)


def split(
    workspace: WorkspaceOption = Path(),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be dealt; write nothing.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Deal all anew; trained networks become stale.")
    ] = False,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of this dealing, instead of split.seed.")
    ] = None,
    link_near: Annotated[
        bool, typer.Option("--link-near", help="Keep near-identical images in one part.")
    ] = False,
    new_folds: Annotated[
        bool, typer.Option("--new-folds", help="Deal the folds anew and leave the parts.")
    ] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Deal patients to parts, show labels and views of each, and write split.csv.

    Studies that stand in split.csv stay; exit code 3 when a patient or image is in two parts.

    Example: mvp split --dry-run
    """
    from mvp import pipeline

    listen(quiet)
    show(
        pipeline.split(
            workspace,
            dry_run=dry_run,
            force=force,
            seed=seed,
            link_near=link_near,
            new_folds=new_folds,
            progress=not quiet,
        ),
        json,
    )


def import_dataset(
    kind: Annotated[
        str,
        typer.Argument(
            help="chexpert, mimic-cxr, padchest, nih-cxr14, openi, mrnet, vindr-mammo, "
            "cbis-ddsm, rsna-mammo, or folder."
        ),
    ],
    source: Annotated[Path, typer.Argument(help="Its table, or its folder.")],
    root: Annotated[
        Path | None, typer.Option(help="Where the images' paths start (default: SOURCE's folder).")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder for manifest.csv and mvp.toml (default: here).")
    ] = Path(),
    labels: Annotated[Path | None, typer.Option(help="A table of labels apart.")] = None,
    metadata: Annotated[Path | None, typer.Option(help="A table on images apart.")] = None,
    split: Annotated[Path | None, typer.Option(help="A table or list of splits apart.")] = None,
    pattern: Annotated[str | None, typer.Option(help="Of file names, for folder.")] = None,
    finding: Annotated[
        list[str] | None,
        typer.Option(help="A label wanted; repeat it (default: those frequent enough)."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite manifest.csv and mvp.toml.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """A public data set's own tables become a manifest and a commented mvp.toml.

    Example: mvp import chexpert train.csv --root data --out work
    """
    from mvp import pipeline

    show(
        pipeline.import_dataset(
            kind,
            source,
            out,
            root=root,
            labels=labels,
            metadata=metadata,
            split=split,
            pattern=pattern,
            findings=finding or (),
            force=force,
        ),
        json,
    )
