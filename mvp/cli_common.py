"""What all commands share: options, the log on stderr, results on stdout."""

from __future__ import annotations

import json as json_format
import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mvp.errors import printable

WorkspaceOption = Annotated[
    Path, typer.Option("--workspace", "-w", help="Folder with mvp.toml (default: here).")
]
ViewOption = Annotated[
    list[str] | None,
    typer.Option("--view", help="A view; repeat it for several (default: every view)."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only warnings.")]
HeadOption = Annotated[
    str | None,
    typer.Option("--head", help="Name of a fitted head (default: that of mvp.toml's learner)."),
]

_handlers: list[logging.Handler] = []


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def listen(quiet: bool) -> None:
    """Send the package's log to stderr."""
    logger = logging.getLogger("mvp")
    logger.setLevel(logging.DEBUG)
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.WARNING if quiet else logging.INFO)
    handler.setFormatter(_OneLine("%(message)s"))
    logger.addHandler(handler)
    logger.propagate = False
    _handlers.append(handler)


def show(outcome: Any, json: bool = False) -> None:
    """Print a result and leave with its exit code.

    Of the processes that `torchrun` starts together, the first one speaks for all.
    """
    if os.environ.get("RANK", "0") != "0" and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # Its exit code too: torchrun ends the others at the first one that is not 0.
        raise typer.Exit()
    if json:
        text = json_format.dumps(outcome.to_json(), ensure_ascii=False, allow_nan=False)
        # The same value, in characters that a terminal shows as they stand.
        typer.echo("".join(c if c.isprintable() else json_format.dumps(c)[1:-1] for c in text))
    else:
        typer.echo("\n".join(printable(line) for line in outcome.text.split("\n")))
    sys.stdout.flush()
    raise typer.Exit(outcome.exit_code)


def silence() -> None:
    """Take the handlers away again."""
    while _handlers:
        logging.getLogger("mvp").removeHandler(_handlers.pop())
