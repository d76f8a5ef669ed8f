"""A store in an object store, through fsspec."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from mvp.errors import ConfigError, MissingExtraError, StorageError
from mvp.features.storage import Part, unusable

T = TypeVar("T")
_TRIES, _PAUSE_S = 4, 0.2
# File systems whose `mode="create"` is one conditional request. The others look first and write
# then, which two writers can do at a time.
_CONDITIONAL = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory"}


class RemoteStorage:
    """Objects of any fsspec file system; an exclusive create is a conditional put.

    Args:
        url: of the root, as `s3://bucket/folder`.
        options: of the fsspec file system.

    Raises:
        ConfigError: no file system of this kind, or none that can create exclusively.
        MissingExtraError: its library is not installed.
    """

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        import fsspec

        protocol = url.partition("://")[0]
        if protocol not in _CONDITIONAL:
            raise ConfigError(
                f"features cannot be stored under {protocol}://",
                cause="nothing there can be created exclusively, so two writers could mix",
                remedy=f"use a folder, or one of {', '.join(sorted(_CONDITIONAL))}",
            )
        place = url.partition("://")[2].strip("/")
        if not place or set(place) & set("*?[]"):
            # fsspec takes these for patterns, and would look for other objects than it wrote.
            raise ConfigError(
                f"features cannot be stored under {url!r}",
                cause="it names no bucket" if not place else "it holds one of * ? [ ]",
                remedy="name a bucket and a folder, as s3://bucket/features",
            )
        self._url = url.rstrip("/")
        try:
            # A remembered listing would hide what other writers have done since.
            self.fs, self.root = fsspec.core.url_to_fs(
                self._url, **{"use_listings_cache": False, **options}
            )
        except ImportError:
            library = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs"}
            raise MissingExtraError(
                library.get(protocol, "adlfs"), "remote", f"a feature store under {protocol}://"
            ) from None
        except Exception as error:  # noqa: BLE001 - file systems raise anything
            raise unusable(self, "", "read", error) from None

    @property
    def url(self) -> str:
        """The root."""
        return self._url

    def read(self, name: str) -> bytes:
        """The bytes of an object."""
        return self._try(name, "read", lambda: bytes(self.fs.cat_file(self._path(name))))

    def read_many(self, names: Iterable[str]) -> dict[str, bytes]:
        """The bytes of those objects that exist, fetched side by side."""
        wanted = {self._path(name): name for name in names}
        if not wanted:
            return {}

        def fetch() -> dict[str, bytes]:
            try:
                got = self.fs.cat(list(wanted), on_error="return")
            except FileNotFoundError as error:  # each is told apart below; all at once is no answer
                raise OSError(str(error)) from None
            failed = [
                v
                for v in got.values()
                if isinstance(v, BaseException) and not isinstance(v, FileNotFoundError)
            ]
            if failed:
                raise failed[0]
            return {wanted[p]: bytes(v) for p, v in got.items() if isinstance(v, bytes)}

        return self._try("", "read", fetch)

    def size(self, name: str) -> int | None:
        """Bytes of an object."""
        try:
            return int(self._try(name, "read", lambda: self.fs.info(self._path(name)))["size"])
        except FileNotFoundError:
            return None

    def create(self, name: str, *parts: Part, durable: bool = True) -> bool:
        """Put an object if none stands there."""
        data = b"".join(parts)

        def put() -> bool:
            try:
                self.fs.pipe_file(self._path(name), data, mode="create")
            except FileExistsError:
                try:
                    # Our own first try may have arrived, and only its answer been lost.
                    return self.read(name) == data
                except FileNotFoundError:
                    raise BlockingIOError("it was deleted meanwhile") from None
            return True

        try:
            return self._try(name, "write", put)
        except FileNotFoundError as error:  # the bucket, not the object
            raise unusable(self, name, "write", error) from None

    def names(self, folder: str) -> list[str]:
        """Names right below a folder."""
        place = self._path(folder)

        def listed() -> list[str]:
            self.fs.invalidate_cache()
            return [str(entry["name"]) for entry in self.fs.ls(place, detail=True)]

        try:
            found = self._try(folder, "read", listed)
        except FileNotFoundError:
            return []
        prefix = place.rstrip("/") + "/"
        below = (path.removeprefix(prefix).rstrip("/") for path in found if path.startswith(prefix))
        return sorted(name for name in below if name)

    def walk(self, folder: str) -> dict[str, int]:
        """All objects below a folder."""

        def found() -> dict[str, Any]:
            self.fs.invalidate_cache()
            return dict(self.fs.find(self._path(folder), detail=True))

        try:
            objects = self._try(folder, "read", found)
        except FileNotFoundError:
            return {}
        start = len(self.root.rstrip("/")) + 1
        return {path[start:]: int(info["size"] or 0) for path, info in sorted(objects.items())}

    def delete(self, name: str) -> None:
        """Delete an object."""

        def rm() -> None:
            with suppress(FileNotFoundError):
                self.fs.rm_file(self._path(name))

        self._try(name, "write", rm)

    def delete_tree(self, folder: str) -> None:
        """Delete the objects below a folder, one after the other."""
        for name in self.walk(folder):
            self.delete(name)

    def local(self, name: str) -> Path | None:
        """Nothing here can be mapped."""
        return None

    def room(self) -> int | None:
        """Nobody knows."""
        return None

    def _path(self, name: str) -> str:
        return f"{self.root.rstrip('/')}/{name}" if name else self.root

    def _try(self, name: str, doing: str, action: Callable[[], T]) -> T:
        """Every operation can be repeated, so a passing failure costs a pause and no more."""
        for left in reversed(range(_TRIES)):
            try:
                return action()
            except (FileNotFoundError, StorageError):
                raise
            except Exception as error:  # noqa: BLE001 - file systems raise anything
                if not left or isinstance(error, PermissionError):
                    raise unusable(self, name, doing, error) from None
                time.sleep(_PAUSE_S * 2 ** (_TRIES - 1 - left))
        raise AssertionError("unreachable")
