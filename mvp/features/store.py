"""The feature store: per view and key, segments that only grow by whole units.

    <root>/<view>/<key digest>/key.json         the FeatureKey in full
    <root>/<view>/<key digest>/golden.json      what the network gives on a synthetic batch
    <root>/<view>/<key digest>/surroundings/    machines and versions that agreed with it
    <root>/<view>/<key digest>/segments/        see `mvp.features.segment`
    <root>/<view>/<key digest>/claims/          see `mvp.features.claims`

Readers ask for one key. Rows are found by content, so what is computed once is found for ever,
wherever the file lies and whatever it is called.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mvp.errors import StoreDamagedError
from mvp.features import documents
from mvp.features.claims import LEASE_S
from mvp.features.key import FeatureKey
from mvp.features.keystore import KeyStore
from mvp.features.storage import open_storage, put

_DIGEST = re.compile(r"[0-9a-f]{32}")


class FeatureStore:
    """All features under one root, by view and key.

    Args:
        root: a folder, or a URL as `s3://bucket/folder`.
        options: of the object store, for fsspec.
        lease_s: how long, in seconds, the claims of a process that cannot be asked are respected.
    """

    def __init__(
        self,
        root: str | Path,
        options: Mapping[str, Any] | None = None,
        lease_s: float = LEASE_S,
    ) -> None:
        self.storage = open_storage(root, options)
        self.lease_s = lease_s

    def open(self, key: FeatureKey, *, mend: bool = False) -> KeyStore:
        """The features of one key; there need not be any yet.

        Args:
            key: the key.
            mend: write a damaged or lost `key.json` anew.
        """
        folder = f"{key.view}/{key.digest}"
        name = f"{folder}/key.json"
        if mend and (
            self.storage.size(name) is not None or self.storage.names(f"{folder}/segments")
        ):
            put(self.storage, name, documents.dump(key.to_json()))
        try:
            if self._read_key(name) != key:
                raise StoreDamagedError(
                    "a feature key's folder holds another key",
                    path=f"{self.storage.url}/{name}",
                    remedy="run `mvp extract --verify`",
                )
        except FileNotFoundError:
            pass  # nothing has been planned yet
        return KeyStore(self.storage, folder, key, self.lease_s)

    def find(self, view: str, digest: str) -> KeyStore | None:
        """The features under a key's digest, None when there are none."""
        try:
            return self.open(self._read_key(f"{view}/{digest}/key.json"))
        except FileNotFoundError:
            return None

    def views(self) -> list[str]:
        """Names of the views that features are stored for."""
        return [name for name in self.storage.names("") if self.digests(name)]

    def digests(self, view: str) -> list[str]:
        """Digests of the keys that something is stored under, also of those that are damaged."""
        return [name for name in self.storage.names(view) if _DIGEST.fullmatch(name)]

    def keys(self, view: str) -> list[FeatureKey]:
        """The keys that features of a view are stored under.

        Raises:
            StoreDamagedError: one of them cannot be read.
        """
        found = []
        for digest in self.digests(view):
            with suppress(FileNotFoundError):
                found.append(self._read_key(f"{view}/{digest}/key.json"))
        return found

    def readable_keys(self, view: str) -> tuple[list[FeatureKey], list[StoreDamagedError]]:
        """The keys of a view, and what is wrong with those that cannot be read."""
        found, wrong = [], []
        for digest in self.digests(view):
            try:
                found.append(self._read_key(f"{view}/{digest}/key.json"))
            except FileNotFoundError:
                continue
            except StoreDamagedError as error:
                wrong.append(error)
        return found, wrong

    def _read_key(self, name: str) -> FeatureKey:
        try:
            return FeatureKey.from_json(documents.load(self.storage.read(name)))
        except (ValueError, KeyError, TypeError) as error:
            raise StoreDamagedError(
                "a feature key cannot be read",
                path=f"{self.storage.url}/{name}",
                cause=f"{type(error).__name__}: {error}",
                remedy="run `mvp extract --verify`; the features stay",
            ) from None
