"""Rows of a table as tensors: all in memory where they fit, streamed in shuffled blocks else."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from mvp.errors import ConfigError
from mvp.features.table import FeatureTable
from mvp.learners.fusion_net import drop_views
from mvp.learners.standardise import Standardiser
from mvp.types import IntArray, Labels

# Consecutive rows that stay together while streaming: few enough to mix, enough to read at once.
_BLOCK_ROWS = 256
# What goes through a network at a time where nothing is learned.
_PART_ROWS, _PART_BYTES = 4096, 64 << 20

# What a network is given: (row, Σ feature); or for each view the (instance, feature) of all rows,
# those of a row together, and the (row,) instances of each.
Inputs = Tensor | list[tuple[Tensor, Tensor]]
Batch = tuple[Inputs, Tensor, Tensor]


class Rows(Protocol):
    """Standardised rows that are held as tensors."""

    @property
    def presence(self) -> Tensor:
        """(row, view) bool."""
        ...

    def take(self, rows: Tensor) -> Inputs:
        """What a network is given of some rows (n,), by number."""
        ...

    def whole(self) -> Inputs:
        """What it is given of all rows, in order."""
        ...

    def to(self, device: torch.device) -> Rows:
        """The same on another device."""
        ...


class Reader(Protocol):
    """How rows of a table become what a network is given."""

    def row_bytes(self, table: FeatureTable) -> IntArray:
        """(row,) bytes that each row takes in memory."""
        ...

    def read(self, table: FeatureTable) -> Rows:
        """All rows of a table."""
        ...


@dataclass(frozen=True, eq=False)
class DenseRows:
    """One vector a row.

    Attributes:
        features: (row, Σ feature), 0 where a view is missing.
        presence: (row, view) bool.
    """

    features: Tensor
    presence: Tensor

    def take(self, rows: Tensor) -> Tensor:
        """(n, Σ feature)."""
        return self.features[rows]

    def whole(self) -> Tensor:
        """All rows."""
        return self.features

    def to(self, device: torch.device) -> DenseRows:
        """The same on another device."""
        return DenseRows(self.features.to(device), self.presence.to(device))


@dataclass(frozen=True, eq=False)
class BagRows:
    """All instances of each row.

    Attributes:
        bags: for each view (instance, feature), (row,) where a row's begin, and (row,) how many.
        presence: (row, view) bool.
    """

    bags: tuple[tuple[Tensor, Tensor, Tensor], ...]
    presence: Tensor

    def take(self, rows: Tensor) -> list[tuple[Tensor, Tensor]]:
        """For each view (instance, feature) and (n,) instances of each row."""
        taken = []
        for values, starts, counts in self.bags:
            own = counts[rows]
            first = own.cumsum(0) - own
            every = torch.arange(int(own.sum()), device=values.device)
            taken.append((values[every + (starts[rows] - first).repeat_interleave(own)], own))
        return taken

    def whole(self) -> list[tuple[Tensor, Tensor]]:
        """For each view (instance, feature) and (row,) instances of each row."""
        return [(values, counts) for values, _, counts in self.bags]

    def to(self, device: torch.device) -> BagRows:
        """The same on another device."""
        bags = tuple((v.to(device), s.to(device), c.to(device)) for v, s, c in self.bags)
        return BagRows(bags, self.presence.to(device))


@dataclass(frozen=True, eq=False)
class DenseReader:
    """Reads `table.matrix()`, standardised, a batch at a time."""

    scaler: Standardiser

    def row_bytes(self, table: FeatureTable) -> IntArray:
        """(row,) bytes of each row, all the same."""
        return np.full(len(table), 4 * len(self.scaler.mean), np.int64)

    def read(self, table: FeatureTable) -> DenseRows:
        """All rows of a table; what is read beside them is one batch."""
        features = np.empty((len(table), len(self.scaler.mean)), np.float32)
        for rows, batch in table.batches(max(1, _PART_BYTES // (8 * features.shape[1] or 1))):
            self.scaler.transform(batch, features[rows])
        return DenseRows(torch.from_numpy(features), torch.from_numpy(table.presence))


@dataclass(frozen=True, eq=False)
class BagReader:
    """Reads `table.bags()` of every view, standardised."""

    scaler: Standardiser

    def row_bytes(self, table: FeatureTable) -> IntArray:
        """(row,) bytes of all instances of each row, at least those of its place."""
        total = np.full(len(table), 16 * len(table.views), np.int64)
        for view, width in zip(table.views, table.signature.widths, strict=True):
            total += 4 * width * table.instances(view)
        return total

    def read(self, table: FeatureTable) -> BagRows:
        """All instances of a table."""
        bags = []
        for view, columns in table.signature.slices.items():
            read = table.bags(view)
            values = read.values
            np.subtract(values, self.scaler.mean[columns], out=values)
            values /= self.scaler.std[columns]
            counts = torch.from_numpy(read.counts)
            bags.append((torch.from_numpy(values), counts.cumsum(0) - counts, counts))
        return BagRows(tuple(bags), torch.from_numpy(table.presence))


class Feed:
    """The rows of a table, batch by batch, for training or to be measured on.

    Rows are held in memory where they fit into the limit. Otherwise every epoch reads them anew:
    blocks of consecutive rows are shuffled, as many as fit into half of the limit are read while
    the rows of those before are used, and the rows of such a group are shuffled among themselves.

    Args:
        reader: how rows become inputs.
        table: the features.
        labels: their labels, in the same order.
        device: where the network is.
        limit: bytes that rows may take in memory.
        batch_size: rows of a step; None where nothing is learned from them.

    Raises:
        ConfigError: the limit does not hold a few batches.
    """

    def __init__(
        self,
        reader: Reader,
        table: FeatureTable,
        labels: Labels,
        device: torch.device,
        limit: float,
        batch_size: int | None = None,
    ) -> None:
        self._reader, self._table, self._device = reader, table, device
        self._limit, self._batch_size = limit, batch_size or len(table)
        self._bytes = reader.row_bytes(table)
        self.values = torch.as_tensor(labels.values).to(device).float()
        self._held: Rows | None = None
        if self._bytes.sum() <= limit:
            self._held = reader.read(table).to(device)
        elif batch_size and (least := 4 * batch_size * int(self._bytes.max())) > limit:
            # What is advised is rounded to two digits, never below what is needed.
            advised = f"{1.06 * least / 1e9:.2g}"
            raise ConfigError(
                f"memory_limit holds less than four batches of {batch_size} rows",
                remedy=f"set memory_limit to {advised} (GB) or more, or a smaller batch_size",
            )

    @property
    def known_fraction(self) -> Tensor:
        """(target,) fraction of rows in which a label is known."""
        return (~torch.isnan(self.values)).float().mean(dim=0)

    def epoch(self, view_dropout: float, generator: torch.Generator) -> Iterator[Batch]:
        """Every row once, in random order: inputs, the views that are shown, and labels."""
        if self._held is not None:
            yield from self._shuffled(self._held, self.values, view_dropout, generator)
            return
        groups = self._groups(generator)
        with ThreadPoolExecutor(1, thread_name_prefix="mvp-rows") as pool:
            coming: Future[Rows] = pool.submit(self._read, groups[0])
            for number, chosen in enumerate(groups):
                rows = coming.result()
                if number + 1 < len(groups):
                    coming = pool.submit(self._read, groups[number + 1])
                values = self.values[torch.from_numpy(chosen).to(self._device)]
                yield from self._shuffled(rows, values, view_dropout, generator)

    def in_order(self) -> Iterator[Batch]:
        """Every row once, in order, all its views shown."""
        if self._held is None:
            for part, inputs, presence in read_parts(self._reader, self._table, self._device):
                yield inputs, presence, self.values[part]
            return
        for part in parts(self._bytes):
            rows = torch.arange(part.start, part.stop, device=self._device)
            yield self._held.take(rows), self._held.presence[part], self.values[part]

    def _read(self, chosen: IntArray) -> Rows:
        return self._reader.read(self._table.select(chosen)).to(self._device)

    def _shuffled(
        self, rows: Rows, values: Tensor, view_dropout: float, generator: torch.Generator
    ) -> Iterator[Batch]:
        shown = drop_views(rows.presence, view_dropout, generator)
        for batch in shuffled_batches(len(values), self._batch_size, generator):
            here = batch.to(self._device)
            yield rows.take(here), shown[here], values[here]

    def _groups(self, generator: torch.Generator) -> list[IntArray]:
        """Row numbers of each group, in the order of the table: blocks, dealt at random."""
        half, largest = self._limit / 2, int(self._bytes.max())
        size = int(max(1, min(_BLOCK_ROWS, half / 16 / largest)))
        starts = np.arange(0, len(self._bytes), size)
        taken = np.add.reduceat(self._bytes, starts)
        order = torch.randperm(len(starts), generator=generator).numpy()
        before = np.cumsum(taken[order]) - taken[order]
        # Groups of nearly one size: none is so small that its rows could not be mixed.
        number = int(np.ceil(taken.sum() / (half - taken.max())))
        group = (before * number // taken.sum()).astype(np.int64)
        dealt = [np.sort(order[group == g]) for g in range(number)]
        rows = [
            np.concatenate(
                [np.arange(starts[b], min(starts[b] + size, len(self._bytes))) for b in blocks]
            )
            for blocks in dealt
            if len(blocks)
        ]
        for at in reversed(range(1, len(rows))):
            if len(rows[at]) < 2:  # batch norm has no variance over one row
                rows[at - 1] = np.sort(np.concatenate([rows[at - 1], rows.pop(at)]))
        return rows


def shuffled_batches(rows: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """All row indices once, in random order; a last row alone joins the batch before it."""
    batches = list(torch.randperm(rows, generator=generator).split(size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        # Batch norm has no variance over one row, and dropping the row would lose data.
        batches[-2:] = [torch.cat(batches[-2:])]
    return iter(batches)


def parts(row_bytes: IntArray) -> Iterator[slice]:
    """Consecutive rows, as many at a time as take little memory."""
    ends = np.concatenate([[0], np.cumsum(row_bytes)])
    start = 0
    while start < len(row_bytes):
        fit = int(np.searchsorted(ends, ends[start] + _PART_BYTES, side="right")) - 1
        stop = min(max(fit, start + 1), start + _PART_ROWS)
        yield slice(start, stop)
        start = stop


def read_parts(
    reader: Reader, table: FeatureTable, device: torch.device
) -> Iterator[tuple[slice, Inputs, Tensor]]:
    """The rows of a table in order, in bounded memory: which, their inputs and presence."""
    for part in parts(reader.row_bytes(table)):
        rows = reader.read(table.select(np.arange(part.start, part.stop))).to(device)
        yield part, rows.whole(), rows.presence
