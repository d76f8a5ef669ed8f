"""Stage one for a body that stays as it is: a network's first weights as an artefact."""

from __future__ import annotations

import logging
from pathlib import Path

from mvp.config import ResolvedView
from mvp.networks import save_weights
from mvp.training.checkpoint import Progress
from mvp.training.result import FinetuneResult, first_network, result_of

WEIGHTS = "weights.safetensors"
OF_TRAINING = ("history.csv", "curve.png", "checkpoint.safetensors", "started.json")


def write_untrained(view: ResolvedView, outputs: int, folder: Path, seed: int) -> FinetuneResult:
    """Write a view's network with its first weights: published ones, or another network's.

    Its classifier is random, so only features that are taken before it mean anything.

    Args:
        view: its settings.
        outputs: logits of the classifier.
        folder: gets `weights.safetensors`; what an earlier training left there goes.
        seed: of the classifier, and of a body without weights.

    Raises:
        ConfigError: the network or its weights cannot be had.
    """
    if view.kind == "text" or view.network.weights == "none":
        logging.getLogger("mvp").warning(
            'view %s: its network stays random: nothing is trained (training.freeze = "all"), '
            "and it has no weights",
            view.name,
        )
    network = first_network(view, outputs, seed)
    save_weights(network, folder / WEIGHTS)
    for name in OF_TRAINING:
        (folder / name).unlink(missing_ok=True)
    return result_of(Progress(), network.module, None, False)
