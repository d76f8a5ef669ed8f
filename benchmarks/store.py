"""The feature store against a bare memory map, HDF5 and Zarr as it comes: one run, one table.

Every ratio pairs its two sides: they take turns, and the median of the pairs' ratios is given with
the least and the greatest. All files stay in the page cache, so what is compared is the software,
but for the writes that are synced.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from benchmarks.timing import seconds
from mvp.features import FeatureKey, FeatureStore, StudyRows, Writer, row_id, table_from_stores
from mvp.features.rows import pack
from mvp.files import digest_bytes
from mvp.reports import grid

ROWS, WIDTH, UNIT, BATCH, GATHER = 200_000, 1_024, 1_024, 4_096, 4_096
PAIRS = 5


class Memmap:
    name = "numpy.memmap"

    def __init__(self, folder: Path, dtype: str, shape: tuple[int, int]) -> None:
        self.path, self.dtype, self.shape = folder / "memmap", dtype, shape

    def write(self, values: np.ndarray, *, sync: bool) -> None:
        array = np.memmap(self.path, self.dtype, "w+", shape=self.shape)
        for start in range(0, len(values), UNIT):
            array[start : start + UNIT] = values[start : start + UNIT]
        if sync:
            array.flush()

    def open(self) -> None:
        self.array = np.memmap(self.path, self.dtype, "r", shape=self.shape)

    def read(self, out: np.ndarray) -> None:
        out[:] = self.array

    def stream(self) -> None:
        for start in range(0, self.shape[0], BATCH):
            np.array(self.array[start : start + BATCH], np.float32)

    def gather(self, rows: np.ndarray) -> np.ndarray:
        return self.array[rows].astype(np.float32, copy=False)

    def append(self, values: np.ndarray) -> None:
        with self.path.open("ab") as stream:
            stream.write(values.tobytes())


class MemmapInUnits(Memmap):
    name = "numpy.memmap, a unit at a time"

    def read(self, out: np.ndarray) -> None:
        for start in range(0, self.shape[0], UNIT):
            out[start : start + UNIT] = self.array[start : start + UNIT]

    def stream(self) -> None:
        for start in range(0, self.shape[0], BATCH):
            out = np.empty((min(BATCH, self.shape[0] - start), WIDTH), np.float32)
            for row in range(0, len(out), UNIT):
                part = self.array[start + row : min(start + row + UNIT, start + len(out))]
                out[row : row + len(part)] = part


class Hdf5(Memmap):
    name = "h5py, chunks of 1,024 rows"

    def __init__(self, folder: Path, dtype: str, shape: tuple[int, int]) -> None:
        self.path, self.dtype, self.shape = folder / "store.h5", dtype, shape

    def write(self, values: np.ndarray, *, sync: bool) -> None:
        import h5py

        with h5py.File(self.path, "w") as file:
            data = file.create_dataset(
                "x", self.shape, self.dtype, chunks=(UNIT, WIDTH), maxshape=(None, WIDTH)
            )
            for start in range(0, len(values), UNIT):
                data[start : start + UNIT] = values[start : start + UNIT]

    def open(self) -> None:
        import h5py

        self.file = h5py.File(self.path, "r")
        self.array = self.file["x"]

    def gather(self, rows: np.ndarray) -> np.ndarray:
        order, inverse = np.unique(rows, return_inverse=True)
        return self.array[order][inverse].astype(np.float32, copy=False)

    def append(self, values: np.ndarray) -> None:
        import h5py

        self.file.close()
        with h5py.File(self.path, "a") as file:
            data = file["x"]
            data.resize(data.shape[0] + 1, axis=0)
            data[-1] = values[0]


class Zarr(Memmap):
    name = "zarr as it comes (zstd)"
    options: ClassVar[dict[str, Any]] = {}

    def __init__(self, folder: Path, dtype: str, shape: tuple[int, int]) -> None:
        self.path, self.dtype, self.shape = folder / f"{type(self).__name__}.zarr", dtype, shape

    def write(self, values: np.ndarray, *, sync: bool) -> None:
        import zarr

        array = zarr.create_array(
            str(self.path), shape=self.shape, dtype=self.dtype, overwrite=True, **self.options
        )
        rows = array.chunks[0]
        for start in range(0, len(values), rows):
            array[start : start + rows] = values[start : start + rows]

    def open(self) -> None:
        import zarr

        self.array = zarr.open_array(str(self.path), mode="r+")

    def gather(self, rows: np.ndarray) -> np.ndarray:
        return self.array.oindex[rows].astype(np.float32, copy=False)

    def append(self, values: np.ndarray) -> None:
        self.array.append(values)


class ZarrUncompressed(Zarr):
    name = "zarr, chunks of 1,024, uncompressed"
    options: ClassVar[dict[str, Any]] = {"chunks": (UNIT, WIDTH), "compressors": None}


class Mvp(Memmap):
    name = "mvp"
    compression = "none"

    def __init__(self, folder: Path, dtype: str, shape: tuple[int, int]) -> None:
        self.path, self.dtype, self.shape = folder / type(self).__name__, dtype, shape
        self.key = FeatureKey("view", "w", "resnet18", "fc:input", "avg", "t", dtype=dtype)
        self.ids = [row_id(digest_bytes(i.to_bytes(8, "big"))) for i in range(shape[0])]
        self.appended = shape[0]

    def write(self, values: np.ndarray, *, sync: bool) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        with Writer(FeatureStore(self.path).open(self.key)) as writer:
            tasks = writer.plan(self.ids, WIDTH, UNIT, {}, compression=self.compression)
            for task in writer.claimed(tasks):
                writer.submit(task, values[task.segment.layout.unit_slice(task.unit)], {})
            writer.drain()

    def open(self) -> None:
        self.store = FeatureStore(self.path).open(self.key)
        names = np.array([str(i) for i in range(self.shape[0])], dtype=object)
        rows = StudyRows(pack(self.ids), np.ones(self.shape[0], np.int64))
        self.places = self.store.places(rows.ids)
        self.table = table_from_stores(names, names, {"view": self.store}, {"view": rows})

    def read(self, out: np.ndarray) -> None:
        self.store.read_places(self.places, out)

    def stream(self) -> None:
        for _ in self.table.batches(BATCH):
            pass

    def gather(self, rows: np.ndarray) -> np.ndarray:
        return self.store.read_places(self.places[rows])

    def append(self, values: np.ndarray) -> None:
        self.appended += 1
        row = row_id(digest_bytes(self.appended.to_bytes(8, "big")))
        with Writer(self.store) as writer:
            for task in writer.claimed(writer.plan([row], WIDTH, UNIT, {})):
                writer.commit(task, values, {})


class MvpZstd(Mvp):
    name = "mvp, zstd"
    compression = "zstd"


KINDS: tuple[type[Memmap], ...] = (
    Memmap,
    MemmapInUnits,
    Mvp,
    MvpZstd,
    Hdf5,
    ZarrUncompressed,
    Zarr,
)


def paired(ours: Callable[[], object], base: Callable[[], object], pairs: int) -> tuple[float, str]:
    """Median seconds of ours, and the ratio of speeds base / ours with its spread."""
    taken = [(seconds(ours), seconds(base)) for _ in range(pairs)]
    speeds = sorted(b / a for a, b in taken)
    middle = statistics.median(speeds)
    return statistics.median(
        a for a, _ in taken
    ), f"{middle:.2f} [{speeds[0]:.2f}–{speeds[-1]:.2f}]"


def measured(kind: type[Memmap], base: Memmap, values: np.ndarray, folder: Path) -> Iterator[str]:
    """The cells of one row of the table."""
    size = values.nbytes / 1e9
    ours = kind(folder, str(values.dtype), values.shape)
    slow = isinstance(ours, Zarr | MvpZstd)
    pairs = 2 if slow else PAIRS
    taken, ratio = paired(
        lambda: ours.write(values, sync=True),
        lambda: base.write(values, sync=True),
        2 if slow else 3,
    )
    yield f"{size / taken:.2f} / {ratio}"
    _, ratio = paired(
        lambda: ours.write(values, sync=True),
        lambda: base.write(values, sync=False),
        2 if slow else 3,
    )
    yield ratio
    ours.open()
    base.open()
    yield from _reads(ours, base, values, pairs)
    taken, ratio = paired(ours.stream, base.stream, pairs)
    yield f"{size / taken:.2f} / {ratio}"
    rng = np.random.default_rng(1)
    for arrange in (np.sort, np.asarray):
        rows = arrange(rng.integers(0, len(values), GATHER))
        assert np.array_equal(ours.gather(rows), values[rows].astype(np.float32)), ours.name
        base.gather(rows)
        pairs_taken = [
            (seconds(lambda r=rows: ours.gather(r)), seconds(lambda r=rows: base.gather(r)))
            for _ in range(pairs)
        ]
        times = statistics.median(a / b for a, b in pairs_taken)
        yield f"{statistics.median(a for a, _ in pairs_taken) * 1e3:.1f} / {times:.1f}"
    appends = [seconds(lambda: ours.append(values[:1])) for _ in range(5 if slow else 20)]
    yield f"{statistics.median(appends) * 1e3:.1f}"
    paths = [p for p in ours.path.rglob("*") if p.is_file()] if ours.path.is_dir() else [ours.path]
    yield f"{len(paths):,}"
    yield f"{sum(p.stat().st_size for p in paths) / 1e6:,.0f}"


def _reads(ours: Memmap, base: Memmap, values: np.ndarray, pairs: int) -> Iterator[str]:
    """The first read after opening, and the next ones, into memory that was used before."""
    out, size = np.zeros(values.shape, np.float32), values.nbytes / 1e9
    out += 1  # the pages of new memory are counted against neither

    def opened() -> None:
        base.open()
        base.read(out)

    first, ratio = paired(lambda: ours.read(out), opened, 1)
    yield f"{size / first:.2f} / {ratio.split()[0]}"
    taken, ratio = paired(lambda: ours.read(out), lambda: base.read(out), pairs)
    assert np.array_equal(out, values.astype(np.float32)), ours.name
    yield f"{size / taken:.2f} / {ratio}"


def table(dtype: str, rows: int = ROWS) -> list[list[str]]:
    """The table of one type, as rows of cells."""
    # What pooled activations look like: no numbers below zero, a few large ones.
    values = np.abs(np.random.default_rng(0).standard_normal((rows, WIDTH), np.float32))
    values = values.astype(dtype)
    header = [
        f"{rows:,} × {WIDTH:,} {dtype}",
        "synced write",
        "against unsynced",
        "first read",
        "read",
        "stream",
        "gather sorted",
        "gather",
        "append",
        "files",
        "MB",
    ]
    units = [
        "",
        "GB/s / of memmap",
        "of memmap",
        "GB/s / of memmap",
        "GB/s / of memmap",
        "GB/s / of memmap",
        "ms / memmap = 1",
        "ms / memmap = 1",
        "ms",
        "",
        "",
    ]
    lines = [header, units]
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as folder:
            base = Memmap(Path(folder), dtype, values.shape)
            base.write(values, sync=False)  # the pages of a new file are not counted against it
            if kind in (Memmap, MemmapInUnits):
                (Path(folder) / "other").mkdir()
                cells = measured(kind, base, values, Path(folder) / "other")
            else:
                cells = measured(kind, base, values, Path(folder))
            lines.append([kind.name, *cells])
            print(lines[-1], file=sys.stderr, flush=True)
    return lines


def bounded(rows: int = 1_000_000) -> list[list[str]]:
    """Memory of a process that streams a table of a million rows, beside its size.

    Anonymous memory only: mapped pages of the files belong to the system's cache.
    """

    def anonymous() -> int:
        text = Path("/proc/self/status").read_text()
        return int(text.partition("RssAnon:")[2].split()[0]) // 1000

    with tempfile.TemporaryDirectory() as folder:
        ours = Mvp(Path(folder), "float32", (rows, WIDTH))
        rng = np.random.default_rng(0)
        with Writer(FeatureStore(ours.path).open(ours.key)) as writer:
            for task in writer.claimed(writer.plan(ours.ids, WIDTH, UNIT, {})):
                writer.submit(task, rng.standard_normal((len(task.rows), WIDTH), np.float32), {})
            writer.drain()
        del ours.ids[1:], writer  # what is left are ids as a reader has them
        store = FeatureStore(ours.path).open(ours.key)
        names = np.array([str(i) for i in range(rows)], dtype=object)
        before = anonymous()
        everything = StudyRows(store.ids, np.ones(rows, np.int64))
        table = table_from_stores(names, names, {"view": store}, {"view": everything})
        opened, most = anonymous(), 0
        started = time.perf_counter()
        for _ in table.batches(BATCH):
            most = max(most, anonymous())
        taken = time.perf_counter() - started
    size = rows * WIDTH * 4 / 1e6
    return [
        ["rows", "features, MB", "the table, MB", "while it streams, MB", "GB/s, in random order"],
        [
            f"{rows:,} × {WIDTH:,}",
            f"{size:,.0f}",
            f"{opened - before:,}",
            f"{most - opened:,}",
            f"{size / 1e3 / taken:.2f}",
        ],
    ]


def main(rows: int = ROWS) -> None:
    for dtype in ("float32", "float16"):
        print(grid(table(dtype, rows)))
        print()
    print(grid(bounded()))
