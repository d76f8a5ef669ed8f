"""Who uses which keys of a store that several workspaces may share."""

from __future__ import annotations

from dataclasses import dataclass

from mvp.errors import StoreDamagedError
from mvp.features import documents
from mvp.features.storage import Storage
from mvp.files import digest_bytes

# No view can be called so: names of views begin with a letter or a digit.
_FOLDER = ".workspaces"


@dataclass(frozen=True)
class Use:
    """What a workspace needs some keys for.

    Attributes:
        owner: the workspace's id, letters and digits.
        workspace: its folder, for people.
        purpose: `view lateral` or `head mlp`.
        keys: view and key digest of what is read.
    """

    owner: str
    workspace: str
    purpose: str
    keys: tuple[tuple[str, str], ...]

    @property
    def prefix(self) -> str:
        """How the records of this owner's purpose begin."""
        return f"{self.owner}-{digest_bytes(self.purpose.encode())[:16]}-"


def read_uses(storage: Storage) -> list[Use]:
    """Everything that anybody uses. Two records of one purpose both count.

    Raises:
        StoreDamagedError: a record cannot be read; nobody may collect anything then.
    """
    found = []
    for name in storage.names(_FOLDER):
        try:
            value = documents.load(storage.read(f"{_FOLDER}/{name}"))
            keys = tuple((str(view), str(digest)) for view, digest in value["keys"])
            owner, folder = name.partition("-")[0], str(value["workspace"])
            found.append(Use(owner, folder, str(value["purpose"]), keys))
        except FileNotFoundError:
            continue
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreDamagedError(
                "the record of what a workspace uses is damaged",
                path=f"{storage.url}/{_FOLDER}/{name}",
                cause=str(error),
                remedy="delete it and run `mvp extract` in that workspace, which writes it anew",
            ) from None
    return found


def write_use(storage: Storage, use: Use) -> None:
    """Say what some keys are needed for; the new record stands before an old one goes.

    A record for every purpose: two processes that say different things cannot undo each other.
    """
    data = documents.dump(
        {"workspace": use.workspace, "purpose": use.purpose, "keys": list(use.keys)}
    )
    name = f"{use.prefix}{digest_bytes(data)[:16]}.json"
    old = [other for other in storage.names(_FOLDER) if other.startswith(use.prefix)]
    if old == [name]:
        return
    storage.create(f"{_FOLDER}/{name}", data)
    for other in old:
        if other != name:
            storage.delete(f"{_FOLDER}/{other}")


def forget_uses(storage: Storage, owner: str, purpose: str | None = None) -> None:
    """Take the records of a workspace away, or those of one purpose."""
    prefix = f"{owner}-" if purpose is None else Use(owner, "", purpose, ()).prefix
    for name in storage.names(_FOLDER):
        if name.startswith(prefix):
            storage.delete(f"{_FOLDER}/{name}")
