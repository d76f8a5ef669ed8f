"""Score: probabilities for studies, streamed from the cache into a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mvp.errors import ConfigError
from mvp.features import FeatureTable
from mvp.files import quoted_cells, replacing, safe_cell, safe_cells
from mvp.learners.ensemble import Ensemble
from mvp.stages._decisions import CALL, Decisions, head_digest
from mvp.types import BoolArray, FloatArray, TextArray

# Studies whose features are in memory at once.
BLOCK = 4096
# Rows of a group of a Parquet file, however many come at a time.
_GROUP = 1 << 16


@dataclass(frozen=True, eq=False)
class Scores:
    """Some rows of a score table.

    Attributes:
        studies: (study,) ids.
        probabilities: (study, output) float32, calibrated where the head is.
        presence: (study, view) which of the head's views the study has.
        head: digest of the head.
        cells: what is decided, column by column, as `Decisions.cells` gives it.
    """

    studies: TextArray
    probabilities: FloatArray
    presence: BoolArray
    head: str
    cells: Mapping[str, NDArray[Any]]


class RowWriter(Protocol):
    """Takes rows block by block."""

    def write(self, rows: Scores) -> None:
        """Append rows."""
        ...


def score_columns(decisions: Decisions) -> list[str]:
    """Columns of a score table: study, probabilities, decisions, presence of views, the head."""
    outputs = [output for label in decisions.labels for output in label.target.outputs]
    views = [f"has_{view}" for view in decisions.views]
    return ["study", *outputs, *decisions.columns, *views, "head"]


def score(
    ensemble: Ensemble,
    decisions: Decisions,
    tables: Mapping[str, FeatureTable],
    writer: RowWriter,
    *,
    block: int | None = None,
    each: Callable[[Mapping[str, FeatureTable]], None] | None = None,
) -> tuple[int, list[str]]:
    """Score studies block by block.

    Args:
        ensemble: the fitted heads.
        decisions: what is decided by their probabilities.
        tables: for each fold the features of its networks, of the same studies in one order; read
            `block` studies at a time.
        writer: takes one row per study that has a view.
        block: studies in memory at once; default: `BLOCK`.
        each: given the features of every block that was scored, by fold, while they are at hand.

    Returns:
        How many studies were scored, and the ids of those that have none of the head's views.
    """
    size = BLOCK if block is None else block
    tables = {fold: tables[fold].only(ensemble.views) for fold in ensemble.folds}
    studies, digest = tables[ensemble.folds[0]].studies, head_digest(ensemble, decisions)
    # A view that one fold's networks have not seen yet is no view of the study's score.
    present = np.logical_and.reduce([table.presence for table in tables.values()])
    seen = np.logical_or.reduce([table.presence.any(axis=1) for table in tables.values()])
    done = 0
    for start in range(0, len(studies), size):
        rows = start + np.flatnonzero(seen[start : start + size])
        if not len(rows):
            continue
        parts = {fold: table.select(rows) for fold, table in tables.items()}
        raw = ensemble.fused(parts)
        probabilities = decisions.calibrated(raw)
        cells = decisions.cells(raw, probabilities, present[rows])
        writer.write(Scores(studies[rows], probabilities, present[rows], digest, cells))
        if each is not None:
            each(parts)
        done += len(rows)
    return done, [str(study) for study in studies[~seen]]


@contextmanager
def table_writer(path: Path, decisions: Decisions) -> Iterator[RowWriter]:
    """A writer for `.csv` or `.parquet`; the file appears whole, when all rows are written.

    Args:
        path: the file.
        decisions: of the head.

    Raises:
        ConfigError: another suffix, or a place that cannot be written.
    """
    require_table_name(path)
    kind = _CsvWriter if path.suffix.lower() == ".csv" else _ParquetWriter
    with ExitStack() as stack:
        try:
            writer = kind(stack.enter_context(replacing(path)), decisions)
        except OSError as error:
            raise ConfigError(
                "the scores cannot be written there",
                path=path,
                cause=error.strerror,
                remedy="name another place with --out",
            ) from error
        try:
            yield writer
        finally:
            writer.close()


def require_table_name(path: Path) -> None:
    """Refuse what no score table can be written to, before any work is done for it.

    Raises:
        ConfigError: another suffix, or a folder.
    """
    if path.suffix.lower() not in (".csv", ".parquet") or path.is_dir():
        kind = "a folder" if path.is_dir() else path.suffix or "a file without suffix"
        raise ConfigError(
            f"scores cannot be written as {kind}",
            path=path,
            remedy="name a file that ends in .csv or .parquet",
        )


class _CsvWriter:
    def __init__(self, path: Path, decisions: Decisions) -> None:
        self._stream = path.open("wb")
        names = quoted_cells([safe_cell(column) for column in score_columns(decisions)])
        self._stream.write((",".join(names) + "\r\n").encode())

    def write(self, rows: Scores) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        ids = quoted_cells(safe_cells([str(study) for study in rows.studies]))
        columns = [*rows.probabilities.T, *rows.cells.values(), *rows.presence.T]
        cells = [pa.array(ids, pa.string()), *map(_cells, columns), f"{rows.head}\r\n"]
        lines = pc.binary_join_element_wise(*cells, ",")
        # The lines stand one after the other in the array's memory as they will in the file.
        _, ends, text = lines.buffers()
        self._stream.write(memoryview(text)[: np.frombuffer(ends, np.int32)[len(lines)]])

    def close(self) -> None:
        self._stream.close()


class _ParquetWriter:
    def __init__(self, path: Path, decisions: Decisions) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        names = score_columns(decisions)
        flags = [pa.bool_()] * len(decisions.views)
        decided = [
            pa.string() if c in decisions.texts else pa.int8() if c.endswith(CALL) else pa.float32()
            for c in decisions.columns
        ]
        numbers = [pa.float32()] * (len(names) - len(decided) - len(flags) - 2)
        types = [pa.string(), *numbers, *decided, *flags, pa.string()]
        self._schema = pa.schema(list(zip(names, types, strict=True)))
        self._writer = pq.ParquetWriter(path, self._schema)
        self._waiting: list[Any] = []

    def write(self, rows: Scores) -> None:
        import pyarrow as pa

        columns = [
            pa.array([str(study) for study in rows.studies], pa.string()),
            *(pa.array(np.ascontiguousarray(c), pa.float32()) for c in rows.probabilities.T),
            *(pa.array(np.ascontiguousarray(column)) for column in rows.cells.values()),
            *(pa.array(np.ascontiguousarray(column)) for column in rows.presence.T),
            pa.array([rows.head] * len(rows.studies), pa.string()),
        ]
        self._waiting.append(pa.Table.from_arrays(columns, schema=self._schema))
        if sum(map(len, self._waiting)) >= _GROUP:
            self._flush(whole=True)

    def close(self) -> None:
        try:
            self._flush(whole=False)
        finally:
            self._writer.close()

    def _flush(self, *, whole: bool) -> None:
        """Write groups of one size, so that the file does not tell how its rows came."""
        import pyarrow as pa

        if not self._waiting:
            return
        rows = pa.concat_tables(self._waiting)
        full = len(rows) // _GROUP * _GROUP if whole else len(rows)
        if full:
            self._writer.write_table(rows.slice(0, full), row_group_size=_GROUP)
        self._waiting = [rows.slice(full)]


def _cells(values: NDArray[Any]) -> Any:
    """A column as an Arrow array of text; of numbers the shortest that reads back the same."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if values.dtype == object:  # few different texts, made safe once each
        texts = values.tolist()
        different = list(dict.fromkeys(texts))
        safe = dict(zip(different, quoted_cells(safe_cells(different)), strict=True))
        return pa.array([safe[text] for text in texts], pa.string())
    column = pa.array(np.ascontiguousarray(values))
    if values.dtype == bool:
        return pc.if_else(column, "True", "False")
    return pc.cast(column, pa.string())
