"""The command line: parse, one call into the pipeline, print.

Results go to stdout, logs and progress to stderr. `--help` must answer at once, so nothing heavy
is imported before a verb is called.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from mvp.cli_common import (
    HeadOption,
    JsonOption,
    QuietOption,
    ViewOption,
    WorkspaceOption,
    listen,
    show,
    silence,
)
from mvp.cli_data import add_data_commands
from mvp.cli_networks import add_network_commands
from mvp.cli_stage_two import add_stage_two_commands
from mvp.cli_store import add_store_commands
from mvp.cli_training import add_training_commands
from mvp.errors import INTERRUPTED_EXIT_CODE, ConfigError, MvpError

app = typer.Typer(
    name="mvp",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Two-stage learning for multi-view studies: one CNN per view, cached features, any "
    "learner on top.\n\nStart with `mvp demo`, or with `mvp init TABLE`. Results go to stdout, "
    "progress to stderr. Exit codes: 0 done, 1 failed on the way, 2 usage or settings, 3 bad input "
    "data, 4 done but some images or studies were rejected, 5 the feature store is damaged, 130 "
    "interrupted.",
)

add_data_commands(app)
add_store_commands(app)
add_training_commands(app)
add_network_commands(app)
add_stage_two_commands(app)


@app.command()
def finetune(
    workspace: WorkspaceOption = Path(),
    view: ViewOption = None,
    force: Annotated[bool, typer.Option("--force", help="Train fresh networks too.")] = False,
    folds: Annotated[
        int | None, typer.Option(help="Cross-fit: so many networks a view, each without one fold.")
    ] = None,
    fold: Annotated[
        int | None, typer.Option(help="Only the network without this fold, from 0; for job arrays.")
    ] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Stage one: train each view's network. Interrupted and started again, it goes on.

    Example: mvp finetune --view lateral; mvp finetune --folds 5
    """
    from mvp import pipeline

    listen(quiet)
    done = pipeline.finetune(
        workspace, view, force=force, folds=folds, fold=fold, progress=not quiet
    )
    show(done, json)


@app.command()
def extract(
    workspace: WorkspaceOption = Path(),
    view: ViewOption = None,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Compare all stored bytes first; recompute damaged units."),
    ] = False,
    shard: Annotated[
        str | None, typer.Option(help="For job arrays: 3/16 takes the third of sixteen parts.")
    ] = None,
    folds: Annotated[
        bool, typer.Option("--folds", help="With the networks of the folds, each its studies.")
    ] = False,
    from_joint: Annotated[
        bool, typer.Option("--from-joint", help="With the bodies of the joint network.")
    ] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write each view's pooled features to the store; what is stored costs nothing.

    Started several times, also on several machines, the processes share the work.

    Example: mvp extract --view lateral
    """
    from mvp import pipeline

    listen(quiet)
    done = pipeline.extract(
        workspace,
        view,
        verify=verify,
        shard=shard,
        folds=folds,
        from_joint=from_joint,
        progress=not quiet,
    )
    show(done, json)


@app.command("fit-head")
def fit_head(
    workspace: WorkspaceOption = Path(),
    learner: Annotated[
        str | None,
        typer.Option(help="mlp, xgboost, logistic, a plugin, or dotted.path.Of.Classifier."),
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option("--set", help="An option of the learner, name=value; repeat it."),
    ] = None,
    views: Annotated[
        str | None, typer.Option("--views", help="Views to use, with commas (default: all).")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the head (default: the learner's).")
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(help="holdout, crossfit, frozen, or the ablation same-rows.")
    ] = None,
    trials: Annotated[
        int | None, typer.Option(help="Search the learner's options: so many of them, 2 or more.")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(help="Seconds after which no further trial begins.")
    ] = None,
    sweep: Annotated[
        bool | None,
        typer.Option("--sweep/--no-sweep", help="Choose C of logistic; lists all view subsets."),
    ] = None,
    from_joint: Annotated[
        bool, typer.Option("--from-joint", help="On the features of the joint network's bodies.")
    ] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Stage two: train a learner on the cached features of all views.

    Example: mvp fit-head --learner xgboost --set max_depth=3; --trials 50 --timeout 3600
    """
    from mvp import pipeline

    listen(quiet)
    some = [v.strip() for v in views.split(",") if v.strip()] if views is not None else None
    if some is not None and not some:
        raise ConfigError("--views names no view", remedy="name some, as --views frontal,lateral")
    show(
        pipeline.fit_head(
            workspace,
            learner,
            pipeline.parse_options(options or []),
            views=some,
            name=name,
            protocol=protocol,
            trials=trials,
            timeout=timeout,
            sweep=sweep,
            from_joint=from_joint,
            progress=not quiet,
        ),
        json,
    )


@app.command()
def evaluate(
    workspace: WorkspaceOption = Path(),
    head: HeadOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Each view alone, the mean of their opinions and the fusion on the test studies.

    Example: mvp evaluate --head xgboost
    """
    from mvp import pipeline

    listen(quiet)
    show(pipeline.evaluate(workspace, head, progress=not quiet), json)


@app.command()
def score(
    table: Annotated[Path, typer.Argument(help="Studies to score, columns as in the workspace's.")],
    workspace: WorkspaceOption = Path(),
    out: Annotated[
        Path | None, typer.Option(help=".csv or .parquet (default: scores/TABLE.csv).")
    ] = None,
    head: HeadOption = None,
    root: Annotated[
        Path | None, typer.Option(help="Where the table's paths start (default: data.root).")
    ] = None,
    cached_only: Annotated[
        bool, typer.Option("--cached-only", help="Open no image; use the cache alone.")
    ] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Score new studies in batch, one row per study; extracts only what is missing.

    Example: mvp score new.csv --out scores.parquet
    """
    from mvp import pipeline

    listen(quiet)
    show(
        pipeline.score(
            table,
            workspace,
            out,
            head=head,
            root=root,
            cached_only=cached_only,
            progress=not quiet,
        ),
        json,
    )


@app.command()
def run(
    workspace: WorkspaceOption = Path(),
    learner: Annotated[str | None, typer.Option(help="Instead of mvp.toml's learner.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would run, and why.")
    ] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """The whole way, skipping what is fresh, saying why each step runs or does not.

    Example: mvp run --dry-run
    """
    from mvp import pipeline

    listen(quiet)
    show(pipeline.run(workspace, learner=learner, dry_run=dry_run, progress=not quiet), json)


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="A new folder for the demo.")] = Path("mvp-demo"),
    data_only: Annotated[
        bool, typer.Option("--data-only", help="Make data and workspace, and stop.")
    ] = False,
    studies: Annotated[int | None, typer.Option(min=60, help="How many studies to make.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Other data.")] = 0,
    quiet: QuietOption = False,
) -> None:
    """Make chest phantoms in a folder and walk the whole way on them.

    Example: mvp demo --studies 300 trial
    """
    from mvp import pipeline

    listen(quiet)
    show(pipeline.demo(folder, data_only=data_only, studies=studies, seed=seed, progress=not quiet))


def main() -> None:
    """Run the command line; every error that a user can meet ends as one line and an exit code."""
    try:
        app()
    except MvpError as error:
        typer.echo(f"mvp: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo("mvp: interrupted; run the same command again to go on", err=True)
        sys.exit(INTERRUPTED_EXIT_CODE)
    except BrokenPipeError:
        # The reader has left, as `| head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        typer.echo(f"mvp: {error.strerror or error}{where}", err=True)
        sys.exit(MvpError.exit_code)
    except Exception as error:
        if os.environ.get("MVP_DEBUG"):
            raise
        # The kind only: the text may hold what a decoder found in a file.
        typer.echo(
            f"mvp: a bug, {type(error).__name__}. Remedy: set MVP_DEBUG=1 to see where, and "
            "report it",
            err=True,
        )
        sys.exit(MvpError.exit_code)
    finally:
        silence()
