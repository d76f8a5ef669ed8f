"""From a path as a table writes it to a file under the data root, or to why it is refused."""

from __future__ import annotations

import os
import re
from pathlib import Path

# A relative path without anything that normalising would change; it cannot lead out.
_PLAIN = re.compile(r"(?:[^/.:\\\0][^/:\\\0]*/)*[^/.:\\\0][^/:\\\0]*")


def locate(root: Path, text: str, allow_outside: bool) -> tuple[str, str]:
    """Where a path of the table leads, and why it is refused ("" when it is not).

    The check is by name; links are followed and checked when the file is opened.

    Args:
        root: absolute and normalised.
        text: as in the table.
        allow_outside: take paths that lead out of the root.
    """
    if len(text) <= 4096 and os.sep == "/" and _PLAIN.fullmatch(text):
        return f"{str(root).rstrip('/')}/{text}", ""
    if "\0" in text or len(text) > 4096:
        return "", "the path is not a file name"
    if "://" in text:
        return "", "the path is an address; only files are read"
    # normpath, not resolve: no look at the disk for a table of a million rows.
    file = os.path.normpath(os.path.join(root, text))  # noqa: PTH118
    if not allow_outside and not is_inside(file, str(root)):
        return "", (
            "the path leads out of data.root; set data.root, or data.allow_outside_root = true"
        )
    return file, ""


def is_inside(path: str, root: str) -> bool:
    """Whether a normalised path lies in a folder."""
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)
