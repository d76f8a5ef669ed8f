"""Digests, and files that are published whole or not at all.

A reader must never meet a half-written artefact: everything is written beside its place, synced,
and then moved there by one atomic rename.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

DIGEST_BYTES = 16
PARTIAL = ".partial-"
# A spreadsheet runs a cell that starts so (OWASP, "CSV injection"); some take wide signs for these.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
# The same in a text of many lines; one that has line breaks of its own is looked at by itself.
_FORMULA_LINE = re.compile(f"\\n'*[{re.escape(''.join(_FORMULA))}]")
_QUOTED = re.compile('[,"\\r\\n]')
_UNNAMED: int = getattr(os, "O_TMPFILE", 0)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


# Read once, while one thread runs: two that ask at a time would leave the process without one.
_PUBLIC = 0o666 & ~_umask()


def safe_cell(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula; two texts never become one."""
    formula = isinstance(value, str) and value.lstrip("'").startswith(_FORMULA)
    return f"'{value}" if formula else value


def safe_cells(texts: Sequence[str]) -> list[str]:
    """`safe_cell` of many texts at once."""
    # One text for all: hardly ever is there anything to be found in it.
    if _FORMULA_LINE.search("\n" + "\n".join(texts)) is None:
        return list(texts)
    return [safe_cell(text) for text in texts]


def quoted_cells(texts: Sequence[str]) -> list[str]:
    """Cells as they stand in a CSV file, those in quotes that would be taken apart without."""
    if _QUOTED.search("\0".join(texts)) is None:
        return list(texts)
    return ['"' + t.replace('"', '""') + '"' if _QUOTED.search(t) else t for t in texts]


def plain_cell(cell: str) -> str:
    """What `safe_cell` was given."""
    escaped = cell.startswith("'") and cell.lstrip("'").startswith(_FORMULA)
    return cell[1:] if escaped else cell


def digest_bytes(data: bytes | memoryview) -> str:
    """The 128-bit BLAKE2b digest of some bytes, as 32 hex digits."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).hexdigest()


def digest_file(path: Path, offset: int = 0) -> str:
    """The digest of a file's content from `offset` on, read in blocks."""
    state = hashlib.blake2b(digest_size=DIGEST_BYTES)
    with path.open("rb") as stream:
        stream.seek(offset)
        while block := stream.read(1 << 20):
            state.update(block)
    return state.hexdigest()


def canonical_json(value: Any) -> str:
    """One text for one value: sorted keys, no white space."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest_json(value: Any) -> str:
    """The digest of a value's canonical JSON."""
    return digest_bytes(canonical_json(value).encode())


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut (a no-op where folders cannot be synced)."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success sync it and rename it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=PARTIAL, suffix=path.suffix, dir=path.parent)
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        # mkstemp makes private files; published ones follow the user's umask.
        partial.chmod(_PUBLIC)
        with partial.open("rb+") as stream:
            os.fsync(stream.fileno())
        partial.replace(path)
        sync_folder(path.parent)
    finally:
        with suppress(FileNotFoundError):
            partial.unlink()


def write_bytes(path: Path, data: bytes) -> None:
    """Publish bytes at `path`, whole or not at all."""
    with replacing(path) as partial:
        partial.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Publish a value as indented JSON."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """The value of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def create_exclusive(
    path: Path, *parts: bytes | memoryview, durable: bool = True, unnamed: bool = True
) -> bool:
    """Create `path` with these bytes, whole; False when it stands already.

    The bytes are linked into place, so the file is never seen half-written, and of two writers
    exactly one gets True. On Linux they come from a file without a name: a writer that is killed
    leaves nothing behind.

    Args:
        path: a new file in a folder that exists.
        parts: its content, one after the other.
        durable: sync file and folder, so that a power cut cannot take it back.
        unnamed: write into a file without a name where the system knows such.
    """
    handle, partial = _aside(path, unnamed)
    try:
        for part in parts:
            view = memoryview(part).cast("B")
            while view:
                view = view[os.write(handle, view) :]
        if durable:
            os.fsync(handle)
        try:
            if partial is None:
                # With a folder's handle Python calls linkat, which follows this link to the file.
                os.link(f"/proc/self/fd/{handle}", path, src_dir_fd=handle)
            else:
                _link(partial, path)
        except FileExistsError:
            return False
        except OSError as error:
            # Some file systems and sandboxes give files without names and let nobody link them.
            if partial is not None or error.errno not in (errno.EXDEV, errno.EPERM, errno.ENOENT):
                raise
            return create_exclusive(path, *parts, durable=durable, unnamed=False)
    finally:
        os.close(handle)
        if partial is not None:
            partial.unlink(missing_ok=True)
    if durable:
        sync_folder(path.parent)
    return True


def _aside(path: Path, unnamed: bool) -> tuple[int, Path | None]:
    """An open new file beside `path`, and its name if it had to have one."""
    if unnamed and _UNNAMED and Path("/proc/self/fd").exists():
        try:
            return os.open(path.parent, _UNNAMED | os.O_WRONLY, 0o666), None
        except OSError as error:
            # Not every file system has files without names.
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOSYS):
                raise
    handle, name = tempfile.mkstemp(prefix=PARTIAL, dir=path.parent)
    partial = Path(name)
    partial.chmod(_PUBLIC)
    return handle, partial


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:
        # Some file systems know no hard links: an exclusive open is the next best thing.
        with target.open("xb") as stream:
            try:
                stream.write(source.read_bytes())
                stream.flush()
                os.fsync(stream.fileno())
            except OSError:
                target.unlink(missing_ok=True)  # half a file would pass for a whole one
                raise


def tidy(folder: Path, is_garbage: Callable[[Path], bool]) -> None:
    """Remove the files in a folder that `is_garbage` names; absent files are no error."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if is_garbage(path):
            path.unlink(missing_ok=True)
