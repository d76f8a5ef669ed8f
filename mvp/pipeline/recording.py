"""Run folders: what a verb did, its log, and who was rejected."""

from __future__ import annotations

import csv
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mvp.errors import printable
from mvp.files import replacing, safe_cell
from mvp.pipeline.workspace import Workspace

log = logging.getLogger("mvp")


@dataclass(frozen=True)
class Reject:
    """A study or image that could not be used, and why."""

    study: str
    view: str
    path: str
    line: str
    reason: str


REJECT_COLUMNS = ("study", "view", "path", "line", "reason")


class Run:
    """One run of a verb. Its folder is made when something is written to it."""

    def __init__(self, workspace: Workspace, verb: str) -> None:
        self._workspace, self._verb = workspace, verb

    @cached_property
    def folder(self) -> Path:
        """The run's folder."""
        return self._workspace.new_run(self._verb)

    def write_rejects(self, rejects: Sequence[Reject]) -> Path:
        """Write the reject table and say where it lies."""
        path = self.folder / "rejected.csv"
        write_rejects(path, rejects)
        return path


def write_rejects(path: Path, rejects: Sequence[Reject]) -> None:
    """Write a reject table; ids are written so that no spreadsheet runs them."""
    with rejects_writer(path) as write:
        write(rejects)


@contextmanager
def rejects_writer(path: Path) -> Iterator[Callable[[Iterable[Reject]], None]]:
    """Give what writes rows of a reject table, which appears whole at the end."""
    with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(REJECT_COLUMNS)

        def write(rejects: Iterable[Reject]) -> None:
            for reject in rejects:
                writer.writerow([safe_cell(getattr(reject, c)) for c in REJECT_COLUMNS])

        yield write


@contextmanager
def recording(workspace: Workspace, verb: str) -> Iterator[Run]:
    """Give the run's folder; the log goes there as well as to stderr."""
    run = Run(workspace, verb)
    handler = _LazyFile(run)
    handler.setFormatter(_utc("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    try:
        yield run
    except BaseException as error:
        # The kind of the error only: its text may hold what a decoder found in a header.
        log.debug("%s ended by %s", verb, type(error).__name__)
        raise
    finally:
        log.removeHandler(handler)
        handler.close()


def _utc(pattern: str) -> logging.Formatter:
    formatter = logging.Formatter(pattern)
    formatter.converter = time.gmtime
    return formatter


class _LazyFile(logging.Handler):
    """Writes to `log.txt` in the run's folder, which does not exist before the first line."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run

    def emit(self, record: logging.LogRecord) -> None:
        with (self._run.folder / "log.txt").open("a", encoding="utf-8") as stream:
            stream.write(printable(self.format(record)) + "\n")
