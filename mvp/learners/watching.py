"""What the contract test watches beside probabilities: pickles, and global random states."""

from __future__ import annotations

import pickletools
import random
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

_PICKLE_SUFFIXES = {".pkl", ".pickle", ".joblib", ".pt", ".pth", ".ckpt"}
_UNLIKELY = 918_273_645


def is_pickle(path: Path) -> bool:
    """Whether a file is a pickle or holds one; nothing in it is run."""
    if path.suffix.lower() in _PICKLE_SUFFIXES:
        return True
    data = path.read_bytes()
    if data[:6] == b"\x93NUMPY":
        return b"'O'" in data[:256] or b"|O" in data[:256]
    if data[:2] == b"PK":
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                head = archive.read(member)
                if Path(member).suffix in _PICKLE_SUFFIXES or head[:1] == b"\x80":
                    return True
                if head[:6] == b"\x93NUMPY" and b"|O" in head[:256]:
                    return True
        return False
    if data[:1] != b"\x80":
        return False
    try:
        return any(code.name == "STOP" for code, _, _ in pickletools.genops(data))
    except ValueError:
        return False


@contextmanager
def unchanged_random_states(doing: str) -> Iterator[None]:
    """Assert that the global random states stay; the caller's are given back in any case.

    Args:
        doing: what is watched, for the message.

    Raises:
        AssertionError: a state is another one afterwards.
    """
    torch = sys.modules.get("torch")
    callers = random.getstate(), np.random.get_state(), torch and torch.get_rng_state()
    # An unlikely state: a learner that seeds globally must not happen to set the one it found.
    random.seed(_UNLIKELY)
    np.random.seed(_UNLIKELY)
    if torch:
        torch.default_generator.manual_seed(_UNLIKELY)
    before = _random_states()
    try:
        yield
        for library, state in _random_states().items():
            assert state == before.get(library, state), (
                f"{doing} changed the global random state of {library}: use generators of your own"
            )
    finally:
        random.setstate(callers[0])
        np.random.set_state(callers[1])
        if torch:
            torch.set_rng_state(callers[2])


def _random_states() -> dict[str, str]:
    states = {
        "random": repr(random.getstate()),
        "numpy": repr([np.asarray(part).tolist() for part in np.random.get_state()]),
    }
    if torch := sys.modules.get("torch"):
        states["torch"] = repr(torch.get_rng_state().tolist())
    return states
