"""Whether a study stands twice in a table that is too long to be remembered."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from mvp.config import Config
from mvp.data.tables.manifest import repeated_study
from mvp.errors import DataError
from mvp.types import BoolArray, TextArray

# What is kept in memory of a table before a file is made, and what is sorted there at a time.
_HELD_BYTES = 8 << 20
_SORTED = 1 << 21
_BLOCK = 1 << 20


class SeenStudies:
    """Hashes of ids, 8 bytes each, in a file without a name.

    Args:
        folder: where the file lies while there is one.
    """

    def __init__(self, folder: Path) -> None:
        # Closed by `__exit__`.
        self._file = tempfile.SpooledTemporaryFile(max_size=_HELD_BYTES, dir=str(folder))  # noqa: SIM115
        self._count = 0

    def __enter__(self) -> SeenStudies:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def add(self, studies: TextArray) -> None:
        """Take note of some ids, every one of which stands here once."""
        self._file.write(hashes(studies).tobytes())
        self._count += len(studies)

    def repeated(self) -> NDArray[np.uint64]:
        """Hashes that were added more than once, sorted: of ids that may be the same."""
        found = [np.empty(0, np.uint64)]
        passes = max(1, -(-self._count // _SORTED))
        for number in range(passes):
            # A range of hashes at a time, so that what is sorted does not grow with the table.
            low, high = (np.uint64((1 << 64) * n // passes - bool(n)) for n in (number, number + 1))
            mine = np.sort(self._between(low, high, number == 0))
            found.append(np.unique(mine[1:][mine[1:] == mine[:-1]]))
        return np.concatenate(found)

    def _between(self, low: np.uint64, high: np.uint64, first: bool) -> NDArray[np.uint64]:
        parts = []
        self._file.seek(0)
        while block := self._file.read(8 * _BLOCK):
            here = np.frombuffer(block, np.uint64)
            parts.append(here[(here <= high) & ((here > low) | first)])
        return np.concatenate(parts or [np.empty(0, np.uint64)])


def hashes(studies: TextArray) -> NDArray[np.uint64]:
    """(study,) 64 bits of each id; two ids share them once in a table of thousands of millions."""
    from pandas.util import hash_array

    return np.asarray(hash_array(studies, categorize=False), np.uint64)


def among(studies: TextArray, repeated: NDArray[np.uint64]) -> BoolArray:
    """(study,) whose hash is one of those."""
    return np.isin(hashes(studies), repeated)


def require_together(config: Config, table: Path, seen: SeenStudies) -> None:
    """Refuse a table that was read in parts when two of them have rows of one study.

    Args:
        config: the settings.
        table: the table.
        seen: the studies of all parts.

    Raises:
        DataError: naming the study and two of its lines.
    """
    repeated = seen.repeated()
    if not len(repeated):
        return
    found = repeated_study(config, table, lambda studies: among(studies, repeated))
    if found is not None:
        study, first, second = found
        raise DataError(
            f"the rows of a study stand apart, on line {first} and line {second}",
            study=study,
            path=table,
            cause="so long a table is scored in parts",
            remedy="sort it by study, or take one of the rows away",
        )
