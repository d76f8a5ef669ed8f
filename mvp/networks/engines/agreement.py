"""Whether two ways to one network's features give the same numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor

from mvp.networks.engines.base import Engine
from mvp.types import FloatArray

TOLERANCE = 1e-4


def disagreement(
    engine: Callable[[Tensor], FloatArray],
    reference: Engine,
    example: Tensor,
    tolerance: float = TOLERANCE,
) -> str | None:
    """What tells an engine from the reference on the whole example and on its first row, or None.

    Args:
        engine: the one in question.
        reference: the one that is believed.
        example: (n, ...) inputs.
        tolerance: greatest difference allowed, as a share of the largest absolute feature.
    """
    for batch in (example, example[:1]):
        wanted, given = reference(batch), engine(batch)
        if wanted.shape != given.shape:
            return f"it gives {given.shape} where torch gives {wanted.shape}"
        if not np.isfinite(given).all():
            return "it gives NaN or inf"
        scale = max(float(np.abs(wanted).max(initial=0)), 1e-12)
        gap = float(np.abs(wanted - given).max(initial=0)) / scale
        if not gap <= tolerance:
            return (
                f"of a batch of {len(batch)} it gives other features than torch (relative "
                f"difference {gap:.1e}, allowed {tolerance:.0e})"
            )
    return None


def first_line(error: Exception) -> str:
    """A foreign error in one line, as the cause of one of ours."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__
