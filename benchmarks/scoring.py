"""`mvp score` over millions of studies: rows per second, and memory that does not grow with them.

    python -m benchmarks.scoring --rows 1000000 10000000

The rows are stored as `mvp import-features` stores them, in parts, and scored by the real command
in processes of their own. Everything lies under `--folder` and is removed afterwards.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import mvp
from mvp.config import ExtractConfig
from mvp.features import FeatureStore
from mvp.files import DIGEST_BYTES
from mvp.pipeline.imported import Imported, write_import
from mvp.pipeline.study_map import StudyMap, study_digests
from mvp.pipeline.workspace import Workspace
from mvp.reports import grid
from mvp.stages.import_features import import_rows, imported_key, row_digests

PART, FITTED = 100_000, 4_000
# What a row takes beside its numbers: ids, index, ledger, table, scores.
OVERHEAD = 300
TOML = """
protocol = "frozen"
seed = 1

[data]
table = "fitted.csv"

{views}
[labels.one]
[labels.two]

[extract]
dtype = "float16"

[evaluate]
draws = 100
"""
LEARNERS = ("logistic", "mlp")
_MEASURED = """
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
said = json.loads(done.stdout) if not done.returncode else {}
print(json.dumps(said))
print(json.dumps({"MB": used.ru_maxrss / 1024, "processor_s": used.ru_utime + used.ru_stime}))
sys.exit(done.returncode)
"""


def views_of(width: int, number: int) -> dict[str, tuple[str, ...]]:
    """For each view the names of its features."""
    columns = tuple(f"f{i}" for i in range(width // number))
    return {f"view{n}": columns for n in range(number)}


def blocks(rows: int, width: int, start: int) -> Iterator[tuple[int, np.ndarray]]:
    """Parts of all rows from `start` on: numbers that differ from row to row."""
    drawn = np.random.default_rng(0).standard_normal((PART, width), np.float32)
    for first in range(start, rows, PART):
        shift = np.float32(first / PART / 64)
        yield first, drawn[: min(PART, rows - first)] + shift


def names(first: int, count: int) -> list[str]:
    return [f"s{n:09d}" for n in range(first, first + count)]


class Store:
    """A workspace whose imported views grow."""

    def __init__(self, folder: Path, width: int, number: int) -> None:
        self.folder, self.rows = folder, 0
        self.views = views_of(width, number)
        tables = "".join(f"[views.{view}]\nimported = true\n\n" for view in self.views)
        (folder / "mvp.toml").write_text(TOML.format(views=tables))
        self.records = {view: np.empty((0, 2 * DIGEST_BYTES), np.uint8) for view in self.views}
        self.width = width

    def grow(self, rows: int) -> None:
        """Store all rows up to this number."""
        settings, store = ExtractConfig(dtype="float16"), FeatureStore(self.folder / "cache")
        keys = {v: imported_key(v, columns, "", "float16") for v, columns in self.views.items()}
        new: dict[str, list[np.ndarray]] = {view: [] for view in self.views}
        for first, values in blocks(rows, self.width, self.rows):
            studies = study_digests(names(first, len(values)))
            at = 0
            for view, columns in self.views.items():
                mine = np.ascontiguousarray(values[:, at : at + len(columns)])
                at += len(columns)
                digests = row_digests(mine)
                import_rows(store.open(keys[view]), digests, mine, settings)
                found = np.frombuffer(bytes.fromhex("".join(digests)), np.uint8)
                new[view].append(np.hstack([studies, found.reshape(-1, DIGEST_BYTES)]))
            if first == 0:
                self._write_fitted(values)
        workspace = Workspace(self.folder)
        for view, columns in self.views.items():
            self.records[view] = np.vstack([self.records[view], *new[view]])
            found = Imported(keys[view], columns, "", "made", StudyMap(self.records[view]))
            write_import(workspace, view, found)
        self.rows = rows

    def _write_fitted(self, values: np.ndarray) -> None:
        truth = values[:FITTED, :8].sum(axis=1) > 0, values[:FITTED, -8:].sum(axis=1) > 0
        lines = ["study,patient,one,two"]
        for name, one, two in zip(names(0, FITTED), *truth, strict=True):
            lines.append(f"{name},{name},{int(one)},{int(two)}")
        (self.folder / "fitted.csv").write_text("\n".join(lines) + "\n")

    def table(self, rows: int) -> Path:
        path = self.folder / f"new-{rows}.csv"
        with path.open("w") as stream:
            stream.write("study\n")
            for first in range(0, rows, PART):
                stream.write("\n".join(names(first, min(PART, rows - first))) + "\n")
        return path


def scored(folder: Path, table: Path, head: str, suffix: str) -> dict[str, float]:
    """Seconds and the greatest resident memory (MB) of one `mvp score`."""
    out = folder / f"out{suffix}"
    command = [sys.executable, "-m", "mvp", "score", str(table), "-w", str(folder)]
    command += ["--head", head, "--out", str(out), "--json", "--quiet"]
    started = time.perf_counter()
    # By a small process between: a child's peak begins with that of the process that starts it.
    launch = [sys.executable, "-c", _MEASURED, *command]
    done = subprocess.run(launch, check=False, stdout=subprocess.PIPE)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"mvp score ended with {done.returncode}")
    told, usage = (json.loads(line) for line in done.stdout.decode().rsplit("\n", 2)[:2])
    size = out.stat().st_size
    out.unlink()
    return {
        "scored": told["scored"],
        "seconds": seconds,
        "MB": usage["MB"],
        "processor_s": usage["processor_s"],
        "out_MB": size / 1e6,
    }


def require_room(folder: Path, rows: int, width: int) -> None:
    needed = rows * (2 * width + OVERHEAD)
    free = shutil.disk_usage(folder).free
    if needed > 0.9 * free:
        raise SystemExit(f"{needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--views", type=int, default=1)
    parser.add_argument("--learners", nargs="+", default=list(LEARNERS))
    parser.add_argument("--suffix", choices=[".csv", ".parquet"], default=".csv")
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="scoring-", dir=asked.folder))
    table = []
    try:
        require_room(folder, max(asked.rows), asked.width)
        store = Store(folder, asked.width, asked.views)
        for rows in sorted(asked.rows):
            started = time.perf_counter()
            store.grow(rows)
            print(f"{rows:,} rows stored in {time.perf_counter() - started:.0f} s", flush=True)
            new = store.table(rows)
            for learner in asked.learners:
                if rows == min(asked.rows):
                    mvp.fit_head(folder, learner=learner, name=learner, progress=False)
                load = os.getloadavg()[0]
                did = scored(folder, new, learner, asked.suffix)
                line = [learner, f"{rows:,}", f"{rows / did['seconds']:,.0f}"]
                line += [f"{did['seconds']:.1f}", f"{did['processor_s']:.1f}", f"{did['MB']:.0f}"]
                table.append([*line, f"{load:.1f}"])
                print(*table[-1], flush=True)
            new.unlink()
    finally:
        shutil.rmtree(folder)
    titles = ["learner", "rows", "rows/s", "s", "processor s", "peak MB", "load before"]
    print(grid([titles, *table]))
    for learner in asked.learners:
        peaks = [float(line[5]) for line in table if line[0] == learner]
        print(f"{learner}: peak memory {peaks[-1] / peaks[0]:.2f} times that of the fewest rows")


if __name__ == "__main__":
    main()
