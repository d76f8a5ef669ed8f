"""Measurements and categories of a study as numbers, by what the training rows hold."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mvp.config import ViewConfig
from mvp.data.tables.table import is_blank
from mvp.files import digest_bytes, digest_json
from mvp.types import FloatArray

VERSION = 1
MAX_LEVELS = 64
# A slip of the pen (an age of 4120) must not drown every other study of a batch.
LIMIT = 10.0
_PREFIX = b"mvp table row\0"
# DICOM writes ages as 063Y, 018M, 003W or 010D; all become years.
_AGE = re.compile(r"(\d{3})([YMWD])")
_YEARS = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}

Values = tuple[float | str | None, ...]


@dataclass(frozen=True)
class TableEncoder:
    """Numbers standardised, categories one-hot; what is blank is said in a column of its own.

    Attributes:
        numbers: for each column its name, and mean and standard deviation of the training rows.
        categories: for each column its name and the values that the training rows hold, the most
            frequent first; others share a column.
    """

    numbers: tuple[tuple[str, float, float], ...]
    categories: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the features, in order."""
        names = [n for name, _, _ in self.numbers for n in (name, f"{name}: blank")]
        for name, levels in self.categories:
            names += [*(f"{name}={level}" for level in levels), f"{name}: other", f"{name}: blank"]
        return tuple(names)

    @property
    def digest(self) -> str:
        """Digest of everything that decides the numbers."""
        return digest_json(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "version": VERSION,
            "numbers": [list(entry) for entry in self.numbers],
            "categories": [[name, list(levels)] for name, levels in self.categories],
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> TableEncoder:
        """What `to_json` gave; ValueError, KeyError or TypeError when it is something else."""
        if value["version"] != VERSION:
            raise ValueError("made by another version of mvp")
        for _, mean, scale in value["numbers"]:
            if not (math.isfinite(mean) and math.isfinite(scale) and scale > 0):
                raise ValueError("a mean or a deviation is no number")
        return cls(
            tuple((str(n), float(mean), float(scale)) for n, mean, scale in value["numbers"]),
            tuple((str(n), tuple(map(str, levels))) for n, levels in value["categories"]),
        )

    def encode(self, rows: Sequence[Values]) -> FloatArray:
        """(row, feature) float32, all finite.

        Args:
            rows: as `parse_cells` gives them.
        """
        features = np.zeros((len(rows), len(self.columns)), np.float32)
        place = 0
        # Column by column: single numbers of an array cost a hundred times as much.
        for column, (_, mean, scale) in enumerate(self.numbers):
            known = np.array([row[column] is not None for row in rows], dtype=bool)
            values = np.array([row[column] or 0.0 for row in rows], dtype=np.float64)
            scaled = np.clip((values - mean) / scale, -LIMIT, LIMIT)
            features[:, place] = np.where(known, scaled, 0)
            features[:, place + 1] = ~known
            place += 2
        for column, (_, levels) in enumerate(self.categories, start=len(self.numbers)):
            hits: dict[float | str | None, int] = {level: i for i, level in enumerate(levels)}
            hits[None] = len(levels) + 1
            found = [place + hits.get(row[column], len(levels)) for row in rows]
            features[np.arange(len(rows)), np.array(found, np.int64)] = 1
            place += len(levels) + 2
        return features


def fit_encoder(view: ViewConfig, rows: Sequence[Values]) -> TableEncoder:
    """The encoder of a view by its training rows alone.

    Args:
        view: names the columns.
        rows: of the training studies, as `parse_cells` gives them; may be none.
    """
    numbers = []
    for place, name in enumerate(view.numbers):
        known = np.array([row[place] for row in rows if row[place] is not None], np.float64)
        mean = float(known.mean()) if len(known) else 0.0
        spread = float(known.std()) if len(known) else 0.0
        numbers.append((name, mean, spread if spread > 1e-12 * max(1.0, abs(mean)) else 1.0))
    categories = []
    for place, name in enumerate(view.categories, start=len(view.numbers)):
        counts = Counter(str(row[place]) for row in rows if row[place] is not None)
        # Equal counts in the order of the alphabet: the order of the table decides nothing.
        ranked = sorted(counts, key=lambda level: (-counts[level], level))
        categories.append((name, tuple(ranked[:MAX_LEVELS])))
    return TableEncoder(tuple(numbers), tuple(categories))


def parse_cells(view: ViewConfig, cells: Sequence[str]) -> tuple[Values, str]:
    """A study's values in the order of `view.columns`, None where blank; and what is wrong, or "".

    Args:
        view: which of the columns are numbers.
        cells: text of each column.
    """
    values: list[float | str | None] = []
    wrong = ""
    for place, (name, cell) in enumerate(zip(view.columns, cells, strict=True)):
        if is_blank(cell):
            values.append(None)
        elif place >= len(view.numbers):
            values.append(" ".join(cell.split()).casefold())
        else:
            number = parse_number(cell)
            values.append(number)
            if number is None:
                wrong = wrong or f"column {name!r} says {cell[:40]!r}, which is no number"
    return tuple(values), wrong


def parse_number(text: str) -> float | None:
    """A finite number as people write it (63, 63.5, 63,5, 063Y), None for anything else."""
    text = text.strip()
    if age := _AGE.fullmatch(text):
        return int(age[1]) * _YEARS[age[2]]
    if text.count(",") == 1 and "." not in text:
        text = text.replace(",", ".")
    if "_" in text:
        return None  # Python would read 1_0 as ten
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def values_digest(values: Values) -> str:
    """The digest that names a row of values in the store: no study's id enters it."""
    return digest_bytes(_PREFIX + repr(values).encode())
