"""FeatureTable: the views of many studies, joined on the study, in one order for all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from mvp.errors import DataError
from mvp.features.block import ArrayBlock, Bags, Block
from mvp.features.casting import all_finite
from mvp.files import digest_bytes
from mvp.types import BoolArray, FloatArray, IntArray, TextArray

# What `batches` reads at a time.
_BATCH_ROWS, _BATCH_BYTES = 4096, 128 << 20


@dataclass(frozen=True)
class Signature:
    """What a learner was fitted on: the views in order, their widths and feature keys."""

    views: tuple[str, ...]
    widths: tuple[int, ...]
    keys: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the matrix columns, `view/index`."""
        return tuple(
            f"{view}/{i}"
            for view, width in zip(self.views, self.widths, strict=True)
            for i in range(width)
        )

    @property
    def slices(self) -> dict[str, slice]:
        """For each view, where its columns stand in the matrix."""
        edges = np.concatenate([[0], np.cumsum(self.widths)]).astype(int)
        return {v: slice(int(edges[i]), int(edges[i + 1])) for i, v in enumerate(self.views)}


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """Cached features of some studies, joined over views.

    Attributes:
        studies: (study,) ids, unique; after `by_draw` each as often as there are draws.
        groups: (study,) patient (group) of each study; resampling and splits go by it.
        blocks: for each view, in order, where its features are read from.
        presence: (study, view) True where the study has the view.
        keys: for each view, the digest of the feature key that its numbers belong to.
    """

    studies: TextArray
    groups: TextArray
    blocks: Mapping[str, Block]
    presence: BoolArray
    keys: Mapping[str, str]
    _rows: IntArray = field(default_factory=lambda: np.empty(0, np.int64))
    _draws: IntArray | None = None
    _selected: bool = False
    _weight: float = 1.0

    def __post_init__(self) -> None:
        if not self._selected:
            for view, block in self.blocks.items():
                if isinstance(block, ArrayBlock) and len(block.values) != len(self.studies):
                    raise DataError(
                        f"views are misaligned: {len(self.studies)} studies, "
                        f"{len(block.values)} rows of features",
                        view=view,
                    )
            object.__setattr__(self, "_rows", np.arange(len(self.studies), dtype=np.int64))
        n = len(self.studies)
        if len(self.groups) != n or self.presence.shape != (n, len(self.blocks)):
            raise DataError(
                f"views are misaligned: {n} studies, {len(self.groups)} groups, presence "
                f"{self.presence.shape} for {len(self.blocks)} views"
            )
        each = self.studies.tolist()
        if self._draws is not None:
            each = list(zip(each, self._draws.tolist(), strict=True))
        if len(set(each)) != n:
            raise DataError("a study stands twice in one feature table")
        if len(numbers := {b.draws for b in self.blocks.values()} - {1}) > 1:
            raise DataError(f"views have different numbers of draws: {sorted(numbers)}")
        if tuple(self.keys) != tuple(self.blocks):
            raise DataError("feature keys and views differ in name or order")

    def __len__(self) -> int:
        return len(self.studies)

    @property
    def views(self) -> tuple[str, ...]:
        """View names, in order."""
        return tuple(self.blocks)

    @property
    def draws(self) -> int:
        """Draws of every study that `by_draw` gives rows to; 1 without any."""
        return max((block.draws for block in self.blocks.values()), default=1)

    @property
    def row_weight(self) -> float:
        """What a row counts, so that every study counts 1."""
        return self._weight

    def by_draw(self) -> FeatureTable:
        """The same studies with a row for each draw, those of a study together.

        Without this a row is the mean of its study's draws. Draw k of every view stands in row k;
        a view without draws repeats its row, and a missing one is missing in all of them.
        """
        number = self.draws
        if number == 1 or self._draws is not None:
            return self
        return FeatureTable(
            self.studies.repeat(number),
            self.groups.repeat(number),
            self.blocks,
            self.presence.repeat(number, axis=0),
            self.keys,
            _rows=self._rows.repeat(number),
            _draws=np.tile(np.arange(number), len(self)),
            _weight=1.0 / number,
            _selected=True,
        )

    @property
    def signature(self) -> Signature:
        """What a learner fitted on this table depends on."""
        return Signature(
            self.views,
            tuple(self.blocks[v].width for v in self.views),
            tuple(self.keys[v] for v in self.views),
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of `matrix()`."""
        return self.signature.columns

    @property
    def digest(self) -> str:
        """Digest of the row order, for asserting that two arrays belong together."""
        return digest_bytes("\0".join(map(str, self.studies)).encode())

    def block(self, view: str) -> FloatArray:
        """(study, feature) float32 of one view; NaN rows where it is missing."""
        position = self._position(view)
        return self._checked(view, position, np.arange(len(self), dtype=np.int64))

    def shape(self, view: str) -> tuple[int, ...]:
        """What one instance of a view is: (feature,), or the shape of a map."""
        self._position(view)
        return self.blocks[view].shape

    def instances(self, view: str) -> IntArray:
        """(study,) how many instances (images, slices) of a view there are; 0 where it is missing.

        One where they were reduced to a single row when they were extracted.
        """
        self._position(view)
        return self.blocks[view].instances(self._rows)

    def bags(self, view: str, rows: ArrayLike | None = None) -> Bags:
        """All instances of a view, before `head.instances` makes one row of them.

        What is read is held in memory: ask for a batch of rows at a time.

        Args:
            view: the view.
            rows: which rows of the table, by number; default: all.
        """
        position = self._position(view)
        local = np.arange(len(self)) if rows is None else np.asarray(rows, dtype=np.int64)
        draws = None if self._draws is None else self._draws[local]
        bags = self.blocks[view].bags(self._rows[local], draws)
        wrong = (bags.counts > 0) != self.presence[local, position]
        if not all_finite(bags.values):
            study = np.repeat(np.arange(len(local)), bags.counts)
            wrong[study[~np.isfinite(bags.values).all(axis=1)]] = True
        if wrong.any():
            raise self._disagreement(view, local[np.flatnonzero(wrong)[0]])
        return bags

    def matrix(self) -> FloatArray:
        """(study, Σ feature) float32, views side by side in order; a missing view is NaN."""
        return self._read(np.arange(len(self), dtype=np.int64))

    def batches(self, size: int | None = None) -> Iterator[tuple[slice, FloatArray]]:
        """The rows of `matrix()` in order, in bounded memory.

        Args:
            size: rows at a time; without it 4,096, or as many as take 128 MB if that is fewer.
        """
        if size is None:
            row = 4 * max(1, sum(self.signature.widths))
            size = max(1, min(_BATCH_ROWS, _BATCH_BYTES // row))
        for start in range(0, len(self), size):
            stop = min(start + size, len(self))
            yield slice(start, stop), self._read(np.arange(start, stop, dtype=np.int64))

    def let_go(self) -> None:
        """Take what was read of stored features out of this process's memory.

        They stay in the system's cache. Without this, pages of mapped files count as memory of a
        process that has read them once.
        """
        for block in self.blocks.values():
            if (let_go := getattr(block, "let_go", None)) is not None:
                let_go()

    def select(self, rows: ArrayLike) -> FeatureTable:
        """The table of some rows (indices or a mask), in that order."""
        rows = np.asarray(rows)
        if rows.dtype == bool:
            if rows.shape != (len(self),):
                raise DataError(f"a mask of shape {rows.shape} is laid over {len(self)} studies")
            rows = np.flatnonzero(rows)
        chosen = rows.astype(np.int64)
        return FeatureTable(
            self.studies[chosen],
            self.groups[chosen],
            self.blocks,
            self.presence[chosen],
            self.keys,
            _rows=self._rows[chosen],
            _draws=None if self._draws is None else self._draws[chosen],
            _weight=self._weight,
            _selected=True,
        )

    def only(self, views: Sequence[str]) -> FeatureTable:
        """The table of some views, in the order given; studies without any of them stay."""
        positions = [self._position(v) for v in views]
        return FeatureTable(
            self.studies,
            self.groups,
            {v: self.blocks[v] for v in views},
            self.presence[:, positions],
            {v: self.keys[v] for v in views},
            _rows=self._rows,
            _draws=self._draws,
            _weight=self._weight,
            _selected=True,
        )

    def _position(self, view: str) -> int:
        if view not in self.blocks:
            raise DataError(
                f"the table has no view {view!r}", cause=f"it has {', '.join(self.views)}"
            )
        return self.views.index(view)

    def _read(self, local: IntArray) -> FloatArray:
        parts = (self._checked(v, i, local) for i, v in enumerate(self.views))
        if len(self.views) == 1:
            return next(parts)  # fresh from its block: nothing else holds it
        out = np.empty((len(local), sum(self.signature.widths)), np.float32)
        for columns, part in zip(self.signature.slices.values(), parts, strict=True):
            out[:, columns] = part
        return out

    def _checked(self, view: str, position: int, local: IntArray) -> FloatArray:
        draws = None if self._draws is None else self._draws[local]
        values = self.blocks[view].read(self._rows[local], draws)
        present = self.presence[local, position]
        if present.all() and (self.blocks[view].finite or all_finite(values)):
            return values
        finite = np.isfinite(values)
        # NaN means "this view is missing" and nothing else: anything in between is damage.
        wrong = np.flatnonzero(np.where(present, ~finite.all(axis=1), finite.any(axis=1)))
        if len(wrong):
            raise self._disagreement(view, local[wrong[0]])
        return values

    def _disagreement(self, view: str, row: int) -> DataError:
        return DataError(
            "features and the presence mask disagree, or features are not finite",
            study=str(self.studies[row]),
            view=view,
            remedy="run `mvp extract` again; if it stays, report it",
        )
