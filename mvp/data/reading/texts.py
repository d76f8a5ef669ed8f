"""Texts: a file or a cell of the table, as characters that every machine writes alike."""

from __future__ import annotations

import unicodedata
from pathlib import Path

from mvp.data.reading.limits import Limits, check_file
from mvp.errors import ImageError
from mvp.files import digest_bytes

# Part of every feature key of a text view: raise it when the same text may become another one.
TEXT_VERSION = 1
TEXT_SUFFIXES = (".txt",)
_MAX_CHARACTERS = 1_000_000
# No text shall have the row of an image.
_PREFIX = b"mvp text\0"


def read_text(path: Path, limits: Limits) -> str:
    """The text of a `.txt` file, normalised.

    Args:
        path: a file in UTF-8, UTF-16 with its mark, or else Windows-1252.
        limits: bytes allowed, and the root that links must not lead out of.

    Raises:
        ImageError: the file is missing, empty, too large or no text.
    """
    check_file(path, limits)
    raw = path.read_bytes()
    text = _decoded(raw)
    if "\0" in text:
        raise ImageError("the file is no text", path=path, remedy="name a .txt file")
    text = normalised(text)
    if not text:
        raise ImageError("the text is blank", path=path)
    if len(text) > _MAX_CHARACTERS:
        raise ImageError(
            f"the text has {len(text)} characters, more than {_MAX_CHARACTERS}",
            path=path,
            remedy="keep the part that says what was seen",
        )
    return text


def _decoded(raw: bytes) -> str:
    """The text of some bytes; NUL where they are none."""
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return raw.decode("utf-16", errors="replace").replace("\ufffd", "\0")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("cp1252", errors="replace")


def normalised(text: str) -> str:
    """A text in Unicode's NFC, without control characters, runs of blanks as one blank."""
    kept = (c if c.isprintable() else " " for c in unicodedata.normalize("NFC", text))
    return " ".join("".join(kept).split())


def text_digest(text: str) -> str:
    """The digest that names a text's row in the store."""
    return digest_bytes(_PREFIX + text.encode("utf-8", "surrogatepass"))
