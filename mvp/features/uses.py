"""Who uses which keys of a store that several workspaces may share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mvp.errors import StoreDamagedError
from mvp.features import documents
from mvp.features.storage import Storage
from mvp.files import digest_bytes

# No view can be called so: names of views begin with a letter or a digit.
_FOLDER = ".workspaces"


@dataclass(frozen=True)
class Uses:
    """What one workspace uses.

    Attributes:
        workspace: its folder, for people.
        keys: for each purpose (`view lateral`, `head mlp`), view and key digest of what it reads.
    """

    workspace: str
    keys: Mapping[str, tuple[tuple[str, str], ...]]

    @property
    def used(self) -> set[tuple[str, str]]:
        """View and key digest of every key."""
        return {key for keys in self.keys.values() for key in keys}


def read_uses(storage: Storage) -> dict[str, Uses]:
    """What every workspace said that it uses, by the workspace's id.

    Raises:
        StoreDamagedError: a record cannot be read; nobody may collect anything then.
    """
    found: dict[str, Uses] = {}
    for name in storage.names(_FOLDER):
        try:
            value = documents.load(storage.read(f"{_FOLDER}/{name}"))
            keys = {
                purpose: tuple((str(view), str(digest)) for view, digest in used)
                for purpose, used in value["keys"].items()
            }
            uses = Uses(str(value["workspace"]), keys)
        except FileNotFoundError:
            continue
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreDamagedError(
                "the record of what a workspace uses is damaged",
                path=f"{storage.url}/{_FOLDER}/{name}",
                cause=str(error),
                remedy="delete it and run `mvp extract` in that workspace, which writes it anew",
            ) from None
        workspace = name.partition("-")[0]
        if workspace in found:  # between the new record and the deletion of the old one
            both = {**found[workspace].keys}
            both.update({f"{purpose} ({name})": used for purpose, used in uses.keys.items()})
            uses = Uses(uses.workspace, both)
        found[workspace] = uses
    return found


def write_uses(storage: Storage, workspace: str, uses: Uses) -> None:
    """Say what a workspace uses now; the new record stands before the old one goes.

    Args:
        storage: the store's.
        workspace: the workspace's id, letters and digits.
        uses: what it uses.
    """
    data = documents.dump({"workspace": uses.workspace, "keys": dict(uses.keys)})
    name = f"{workspace}-{digest_bytes(data)[:16]}.json"
    storage.create(f"{_FOLDER}/{name}", data)
    for old in storage.names(_FOLDER):
        if old.startswith(f"{workspace}-") and old != name:
            storage.delete(f"{_FOLDER}/{old}")


def forget_uses(storage: Storage, workspace: str) -> None:
    """Take the record of a workspace that is no more away."""
    for name in storage.names(_FOLDER):
        if name.startswith(f"{workspace}-"):
            storage.delete(f"{_FOLDER}/{name}")
