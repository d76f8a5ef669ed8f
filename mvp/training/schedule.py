"""Learning rates and seeds as pure functions of where training stands."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mvp.files import digest_json

WARM_UP = 0.3
START_DIVISOR = 25.0
END_DIVISOR = 1e4
MOMENTA = (0.85, 0.95)


def one_cycle(step: int, steps: int, peak: float) -> tuple[float, float]:
    """Learning rate and momentum at one step of a single cycle.

    The rate climbs to its peak during the first 30% of steps and falls to nearly nothing along
    cosines, while the momentum (SGD's, or Adam's first beta) moves the other way (Smith & Topin
    2018, arXiv:1708.07120; the cosines and divisors are fastai's).

    Args:
        step: from 0 to `steps` - 1.
        steps: of the whole cycle.
        peak: the largest learning rate.
    """
    turn = max(1, round(WARM_UP * steps))
    low, high = MOMENTA
    if step < turn:
        share = (step + 1) / turn
        return _cosine(peak / START_DIVISOR, peak, share), _cosine(high, low, share)
    share = (step + 1 - turn) / (steps - turn)
    return _cosine(peak, peak / END_DIVISOR, share), _cosine(low, high, share)


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def derived_seed(seed: int, *what: str | int) -> int:
    """A seed of its own for each use, so that an epoch does not depend on those before it."""
    return int(digest_json([seed, *what])[:15], 16)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators, as dropout reads them, and give them back afterwards."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
