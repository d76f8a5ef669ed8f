"""Where fine-tuning stands, in one safetensors file: no pickle, whole or not at all."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mvp.files import replacing

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Epoch:
    """One line of the history; losses per known label, None where a number is undefined."""

    phase: str
    epoch: int
    learning_rate: float
    train_loss: float
    inner_loss: float
    inner_auroc: float | None
    seconds: float


@dataclass
class Progress:
    """Everything but tensors that training goes on from.

    Attributes:
        phase: "head" or "all", the one that is running.
        done: epochs finished in this phase.
        stale: epochs of this phase since the best one.
        best_epoch: counted over both phases from 1; 0 before any.
        best_loss: of the inner rows at the best epoch.
        best_auroc: likewise.
        images_seen: images that went through the whole network.
        seconds: time spent, also before interruptions.
        history: one entry per epoch.
    """

    phase: str = "head"
    done: int = 0
    stale: int = 0
    best_epoch: int = 0
    best_loss: float | None = None
    best_auroc: float | None = None
    images_seen: int = 0
    seconds: float = 0.0
    history: list[Epoch] = field(default_factory=list)


@dataclass
class Checkpoint:
    """Progress and tensors after an epoch.

    Attributes:
        progress: where training stands.
        model: the tensors that this phase changes.
        best: the same of the best epoch.
        optimizer: state of parameter i under `i.key`.
    """

    progress: Progress
    model: Tensors
    best: Tensors
    optimizer: Tensors


def save_checkpoint(path: Path, fingerprint: str, checkpoint: Checkpoint) -> None:
    """Publish a checkpoint; an interruption leaves the one before."""
    groups = {"model": checkpoint.model, "best": checkpoint.best, "opt": checkpoint.optimizer}
    tensors = {
        f"{group}/{name}": value.detach().cpu().contiguous().clone()
        for group, members in groups.items()
        for name, value in members.items()
    }
    progress = json.dumps(asdict(checkpoint.progress))
    with replacing(path) as partial:
        save_file(tensors, partial, metadata={"fingerprint": fingerprint, "progress": progress})


def load_checkpoint(path: Path, fingerprint: str) -> Checkpoint | None:
    """The checkpoint of this very training; None, with a word in the log, for any other."""
    if not path.is_file():
        return None
    log = logging.getLogger("mvp")
    try:
        with safe_open(path, framework="pt") as stream:
            metadata = stream.metadata() or {}
            if metadata.get("fingerprint") != fingerprint:
                log.warning(
                    "%s belongs to other settings, labels, rows or first weights: starting over",
                    path,
                )
                return None
            groups: dict[str, Tensors] = {"model": {}, "best": {}, "opt": {}}
            for key in stream.keys():  # noqa: SIM118 - a safetensors handle, not a dict
                group, _, name = key.partition("/")
                groups[group][name] = stream.get_tensor(key)
        raw = json.loads(metadata["progress"])
        raw["history"] = [Epoch(**entry) for entry in raw["history"]]
        progress = Progress(**raw)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        log.warning("%s is damaged (%s): starting over", path, type(error).__name__)
        return None
    return Checkpoint(progress, groups["model"], groups["best"], groups["opt"])
