"""A store in a folder of this machine or of a shared disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mvp.features.storage import Part, unusable
from mvp.files import PARTIAL, create_exclusive, sync_folder


class LocalStorage:
    """Objects are files; they appear by one link and survive a power cut.

    Args:
        root: the folder; made when something is written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def url(self) -> str:
        """The folder."""
        return str(self.root)

    def read(self, name: str) -> bytes:
        """The bytes of a file."""
        with self._errors(name, "read"):
            return (self.root / name).read_bytes()

    def read_many(self, names: Iterable[str]) -> dict[str, bytes]:
        """The bytes of those files that exist."""
        found = {}
        for name in names:
            with suppress(FileNotFoundError):
                found[name] = self.read(name)
        return found

    def size(self, name: str) -> int | None:
        """Bytes of a file."""
        try:
            with self._errors(name, "read"):
                return (self.root / name).stat().st_size
        except FileNotFoundError:
            return None

    def create(self, name: str, *parts: Part, durable: bool = True) -> bool:
        """Link a new file into place."""
        path = self.root / name
        with self._errors(name, "write"):
            if path.exists():
                if durable:  # who linked it may have been killed before this
                    sync_folder(path.parent)
                return False
            for _ in range(3):
                # Between the two somebody may tidy the empty folder away.
                with suppress(FileNotFoundError):
                    self._make(path.parent)
                    return create_exclusive(path, *parts, durable=durable)
        raise unusable(
            self, name, "write", FileNotFoundError("its folder vanishes again and again")
        )

    def names(self, folder: str) -> list[str]:
        """What stands in a folder, without leftovers of killed writers."""
        try:
            with self._errors(folder, "read"):
                found = [path.name for path in (self.root / folder).iterdir()]
        except FileNotFoundError:
            return []
        return sorted(name for name in found if not name.startswith(PARTIAL))

    def walk(self, folder: str) -> dict[str, int]:
        """All files below a folder."""
        found: dict[str, int] = {}

        def failed(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError | NotADirectoryError):
                raise error  # what cannot be listed is not empty

        with self._errors(folder, "read"):
            for place, _, names in os.walk(self.root / folder, onerror=failed):
                for name in names:
                    path = Path(place, name)
                    with suppress(FileNotFoundError):
                        found[path.relative_to(self.root).as_posix()] = path.stat().st_size
        return dict(sorted(found.items()))

    def delete(self, name: str) -> None:
        """Unlink a file."""
        with self._errors(name, "write"), suppress(FileNotFoundError):
            (self.root / name).unlink()

    def delete_tree(self, folder: str) -> None:
        """Delete a folder."""
        with self._errors(folder, "write"), suppress(FileNotFoundError):
            shutil.rmtree(self.root / folder)

    def local(self, name: str) -> Path | None:
        """The file itself."""
        return self.root / name

    def room(self) -> int | None:
        """Free bytes of the file system, as an ordinary user may use them."""
        place = self.root.absolute()
        while not place.exists():
            place = place.parent
        with self._errors("", "read"):
            return shutil.disk_usage(place).free

    def _make(self, folder: Path) -> None:
        if folder.is_dir():
            return
        self._make(folder.parent)
        with suppress(FileExistsError):
            folder.mkdir()
            sync_folder(folder.parent)

    @contextmanager
    def _errors(self, name: str, doing: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            if isinstance(error, NotADirectoryError) and doing == "read":
                # A file stands where a folder would: nothing is below it.
                raise FileNotFoundError(str(error)) from None
            raise unusable(self, name, doing, error) from None
