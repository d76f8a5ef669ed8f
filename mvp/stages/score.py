"""Score: probabilities for studies, streamed from the cache into a table."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from mvp.errors import ConfigError
from mvp.features import FeatureTable
from mvp.files import replacing, safe_cell
from mvp.learners.head import Head


class RowWriter(Protocol):
    """Takes rows block by block."""

    def write(self, rows: list[dict[str, Any]]) -> None:
        """Append rows."""
        ...


def score_columns(head: Head) -> list[str]:
    """Columns of a score table: study, probabilities, presence of views, the head's digest."""
    return [
        "study",
        *head.outputs,
        *(f"has_{view}" for view in head.signature.views),
        "head",
    ]


def score(
    head: Head, table: FeatureTable, writer: RowWriter, *, block: int = 4096
) -> tuple[int, list[str]]:
    """Score the studies of a table block by block.

    Args:
        head: the fitted head.
        table: features; read `block` studies at a time.
        writer: takes one row per study that has a view.
        block: studies in memory at once.

    Returns:
        How many studies were scored, and the ids of those that have none of the head's views.
    """
    views = head.signature.views
    table = table.only(views)
    done, unseen = 0, []
    for start in range(0, len(table), block):
        part = table.select(range(start, min(start + block, len(table))))
        seen = part.presence.any(axis=1)
        unseen += [str(study) for study in part.studies[~seen]]
        part = part.select(seen)
        if not len(part):
            continue
        probabilities = head.predict(part)
        rows = []
        for i, study in enumerate(part.studies):
            row: dict[str, Any] = {"study": str(study)}
            row.update(zip(head.outputs, map(float, probabilities[i]), strict=True))
            row.update({f"has_{v}": bool(part.presence[i, k]) for k, v in enumerate(views)})
            row["head"] = head.digest
            rows.append(row)
        writer.write(rows)
        done += len(rows)
    return done, unseen


@contextmanager
def table_writer(path: Path, columns: Sequence[str]) -> Iterator[RowWriter]:
    """A writer for `.csv` or `.parquet`; the file appears whole, when all rows are written.

    Raises:
        ConfigError: another suffix.
    """
    require_table_name(path)
    kind = _CsvWriter if path.suffix.lower() == ".csv" else _ParquetWriter
    with replacing(path) as partial:
        writer = kind(partial, columns)
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
    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._stream = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.DictWriter(self._stream, [safe_cell(c) for c in columns])
        self._writer.writeheader()

    def write(self, rows: list[dict[str, Any]]) -> None:
        self._writer.writerows({safe_cell(k): safe_cell(v) for k, v in r.items()} for r in rows)

    def close(self) -> None:
        self._stream.close()


class _ParquetWriter:
    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        types = [
            pa.string() if c in ("study", "head") else pa.bool_() if c.startswith("has_") else None
            for c in columns
        ]
        self._schema = pa.schema(
            [(c, t if t is not None else pa.float32()) for c, t in zip(columns, types, strict=True)]
        )
        self._writer = pq.ParquetWriter(path, self._schema)

    def write(self, rows: list[dict[str, Any]]) -> None:
        import pyarrow as pa

        self._writer.write_table(pa.Table.from_pylist(rows, schema=self._schema))

    def close(self) -> None:
        self._writer.close()
