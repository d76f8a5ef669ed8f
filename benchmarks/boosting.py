"""XGBoost from the feature store against XGBoost on a numpy array: seconds and peak memory.

`python -m benchmarks.boosting [ROWS ...]`. Every fit is a process of its own, from features in
files (in the page cache) to the booster, without imports; the ways take turns, and ratios are the
medians over the turns. Rounds, depth and all other options are the same, and so must be the log
loss. On a shared machine processor time says more than the clock.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.timing import timed
from mvp.features import (
    FeatureKey,
    FeatureStore,
    FeatureTable,
    StudyRows,
    Writer,
    row_id,
    table_from_stores,
)
from mvp.features.rows import pack
from mvp.files import digest_bytes
from mvp.learners import make_learner
from mvp.reports import grid
from mvp.types import Labels, Target

VIEWS, WIDTH, UNIT, TEST = ("frontal", "lateral"), 512, 1_024, 8_192
TURNS = {40_000: 3, 160_000: 1}
OPTIONS = {"n_estimators": 20, "n_jobs": int(os.environ.get("OMP_NUM_THREADS", "1"))}
WAYS = ("numpy", "mvp", "mvp, bins in files")


def units(rows: int) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Features (row, Σ feature) of which 32 tell something, and their labels; a unit at a time."""
    for start in range(0, rows, UNIT):
        rng = np.random.default_rng(start)
        some = slice(start, min(start + UNIT, rows))
        x = rng.standard_normal((some.stop - start, WIDTH * len(VIEWS)), np.float32)
        telling = x[:, :: WIDTH // 16].sum(axis=1) / 3
        noise = rng.standard_normal(len(x))
        yield some, x, (telling + noise > 0).astype(np.float32)


def ids(rows: int) -> list[bytes]:
    return [row_id(digest_bytes(i.to_bytes(8, "big"))) for i in range(rows)]


def keys() -> dict[str, FeatureKey]:
    return {
        v: FeatureKey(v, "w", "resnet18", "fc:input", "avg", "t", dtype="float32") for v in VIEWS
    }


def write(folder: Path, rows: int) -> None:
    """The same features as a store and as one array, and the labels."""
    array = np.lib.format.open_memmap(
        folder / "x.npy", "w+", np.float32, (rows, WIDTH * len(VIEWS))
    )
    labels = np.empty(rows, np.float32)
    for some, x, y in units(rows):
        array[some], labels[some] = x, y
    np.save(folder / "y.npy", labels)
    names = ids(rows)
    for position, key in enumerate(keys().values()):
        columns = slice(position * WIDTH, (position + 1) * WIDTH)
        with Writer(FeatureStore(folder / "cache").open(key)) as writer:
            for task in writer.claimed(writer.plan(names, WIDTH, UNIT, {})):
                own = array[task.segment.layout.unit_slice(task.unit), columns]
                writer.submit(task, np.ascontiguousarray(own), {})
            writer.drain()
    array.flush()


def table(folder: Path, rows: int) -> FeatureTable:
    names = np.array([str(i) for i in range(rows)], dtype=object)
    wanted = StudyRows(pack(ids(rows)), np.ones(rows, np.int64))
    stores = {view: FeatureStore(folder / "cache").open(key) for view, key in keys().items()}
    return table_from_stores(names, names, stores, dict.fromkeys(VIEWS, wanted))


def from_numpy(folder: Path, rows: int) -> Callable[[np.ndarray], np.ndarray]:
    import xgboost

    defaults = vars(make_learner("xgboost"))
    names = (
        "max_depth", "learning_rate", "subsample", "colsample_bytree", "min_child_weight",
        "reg_lambda",
    )  # fmt: skip
    parameters = {name: defaults[name] for name in names} | {
        "objective": "binary:logistic",
        "tree_method": "hist",
        "nthread": OPTIONS["n_jobs"],
        "seed": 0,
    }
    x, y = np.load(folder / "x.npy"), np.load(folder / "y.npy")
    data = xgboost.QuantileDMatrix(x, y, nthread=OPTIONS["n_jobs"])
    booster = xgboost.train(parameters, data, OPTIONS["n_estimators"])
    return lambda matrix: np.asarray(booster.inplace_predict(matrix))


def from_store(folder: Path, rows: int, limit: float | None) -> Callable[[np.ndarray], np.ndarray]:
    from mvp.features import table_from_arrays

    values = np.load(folder / "y.npy")[:, None]
    options = OPTIONS if limit is None else {**OPTIONS, "memory_limit": limit}
    learner = make_learner("xgboost", options)
    features = table(folder, rows)
    learner.fit(features, Labels((Target("x"),), values), validation=None, seed=0)

    def predict(matrix: np.ndarray) -> np.ndarray:
        names = [str(i) for i in range(len(matrix))]
        blocks = dict(zip(VIEWS, np.split(matrix, len(VIEWS), axis=1), strict=True))
        return learner.predict(table_from_arrays(names, blocks))[:, 0]

    return predict


class Memory(threading.Thread):
    """The most anonymous memory of this process, seen every 20 ms."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most = 0

    def run(self) -> None:
        while True:
            text = Path("/proc/self/status").read_text()
            self.most = max(self.most, int(text.partition("RssAnon:")[2].split()[0]) // 1000)
            time.sleep(0.02)


def child(way: str, folder: Path, rows: int) -> None:
    """One fit; prints what it took."""
    import resource

    import xgboost  # noqa: F401  (imports are not counted)

    ways = {
        "numpy": lambda: from_numpy(folder, rows),
        "mvp": lambda: from_store(folder, rows, None),
        "mvp, bins in files": lambda: from_store(folder, rows, 0),
    }
    make_learner("xgboost")
    memory = Memory()
    memory.start()
    started = time.process_time()
    taken, predict = timed(ways[way])
    processor = time.process_time() - started
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000
    anonymous = memory.most
    rng = np.random.default_rng(99)
    x = rng.standard_normal((TEST, WIDTH * len(VIEWS)), np.float32)
    y = x[:, :: WIDTH // 16].sum(axis=1) / 3 + rng.standard_normal(TEST) > 0
    p = predict(x).astype(np.float64)
    loss = -np.log(np.where(y, p, 1 - p)).mean()
    found = {"seconds": taken, "processor": processor, "most": most, "anonymous": anonymous}
    print(json.dumps({**found, "loss": loss}))


def measured(way: str, folder: Path, rows: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.boosting", "--child", way, str(folder), str(rows)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    print(rows, way, result.stdout.strip(), file=sys.stderr, flush=True)
    return dict(json.loads(result.stdout))


def lines(rows: int) -> list[list[str]]:
    """A row of cells for each way."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, rows)
        turns = [{w: measured(w, folder, rows) for w in WAYS} for _ in range(TURNS.get(rows, 1))]
    cells = []
    for way in WAYS:
        own = [turn[way] for turn in turns]
        line = [f"{rows:,} × {WIDTH * len(VIEWS):,}", way]
        for what in ("seconds", "processor", "most", "anonymous"):
            middle = statistics.median(one[what] for one in own)
            ratio = statistics.median(t[way][what] / t["numpy"][what] for t in turns)
            digits = 1 if what in ("seconds", "processor") else 0
            line.append(f"{middle:,.{digits}f} / {ratio:.2f}")
        cells.append([*line, f"{own[0]['loss']:.5f}"])
    return cells


def main(sizes: list[int]) -> None:
    header = [
        "features",
        f"{OPTIONS['n_estimators']} rounds, {OPTIONS['n_jobs']} thread(s)",
        "s / numpy = 1",
        "processor s / numpy = 1",
        "peak MB (ru_maxrss) / numpy = 1",
        "of it anonymous, MB / numpy = 1",
        "log loss",
    ]
    print(grid([header, *(line for rows in sizes for line in lines(rows))]))
    print(f"load average {', '.join(f'{one:.1f}' for one in os.getloadavg())}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
    else:
        main([int(size) for size in sys.argv[1:]] or list(TURNS))
