"""Small JSON documents that notice every change of theirs.

The feature store is read on trust for years: a flipped bit in a row's reason or in a plan must not
pass for what was written. A document holds a digest of itself and is written in one way only, so
the bytes that are read must be the bytes that would be written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mvp.files import digest_json

_CHECK = "check"


def dump(value: Mapping[str, Any]) -> bytes:
    """The one text of a document."""
    checked = {**value, _CHECK: digest_json(dict(value))}
    return (json.dumps(checked, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def load(data: bytes) -> dict[str, Any]:
    """The value of a document.

    Raises:
        ValueError: these are not the bytes that `dump` wrote.
    """
    try:
        value = json.loads(data)
    except RecursionError:
        raise ValueError("it is no document of the store") from None
    if not isinstance(value, dict) or _CHECK not in value:
        raise ValueError("it is no document of the store")
    del value[_CHECK]
    if dump(value) != data:
        raise ValueError("it has changed since it was written")
    return value
