"""The error family: what happened, where, why, and what mends it.

Every error that a user can meet is an `MvpError`. It prints as one line and carries the exit
code of the command line. Anything else that reaches a user is a bug.
"""

from __future__ import annotations


def printable(text: str) -> str:
    """The text in one line that every terminal shows as it stands.

    Ids and file names come from strangers: line breaks, control characters and marks that turn the
    direction of writing become blanks.
    """
    return "".join(c if c.isprintable() else " " for c in text)


class MvpError(Exception):
    """An error that says what happened, in which study, view and path, why, and the remedy.

    Args:
        what: what happened, without a full stop.
        study: the study's id, as the manifest writes it.
        view: the view's name.
        path: the file or folder concerned.
        cause: the likely cause.
        remedy: the command or setting that mends it.
    """

    exit_code = 1

    def __init__(
        self,
        what: str,
        *,
        study: str | None = None,
        view: str | None = None,
        path: object | None = None,
        cause: str | None = None,
        remedy: str | None = None,
    ) -> None:
        self.what = what
        self.study = study
        self.view = view
        self.path = None if path is None else str(path)
        self.cause = cause
        self.remedy = remedy
        super().__init__(what)

    def __str__(self) -> str:
        places = [
            f"{name} {value}"
            for name, value in (("study", self.study), ("view", self.view), ("file", self.path))
            if value is not None
        ]
        line = self.what + (f" ({', '.join(places)})" if places else "")
        if self.cause:
            line += f": {self.cause}"
        if self.remedy:
            line += f"{'' if line.endswith('?') else '.'} Remedy: {self.remedy}"
        return printable(line)


class ConfigError(MvpError):
    """A wrong command, setting or order of steps."""

    exit_code = 2


class MissingExtraError(ConfigError):
    """An optional library is not installed."""

    def __init__(self, library: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the library {library!r}, which is not installed",
            remedy=f"pip install 'multiview-pipeline[{extra}]'",
        )


class StaleError(ConfigError):
    """An artefact was made from other things than those that lie here now."""


class DataError(MvpError):
    """The input data cannot be used as they are."""

    exit_code = 3


class ImageError(DataError):
    """One image cannot be read; the caller turns it into a row of the reject table."""


class StoreDamagedError(MvpError):
    """The feature store holds something other than what its ledger says."""

    exit_code = 5


class StorageError(MvpError):
    """The place of the feature store cannot be read or written now; nothing is known to be wrong.

    Never raised for what is merely absent: absence and failure must not be confused, or a network
    that is down would look like an empty store.
    """


REJECTED_EXIT_CODE = 4
INTERRUPTED_EXIT_CODE = 130
