"""An epoch of the perceptron against the same network on contiguous slices, and a DataLoader.

`python -m benchmarks.heads [rows]`; 100,000 rows of two views of 1,024 features take 3 GB of memory
and 1 GB of disk. Every ratio pairs its two sides, which take turns on one machine.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.timing import paired
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
from mvp.learners.fusion_net import masked_loss
from mvp.learners.mlp import MLPLearner
from mvp.learners.torch_rows import DenseRows, Feed
from mvp.learners.torch_training import train_epoch
from mvp.reports import grid
from mvp.types import Labels, Target

ROWS, WIDTH, UNIT, PAIRS = 100_000, 1_024, 1_024, 3
CPU = torch.device("cpu")


def stored(folder: Path, rows: int) -> FeatureTable:
    """Two views of random features in a store."""
    names = np.array([str(i) for i in range(rows)], dtype=object)
    ids = [row_id(digest_bytes(b"%d" % i)) for i in range(rows)]
    stores, wanted = {}, StudyRows(pack(ids), np.ones(rows, np.int64))
    for view in ("frontal", "lateral"):
        key = FeatureKey(view, "a" * 32, "small", "pool", "avg", "b" * 32)
        store, rng = FeatureStore(folder).open(key), np.random.default_rng(len(view))
        with Writer(store) as writer:
            for task in writer.claimed(writer.plan(ids, WIDTH, UNIT, {})):
                values = rng.standard_normal((len(task.rows), WIDTH), np.float32)
                writer.submit(task, values, {})
            writer.drain()
        store.refresh()
        stores[view] = store
    return table_from_stores(names, names, stores, dict.fromkeys(stores, wanted))


class Side:
    """A network with an optimiser of its own, and a way to run an epoch."""

    def __init__(self, learner: MLPLearner, table: FeatureTable, targets: tuple[Target, ...]):
        self.net = learner.new_net(learner.layout(table), len(targets))
        self.targets = targets
        self.optimiser = torch.optim.AdamW(self.net.parameters(), lr=learner.lr, fused=True)
        self.generator = torch.Generator().manual_seed(0)

    def ours(self, feed: Feed, view_dropout: float) -> Callable[[], None]:
        return lambda: train_epoch(
            self.net, self.targets, feed, self.optimiser, view_dropout, self.generator
        )

    def slices(self, rows: DenseRows, values: torch.Tensor, size: int) -> Callable[[], None]:
        def epoch() -> None:
            self.net.train()
            for start in range(0, len(values), size):
                part = slice(start, start + size)
                self.step(rows.features[part], rows.presence[part], values[part])

        return epoch

    def loader(self, rows: DenseRows, values: torch.Tensor, size: int) -> Callable[[], None]:
        loader = DataLoader(TensorDataset(rows.features, rows.presence, values), size, shuffle=True)

        def epoch() -> None:
            self.net.train()
            for features, presence, known in loader:
                self.step(features, presence, known)

        return epoch

    def step(self, features: torch.Tensor, presence: torch.Tensor, values: torch.Tensor) -> None:
        logits = self.net(features, presence)
        loss = masked_loss(logits, values, self.targets, torch.ones(len(self.targets)))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()


def main(rows: int) -> None:
    torch.manual_seed(0)
    learner, targets = MLPLearner(), (Target("a"),)
    labels = Labels(targets, np.random.default_rng(0).integers(0, 2, (rows, 1)).astype(np.float32))
    lines = [["an epoch / against", "ours", "other", "ratio"]]
    with tempfile.TemporaryDirectory() as folder:
        table = stored(Path(folder), rows)
        reader = learner.reader(learner.standardiser(table))
        held = reader.read(table)
        features = held.features.nbytes
        feed = Feed(reader, table, labels, CPU, features, learner.batch_size)
        values = feed.values
        streamed = Feed(reader, table, labels, CPU, features / 4, learner.batch_size)
        size, drop = learner.batch_size, learner.view_dropout

        def side() -> Side:
            return Side(learner, table, targets)

        for what, ours, other in (
            ("in memory / slices", side().ours(feed, drop), side().slices(held, values, size)),
            ("in memory / DataLoader", side().ours(feed, drop), side().loader(held, values, size)),
            (
                "streamed by a quarter / slices",
                side().ours(streamed, drop),
                side().slices(held, values, size),
            ),
        ):
            lines.append([what, *paired(ours, other, PAIRS)])
    print(
        f"{rows:,} rows of two views of {WIDTH:,} float32, batches of {learner.batch_size}, "
        f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}"
    )
    print(grid(lines))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROWS)
