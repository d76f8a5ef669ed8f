"""Linear sweep: logistic heads of all penalties, poolings and subsets of views, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from mvp.errors import ConfigError, DataError
from mvp.learners.ensemble import HeadRows
from mvp.learners.guards import learnable
from mvp.learners.many_linear import LinearHead, fit_many_linear
from mvp.stages._candidates import subsets_of
from mvp.statistics import auroc
from mvp.types import FloatArray, Labels

# C of `logistic`; its default, 0.01, is among them.
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
# Of more views only each alone, and all.
_FEW_VIEWS = 5
MEAN_LABEL = "mean"


@dataclass(frozen=True)
class SweepRow:
    """One head on the validation studies that have any of its views.

    Attributes:
        instances: what several instances of a view became: `mean` or `max`.
        views: joined by `+`.
        C: inverse strength of the penalty.
        label: its name; `mean` is over the labels that every head of the sweep can be measured on.
        n: validation studies whose label is known; None for the mean.
        positives: among them.
        auroc: None where undefined; of a cross-fit the mean over members.
    """

    instances: str
    views: str
    C: float
    label: str
    n: int | None
    positives: int | None
    auroc: float | None


@dataclass(frozen=True)
class Sweep:
    """What the heads reached.

    Attributes:
        rows: one for every head and label, and a mean for every head.
        labels: what the means are over.
        left_out: the other labels: of several classes, or undefined for some head.
        heads: logistic regressions fitted, those of all members.
        passes: over the features, those of all members.
        unconverged: heads that did not converge.
    """

    rows: list[SweepRow]
    labels: list[str]
    left_out: list[str]
    heads: int
    passes: int
    unconverged: int

    def records(self) -> list[dict[str, Any]]:
        """The rows as plain dictionaries."""
        return [asdict(row) for row in self.rows]

    def best(self, views: Sequence[str], instances: str) -> tuple[float, float]:
        """C with the greatest mean AUROC of heads on some views, and that mean.

        The mean is over the labels that are defined on these views. Of equal ones the stronger
        penalty is taken.

        Raises:
            DataError: no label is defined on them.
        """
        found: dict[float, list[float]] = {}
        for row in self.rows:
            mine = row.instances == instances and row.views == "+".join(views)
            if mine and row.label != MEAN_LABEL and row.auroc is not None:
                found.setdefault(row.C, []).append(row.auroc)
        if not found:
            raise DataError(
                "no label has both classes among the validation studies, so no penalty can be "
                "chosen",
                view=", ".join(views),
                remedy="raise split.inner, or leave --sweep out and set C with --set",
            )
        means = {strength: float(np.mean(found[strength])) for strength in sorted(found)}
        strength = max(means, key=lambda c: means[c])
        return strength, means[strength]


def linear_sweep(
    rows: Mapping[str, Mapping[str, HeadRows]],
    *,
    subsets: Sequence[Sequence[str]] | None = None,
    strengths: Sequence[float] = STRENGTHS,
    memory_limit: float = 4.0,
    device: str = "auto",
    progress: bool = True,
) -> Sweep:
    """Fit logistic heads of every binary label, penalty and subset, and measure them.

    All heads of a member and pooling are fitted together: each pass over the features serves all
    of them. They are fitted on the rows of role `train` and measured on those of role `inner`;
    nothing else is looked at.

    Args:
        rows: for each pooling of instances (`mean`, `max`) and each fold its studies.
        subsets: of the views; default: all of up to five, else each alone and all.
        strengths: values of C.
        memory_limit: GB that features may take; see `fit_many_linear`.
        device: where they are fitted.
        progress: show a bar.

    Raises:
        ConfigError: no label is binary, or C is not above 0.
        DataError: there are no validation studies.
    """
    if not strengths or not all(np.isfinite(c) and c > 0 for c in strengths):
        raise ConfigError(f"C is {list(strengths)}, expected numbers above 0")
    first = next(iter(next(iter(rows.values())).values()))
    targets = first.labels.targets
    binary = [i for i, target in enumerate(targets) if not target.multiclass]
    if not binary:
        raise ConfigError(
            "a linear sweep is of binary labels, and there is none",
            remedy="leave --sweep out; --trials searches C of labels with several classes too",
        )
    views = first.table.views
    if subsets is None:
        few = len(views) <= _FEW_VIEWS
        subsets = subsets_of(views, lambda size: few or size in (1, len(views)))
    cells: dict[tuple[str, int, int, float], list[tuple[int, int, float | None]]] = {}
    heads = passes = unconverged = 0
    total = sum(len(own) for own in rows.values())
    with tqdm(total=total, desc="linear sweep", unit="pass set", disable=not progress) as bar:
        for pooling, members in rows.items():
            for one in members.values():
                wanted, many = _fitted(one, binary, subsets, strengths, memory_limit, device)
                table, labels = one.of("inner")
                if not len(table):
                    raise DataError(
                        "there is no validation study to choose a penalty on",
                        remedy="raise split.inner, or leave --sweep out and set C with --set",
                    )
                said = many.predict(table) if wanted else np.empty((len(table), 0), np.float32)
                every = _measured(said, wanted, labels, table, binary, subsets, strengths)
                for key, cell in every.items():
                    cells.setdefault((pooling, *key), []).append(cell)
                if wanted:
                    heads, passes = heads + len(wanted), passes + many.passes
                    unconverged += int((~many.converged).sum())
                bar.update()
    made = _rows(cells, [t.name for t in targets], subsets)
    kept = [
        targets[i].name
        for i in binary
        if all(row.auroc is not None for row in made if row.label == targets[i].name)
    ]
    left_out = [t.name for t in targets if t.name not in kept]
    return Sweep(_with_means(made, kept), kept, left_out, heads, passes, unconverged)


def _fitted(
    rows: HeadRows,
    binary: Sequence[int],
    subsets: Sequence[Sequence[str]],
    strengths: Sequence[float],
    memory_limit: float,
    device: str,
) -> tuple[list[LinearHead], Any]:
    table, labels = rows.of("train")
    own = labels.only(binary)
    heads = []
    for number, subset in enumerate(subsets):
        some = table.only(subset).presence.any(axis=1)
        # A label of one class teaches nothing: its cell stays undefined.
        for i in learnable(own.select(some)):
            heads += [LinearHead(i, number, strength) for strength in strengths]
    if not heads:
        return [], None
    many = fit_many_linear(table, own, heads, subsets, memory_limit=memory_limit, device=device)
    return heads, many


def _measured(
    said: FloatArray,
    heads: Sequence[LinearHead],
    labels: Labels,
    table: Any,
    binary: Sequence[int],
    subsets: Sequence[Sequence[str]],
    strengths: Sequence[float],
) -> dict[tuple[int, int, float], tuple[int, int, float | None]]:
    """Known rows, positives and AUROC for each (subset, label, C)."""
    columns = {(h.subset, h.target, h.strength): i for i, h in enumerate(heads)}
    cells = {}
    for number, subset in enumerate(subsets):
        there = table.only(subset).presence.any(axis=1)
        for i, target in enumerate(binary):
            truth = labels.values[there, target]
            known, positives = int((~np.isnan(truth)).sum()), int((truth == 1).sum())
            for strength in strengths:
                column = columns.get((number, i, strength))
                value = None if column is None else auroc(truth, said[there, column])
                cells[number, target, strength] = (known, positives, value)
    return cells


def _rows(
    cells: Mapping[tuple[str, int, int, float], Sequence[tuple[int, int, float | None]]],
    names: Sequence[str],
    subsets: Sequence[Sequence[str]],
) -> list[SweepRow]:
    made = []
    for (pooling, subset, target, strength), members in cells.items():
        values = [value for _, _, value in members]
        defined = None if None in values else float(np.mean([v for v in values if v is not None]))
        n, positives = sum(m[0] for m in members), sum(m[1] for m in members)
        views = "+".join(subsets[subset])
        made.append(SweepRow(pooling, views, strength, names[target], n, positives, defined))
    return made


def _with_means(rows: Sequence[SweepRow], labels: Sequence[str]) -> list[SweepRow]:
    """The rows, and for each head of all labels its mean, the best mean first."""
    groups: dict[tuple[str, str, float], list[float]] = {}
    for row in rows:
        own = groups.setdefault((row.instances, row.views, row.C), [])
        if row.label in labels and row.auroc is not None:
            own.append(row.auroc)
    means = [
        SweepRow(*key, MEAN_LABEL, None, None, float(np.mean(own)) if own else None)
        for key, own in groups.items()
    ]
    means.sort(key=lambda row: -1 if row.auroc is None else row.auroc, reverse=True)
    return [*means, *rows]
