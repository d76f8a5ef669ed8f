"""XGBoost's binned features out of a table that need not fit into memory."""

from __future__ import annotations

import shutil
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import xgboost

from mvp.errors import ConfigError, DataError
from mvp.features.table import FeatureTable
from mvp.types import FloatArray

# Bytes that XGBoost keeps of a number, measured with 3.2: bins, and bins by column. Where views
# are missing, bins are kept with the number of their column.
_BYTES, _BYTES_MISSING = 2.5, 5.5
# Of float32 features at a time: large enough for XGBoost's passes, small beside its own memory.
_BATCH_BYTES = 64 << 20


class TableBatches(xgboost.DataIter):
    """The rows of a table and what is to be learned of them, some rows at a time.

    XGBoost asks for all of them several times (once to count, then to find the bins, then to
    fill them in). A table of one batch is read once.

    Args:
        table: the features.
        target: (study,) or (study, target) of the same rows, without NaN.
        cache: where XGBoost keeps its pages; None keeps them in memory.
    """

    def __init__(self, table: FeatureTable, target: FloatArray, cache: Path | None) -> None:
        self._table, self._target = table, target
        self._size = max(1, _BATCH_BYTES // (4 * max(1, sum(table.signature.widths))))
        self._batches: Iterator[tuple[slice, FloatArray]] = iter(())
        self._only: tuple[slice, FloatArray] | None = None
        self.failure: BaseException | None = None
        super().__init__(cache_prefix=None if cache is None else str(cache / "pages"))

    def reset(self) -> None:
        """Start again at the first row."""
        self._batches = (
            self._table.batches(self._size) if self._only is None else iter((self._only,))
        )

    def next(self, input_data: Callable[..., None]) -> bool:
        """Hand over the next batch; False at the end."""
        if self.failure is not None:
            return False
        try:
            batch = next(self._batches, None)
            self._table.let_go()
            if batch is None:
                return False
            rows, matrix = batch
            if len(matrix) == len(self._table):
                self._only = batch
            # Or a leaf of one study with many draws would pass for one of many studies.
            weight = self._table.row_weight
            weights = None if weight == 1 else np.full(len(matrix), weight, np.float32)
            input_data(data=matrix, label=self._target[rows], weight=weights)
        except BaseException as failure:  # noqa: BLE001  (raised by `binned`)
            # Out of a callback no exception comes: to XGBoost, an interrupt is the end of the data.
            self.failure = failure
            return False
        return True


def binned(
    table: FeatureTable,
    target: FloatArray,
    *,
    threads: int,
    reference: xgboost.DMatrix | None,
    folder: Path | None,
) -> xgboost.DMatrix:
    """A table's rows in XGBoost's bins; never more than a batch of features in memory.

    Args:
        table: the features.
        target: (study,) or (study, target), without NaN.
        threads: 0 takes all.
        reference: the training rows, whose bins these get.
        folder: where the bins are kept; None keeps them in memory.

    Raises:
        DataError: XGBoost saw another number of rows.
    """
    batches = TableBatches(table, target, folder)
    kind = xgboost.QuantileDMatrix if folder is None else xgboost.ExtMemQuantileDMatrix
    try:
        matrix = kind(batches, nthread=threads or None, ref=reference)
    except xgboost.core.XGBoostError:
        if batches.failure is None:
            raise
    if batches.failure is not None:
        raise batches.failure
    if matrix.num_row() != len(table):
        raise DataError(f"XGBoost took {matrix.num_row()} rows of {len(table)}")
    return matrix


def binned_bytes(table: FeatureTable) -> int:
    """About how much memory the binned features of a table take."""
    each = _BYTES if table.presence.all() else _BYTES_MISSING
    return int(len(table) * sum(table.signature.widths) * each)


@contextmanager
def cache_folder(needed: int) -> Iterator[Path]:
    """A folder for binned features among the system's temporary files; gone afterwards.

    Matrices in it must belong to functions that have returned when it ends.

    Args:
        needed: bytes that must be free there.

    Raises:
        ConfigError: there is too little room.
    """
    with tempfile.TemporaryDirectory(prefix="mvp-xgboost-") as name:
        free = shutil.disk_usage(name).free
        if free < needed:
            raise ConfigError(
                f"the binned features need {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free "
                "among the temporary files",
                path=Path(name).parent,
                remedy="set TMPDIR to a folder with more room, or raise memory_limit (--set)",
            )
        try:
            yield Path(name)
        except BaseException as error:
            # XGBoost deletes its files with the matrix, and the failed calls still hold that.
            failed: BaseException | None = error
            while failed is not None:
                traceback.clear_frames(failed.__traceback__)
                failed = failed.__cause__ or failed.__context__
            raise
