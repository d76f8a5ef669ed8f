"""Where a store lies: a folder or an object store, behind one small set of operations.

Everything that counts is created exclusively, whole and once, and deleted at most: no operation
here changes an object in place, so there is nothing that two writers could mix. Absence is an
answer (None, False, FileNotFoundError); every other failure is a `StorageError`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from mvp.errors import StorageError

Part = bytes | memoryview
# Says of a segment without its plan that it was taken back, and is not damaged.
WITHDRAWN = "withdrawn"


class Storage(Protocol):
    """Named objects below one root; names are relative, with `/`."""

    @property
    def url(self) -> str:
        """The root, for messages."""
        ...

    def read(self, name: str) -> bytes:
        """The bytes of an object; FileNotFoundError when it does not exist."""
        ...

    def read_many(self, names: Iterable[str]) -> dict[str, bytes]:
        """The bytes of several objects; those that do not exist are left out."""
        ...

    def size(self, name: str) -> int | None:
        """Bytes of an object, None when it does not exist."""
        ...

    def create(self, name: str, *parts: Part, durable: bool = True) -> bool:
        """Create an object whole, synced; False when other bytes stand there already.

        An object store may give True when the very same bytes stand there: a put whose answer was
        lost cannot be told from another's. Who needs to know puts something of his own in them.
        """
        ...

    def names(self, folder: str) -> list[str]:
        """Sorted names of the objects and folders right below a folder; none when it is absent."""
        ...

    def walk(self, folder: str) -> dict[str, int]:
        """All objects below a folder with their bytes, names relative to the root."""
        ...

    def delete(self, name: str) -> None:
        """Delete an object; an absent one is no error."""
        ...

    def delete_tree(self, folder: str) -> None:
        """Delete everything below a folder."""
        ...

    def local(self, name: str) -> Path | None:
        """The file that holds an object, where there is one that can be mapped into memory."""
        ...

    def room(self) -> int | None:
        """Bytes that can still be written, None when nobody knows."""
        ...


def open_storage(root: str | Path, options: Mapping[str, Any] | None = None) -> Storage:
    """The storage at a folder or a URL (`s3://bucket/folder`, whatever fsspec opens).

    Args:
        root: folder or URL.
        options: for fsspec, as `endpoint_url`; credentials belong in the environment.
    """
    from mvp.features.local import LocalStorage

    text = str(root)
    if text.startswith("file://"):
        return LocalStorage(Path(text.removeprefix("file://")))
    if "://" in text:
        from mvp.features.remote import RemoteStorage

        return RemoteStorage(text, options or {})
    return LocalStorage(Path(root))


def put(storage: Storage, name: str, data: bytes) -> None:
    """Create an object whose bytes follow from its name; other bytes there are damage."""
    if not storage.create(name, data) and storage.read(name) != data:
        storage.delete(name)
        storage.create(name, data)


def unusable(storage: Storage, name: str, doing: str, error: BaseException) -> StorageError:
    """The error for an operation that failed otherwise than by absence."""
    reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
    writing = doing != "read"
    return StorageError(
        f"the feature store cannot be {'written' if writing else 'read'}",
        path=f"{storage.url}/{name}" if name else storage.url,
        cause=f"{type(error).__name__}: {reason}" if reason else type(error).__name__,
        remedy="make room or mend the place, then run the same command again: it goes on from here"
        if writing
        else "mend the place or its network and run the same command again",
    )
