"""How what a layer gives becomes the features of an image."""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from mvp.config.network import Pooling
from mvp.errors import ConfigError

POOLINGS: tuple[Pooling, ...] = get_args(Pooling)


def pooled(value: Tensor, pooling: Pooling, who: str, *, gradients: bool = False) -> Tensor:
    """The features of a batch, as a copy of their own that nothing overwrites.

    | pooling | a map (N, C, H, W) | tokens (N, T, C) | vectors (N, D) |
    |---|---|---|---|
    | avg, max | (N, C) over all places | (N, C) over all tokens | avg keeps them |
    | avgmax | (N, 2C), the means first | (N, 2C), the means first | refused |
    | rows | (N, C, H), the mean over the width | refused | refused |
    | map | kept | kept | refused |
    | none | refused | refused | kept |

    A pooling that would do nothing is refused, save `avg`: it is the default, and what "auto" and
    a named layer that gives vectors have always gone by.

    Args:
        value: what the layer gave, of one of these three shapes and of any floating type.
        pooling: one of `POOLINGS`.
        who: the layer and its network, for errors.
        gradients: let them flow back through the features.

    Returns:
        float32, contiguous in the order of the axes above; detached, but for `gradients`.

    Raises:
        ConfigError: a combination that is refused.
    """
    kind = {2: "vectors", 3: "tokens", 4: "a map"}[value.ndim]
    refused = {2: ("max", "avgmax", "rows", "map"), 3: ("rows", "none"), 4: ("none",)}[value.ndim]
    if pooling in refused:
        raise _refused(pooling, kind, f"{who} gives {tuple(value.shape)}")
    value = value.float() if gradients else value.detach().float()
    axes = {3: (1,), 4: (2, 3)}.get(value.ndim)
    if axes is None or pooling == "map":
        # Not contiguous(), which returns the layer's own tensor where that is in order already.
        return value.clone(memory_format=torch.contiguous_format)
    if pooling == "rows":
        # A mean keeps the order in memory of what it came from, which may be channels last.
        return value.mean(3).contiguous()
    if pooling == "avgmax":
        return torch.cat([value.mean(axes), value.amax(axes)], 1)
    return (value.mean(axes) if pooling == "avg" else value.amax(axes)).contiguous()


def _refused(pooling: Pooling, kind: str, what: str) -> ConfigError:
    causes = {
        "vectors": "a vector has no places left to pool",
        "tokens": "tokens stand in no rows" if pooling == "rows" else "tokens are no single vector",
        "a map": "a map is no vector",
    }
    remedies = {
        "vectors": 'set network.pooling to "avg" or "none", or network.layer to one that gives '
        "a map (N, C, H, W)",
        "tokens": 'set network.pooling to "avg", "max" or "avgmax", or to "map" to keep them all',
        "a map": 'set network.pooling to "avg", "max" or "avgmax", or to "rows" or "map" to keep '
        "its places",
    }
    return ConfigError(
        f"{what}, of which pooling = {pooling!r} cannot be had",
        cause=causes[kind],
        remedy=remedies[kind],
    )
