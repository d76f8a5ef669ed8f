"""Seconds of one thing, and of two that take turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def timed(action: Callable[[], T]) -> tuple[float, T]:
    """Seconds, and what the action gave."""
    started = time.perf_counter()
    result = action()
    return time.perf_counter() - started, result


def seconds(action: Callable[[], object]) -> float:
    return timed(action)[0]


def paired(ours: Callable[[], object], other: Callable[[], object], pairs: int = 5) -> list[str]:
    """Medians of both, and the median, least and greatest ratio ours / other of the pairs."""
    ours(), other()
    taken = [(seconds(ours), seconds(other)) for _ in range(pairs)]
    ratios = sorted(a / b for a, b in taken)
    mine, theirs = (statistics.median(side) for side in zip(*taken, strict=True))
    middle = statistics.median(ratios)
    return [
        f"{mine * 1000:.0f} ms",
        f"{theirs * 1000:.0f} ms",
        f"{middle:.2f} [{ratios[0]:.2f}, {ratios[-1]:.2f}]",
    ]
