"""The optimism gap: what a head seems to be worth on its own rows, and what it is worth.

Features of a fine-tuned network are over-fitted on the rows that trained it. A head that is fitted
on the same rows learns to trust them too much, and looks best where it is worst. The ablation
`same-rows` does exactly this, so that the loss can be seen beside the honest protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mvp.learners.comparison import FUSION
from mvp.learners.ensemble import SAME_ROWS, Asked, Ensemble, HeadRows
from mvp.learners.head import Head
from mvp.stages._resampling import Resampling
from mvp.statistics import auroc
from mvp.types import UNFOLDED, FloatArray, one_hot

HONEST = "fusion"


@dataclass(frozen=True)
class OptimismRow:
    """One fusion on one label.

    Attributes:
        model: `fusion`, or `same-rows` for the ablation.
        label: of the output.
        own: AUROC on the rows that it was fitted on.
        test: AUROC on test.
        gap: own minus test; None where either is undefined.
        difference: of the ablation: AUROC of the honest fusion minus its own, paired, on test.
        low: of that difference.
        high: of that difference.
    """

    model: str
    label: str
    own: float | None
    test: float | None
    gap: float | None
    difference: float | None = None
    low: float | None = None
    high: float | None = None


def optimism(
    ensemble: Ensemble,
    rows: Mapping[str, HeadRows],
    tested: Asked,
    ablation: Head | None,
    resampling: Resampling,
) -> list[OptimismRow]:
    """A row per label for the fusion, and one for the ablation where there is one.

    Args:
        ensemble: the honest heads.
        rows: for each fold its studies, with role `train`, and `same-rows` for the ablation.
        tested: what the honest heads say of the test studies.
        ablation: the fusion fitted on rows that its networks have seen.
        resampling: of the test studies.
    """
    own = ensemble.ask(rows, "train")
    truth, taught = one_hot(tested.labels), one_hot(own.labels)
    honest, seen = tested.predicted[FUSION], own.predicted[FUSION]
    found = [
        _row(HONEST, name, (taught[:, i], seen[:, i]), (truth[:, i], honest[:, i]))
        for i, name in enumerate(ensemble.outputs)
    ]
    if ablation is None:
        return found
    learned, labels = rows[UNFOLDED].of(SAME_ROWS)
    seen, taught = ablation.predict(learned), one_hot(labels)
    said = ablation.predict(rows[UNFOLDED].of("test")[0])
    for i, name in enumerate(ensemble.outputs):
        y, p, q = truth[:, i], honest[:, i], said[:, i]
        row = _row(SAME_ROWS, name, (taught[:, i], seen[:, i]), (y, q))
        gain = resampling.difference(~np.isnan(p), y, p, q)
        found.append(
            OptimismRow(
                row.model, name, row.own, row.test, row.gap, gain.estimate, gain.low, gain.high
            )
        )
    return found


def _row(
    model: str,
    label: str,
    own: tuple[FloatArray, FloatArray],
    test: tuple[FloatArray, FloatArray],
) -> OptimismRow:
    mine, its = auroc(*own), auroc(*test)
    gap = None if mine is None or its is None else mine - its
    return OptimismRow(model, label, mine, its, gap)
