"""Stored features for somebody without `mvp`: `.npz`, Parquet, or plain Zarr."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from mvp.errors import ConfigError
from mvp.files import PARTIAL, replacing
from mvp.types import FloatArray, IntArray, TextArray

SUFFIXES = (".npz", ".parquet", ".zarr")
_ROW_AXES = {1: ("feature",), 2: ("channel", "height"), 3: ("channel", "height", "width")}


@dataclass(frozen=True, eq=False)
class Exported:
    """What is written.

    Attributes:
        studies: (row,) study ids.
        instances: (row,) number of the slice within the study, where every slice is a row.
        shape: of one row's features.
        drawn: whether a row is (draw, feature).
        batches: the rows in order, (n, width) float32 each.
    """

    studies: TextArray
    instances: IntArray | None
    shape: tuple[int, ...]
    batches: Iterator[FloatArray]
    drawn: bool = False


def export(path: Path, rows: Exported) -> None:
    """Write rows as arrays `features` and `studies` (and `instances`), in bounded memory.

    Args:
        path: ends in `.npz`, `.parquet` (columns `study`, `instance`, `f0`, `f1`, …) or `.zarr` (a
            new folder: a Zarr v3 group with named dimensions, as xarray opens it).
        rows: what to write.

    Raises:
        ConfigError: another suffix, or a `.zarr` that exists already.
    """
    if path.suffix == ".npz":
        with replacing(path) as partial:
            _npz(partial, rows)
    elif path.suffix == ".parquet":
        with replacing(path) as partial:
            _parquet(partial, rows)
    elif path.suffix == ".zarr":
        _zarr(path, rows)
    else:
        raise ConfigError(
            f"features cannot be exported to {path.name!r}",
            path=path,
            remedy=f"name a file that ends in {', '.join(SUFFIXES)}",
        )


def _npz(path: Path, rows: Exported) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        small = {"studies": np.array([str(s) for s in rows.studies], dtype=np.str_)}
        if rows.instances is not None:
            small["instances"] = np.asarray(rows.instances)
        for name, array in small.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                npy.write_array(stream, array, allow_pickle=False)
        with archive.open("features.npy", "w", force_zip64=True) as stream:
            header = {"descr": "<f4", "fortran_order": False}
            shape = (len(rows.studies), *rows.shape)
            npy.write_array_header_2_0(stream, {**header, "shape": shape})
            for values in rows.batches:
                stream.write(np.ascontiguousarray(values, "<f4").tobytes())


def _parquet(path: Path, rows: Exported) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    width = int(np.prod(rows.shape))
    numbers = rows.instances is not None
    fields = [("study", pa.string()), *([("instance", pa.int64())] if numbers else [])]
    schema = pa.schema([*fields, *[(f"f{i}", pa.float32()) for i in range(width)]])
    start = 0
    with pq.ParquetWriter(path, schema) as writer:
        for values in rows.batches:
            here = slice(start, start + len(values))
            columns = [pa.array([str(s) for s in rows.studies[here]])]
            if rows.instances is not None:
                columns.append(pa.array(rows.instances[here]))
            columns += [pa.array(column) for column in np.ascontiguousarray(values.T)]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
            start = here.stop


def _zarr(path: Path, rows: Exported) -> None:
    import zarr

    if path.exists():
        raise ConfigError(
            "there is something of this name already",
            path=path,
            remedy="name another --out, or delete it",
        )
    partial = path.with_name(f"{PARTIAL}{path.name}")
    with suppress(FileNotFoundError):
        shutil.rmtree(partial)
    try:
        group = zarr.create_group(str(partial))
        ids = np.array([str(s) for s in rows.studies], dtype=object)
        studies = group.create_array(
            "studies", shape=(len(ids),), dtype=str, dimension_names=("row",)
        )
        studies[...] = ids
        if rows.instances is not None:
            numbers = group.create_array(
                "instances", shape=(len(ids),), dtype="i8", dimension_names=("row",)
            )
            numbers[...] = rows.instances
        axes = ("draw", "feature") if rows.drawn else _ROW_AXES[len(rows.shape)]
        features = group.create_array(
            "features",
            shape=(len(ids), *rows.shape),
            chunks=(max(1, min(1024, len(ids))), *rows.shape),
            dtype="f4",
            fill_value=float("nan"),
            config={"write_empty_chunks": True},
            dimension_names=("row", *axes),
        )
        start = 0
        for values in rows.batches:
            features[start : start + len(values)] = values.reshape(-1, *rows.shape)
            start += len(values)
        partial.rename(path)
    finally:
        with suppress(FileNotFoundError):
            shutil.rmtree(partial)
