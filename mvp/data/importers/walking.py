"""The files of a folder, each of them accounted for: found, or passed over for a reason."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from mvp.errors import DataError

MAX_FILES = 2_000_000
HIDDEN = "hidden files and folders"
OUTSIDE = "links that lead out of the folder, or nowhere"
FOLDER_LINKS = "links to folders"
NO_FILES = "names that are no files"
ODD_NAMES = "names that no table can hold (not UTF-8, control characters, spaces at an end)"


@dataclass(frozen=True)
class Walk:
    """What a folder holds.

    Attributes:
        files: paths under the folder with forward slashes, sorted.
        passed_over: reason to number of names; a hidden folder counts once.
    """

    files: list[str]
    passed_over: Counter[str] = field(default_factory=Counter)


def walk(folder: Path, limit: int = MAX_FILES) -> Walk:
    """Every file below a folder, in an order that depends on the names alone.

    Links to files are followed where they stay in the folder, links to folders never.

    Raises:
        DataError: a folder cannot be listed, or there are more names than `limit`.
    """
    real = os.path.realpath(folder)
    found = Walk([])
    waiting, seen = [""], 0
    while waiting:
        below = waiting.pop()
        try:
            with os.scandir(folder / below) as entries:
                listed = list(entries)
        except OSError as error:
            raise DataError(
                "the folder cannot be listed", path=folder / below, cause=error.strerror
            ) from None
        seen += len(listed)
        if seen > limit:
            raise DataError(
                f"the folder holds more than {limit} names",
                path=folder,
                remedy="name the folder of the images, or write a table and use `mvp init`",
            )
        for entry in listed:
            name = f"{below}/{entry.name}" if below else entry.name
            if reason := _reason(entry, real):
                found.passed_over[reason] += 1
            elif entry.is_dir(follow_symlinks=False):
                waiting.append(name)
            else:
                found.files.append(name)
    found.files.sort()
    return found


def _reason(entry: os.DirEntry[str], real: str) -> str:
    """Why a name is passed over, or ""."""
    name = entry.name
    if name.startswith("."):
        return HIDDEN
    # The manifest strips its cells, and a lone surrogate cannot be written.
    if not name.isprintable() or name != name.strip():
        return ODD_NAMES
    try:
        if entry.is_symlink():
            target = os.path.realpath(entry.path)
            if not target.startswith(real.rstrip(os.sep) + os.sep):
                return OUTSIDE
            if entry.is_dir():
                return FOLDER_LINKS
            return "" if entry.is_file() else OUTSIDE
        return "" if entry.is_dir() or entry.is_file() else NO_FILES
    except OSError:  # a link that leads to itself
        return OUTSIDE
