"""The golden batch: what a key's network gives on synthetic images, kept beside its features."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mvp.errors import DataError, StaleError, StoreDamagedError
from mvp.features import documents
from mvp.features.storage import Storage
from mvp.files import digest_json
from mvp.types import FloatArray


def agree_with_golden(
    storage: Storage,
    folder: str,
    view: str,
    surroundings: Mapping[str, Any],
    compute: Callable[[], FloatArray],
    tolerance: float,
    *,
    filled: bool,
) -> bool:
    """Make sure that this machine gives the numbers that a key stands for.

    Args:
        storage: the store's.
        folder: the key's.
        view: for errors.
        surroundings: library versions and device.
        compute: runs the network on the golden images: (n, ...) float32.
        tolerance: largest difference, relative to the largest golden value.
        filled: whether the key has features already.

    Returns:
        Whether the golden batch was computed (False: these surroundings are known).

    Raises:
        StaleError: the numbers differ; nothing was stored.
        StoreDamagedError: the golden batch is gone, and these surroundings never agreed with it.
    """
    known = f"{folder}/surroundings/{digest_json(dict(surroundings))}.json"
    name = f"{folder}/golden.json"
    here = _agreed(storage, known, surroundings)
    golden, wrong = _load(storage, name)
    if here and golden is not None:
        return False
    values = np.asarray(compute(), np.float32)
    if not np.isfinite(values).all():
        raise DataError(
            "the network gives NaN or inf on a synthetic image",
            view=view,
            remedy="look at the weights",
        )
    if golden is None:
        # Whoever never agreed with the numbers that are stored must not define them.
        if filled and not here:
            raise StoreDamagedError(
                f"the golden batch of these features {wrong}",
                view=view,
                path=f"{storage.url}/{name}",
                remedy="run `mvp extract` once where the features were made, which restores it; "
                f"or delete {storage.url}/{folder} to extract anew",
            )
        if wrong != "is missing":
            storage.delete(name)
        storage.create(name, _dump(values))
        golden, wrong = _load(storage, name)  # another process may have been first
    if golden is None:
        raise StoreDamagedError(
            "the golden batch does not read back", view=view, path=f"{storage.url}/{name}"
        )
    scale = max(float(np.abs(golden).max(initial=0)), 1e-12)
    same_shape = golden.shape == values.shape
    gap = float(np.abs(golden - values).max(initial=0)) / scale if same_shape else np.inf
    if not gap <= tolerance:
        raise StaleError(
            f"other surroundings give other features (relative difference {gap:.2e}, "
            f"tolerance {tolerance:.0e})",
            view=view,
            cause="library versions or device changed since the cache was filled",
            remedy="use the old surroundings, or raise extract.tolerance knowingly, "
            f"or delete {storage.url}/{folder} to extract anew",
        )
    storage.create(known, documents.dump(dict(surroundings)))
    return True


def _agreed(storage: Storage, name: str, surroundings: Mapping[str, Any]) -> bool:
    try:
        if documents.load(storage.read(name)) == dict(surroundings):
            return True
    except FileNotFoundError:
        return False
    except ValueError:
        pass
    storage.delete(name)  # damaged: it says nothing, and is written anew when the numbers agree
    return False


def golden_damage(storage: Storage, folder: str, *, computed: bool) -> str | None:
    """What is wrong with a key's golden batch and known surroundings, or None.

    Features that no network gives have none.
    """
    if not computed or not storage.names(f"{folder}/segments"):
        return None
    golden, wrong = _load(storage, f"{folder}/golden.json")
    if golden is None:
        return f"the golden batch {wrong}"
    names = storage.names(f"{folder}/surroundings")
    for name in names:
        try:
            value = documents.load(storage.read(f"{folder}/surroundings/{name}"))
        except (FileNotFoundError, ValueError) as error:
            return f"the surroundings {name} cannot be read ({error})"
        if f"{digest_json(value)}.json" != name:
            return f"the surroundings {name} are others"
    return None if names else "the surroundings that it was made in are missing"


def _dump(values: FloatArray) -> bytes:
    raw = np.ascontiguousarray(values, "<f4").tobytes()
    return documents.dump(
        {"shape": list(values.shape), "values": base64.b64encode(raw).decode("ascii")}
    )


def _load(storage: Storage, name: str) -> tuple[FloatArray | None, str]:
    try:
        value = documents.load(storage.read(name))
        raw = base64.b64decode(value["values"], validate=True)
        return np.frombuffer(raw, "<f4").astype(np.float32).reshape(value["shape"]), ""
    except FileNotFoundError:
        return None, "is missing"
    except (ValueError, KeyError, TypeError) as error:
        return None, f"cannot be read ({error})"
