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
GROUPS = ("model", "best", "opt", "scaler", "window")


@dataclass(frozen=True)
class Epoch:
    """One line of the history; None where a number is undefined.

    Attributes:
        phase: "head" or "all".
        epoch: within the phase, from 1.
        learning_rate: at its last step, of the phase's first group of parameters.
        train_loss: per known label, over the whole epoch.
        inner_loss: per known label of the inner rows.
        inner_auroc: mean over the outputs where it is defined.
        seconds: of this epoch, in this call.
        train_auroc: over the last steps (`training.window`), as they were trained.
        train_accuracy: likewise.
        inner_aurocs: of each output.
    """

    phase: str
    epoch: int
    learning_rate: float
    train_loss: float
    inner_loss: float
    inner_auroc: float | None
    seconds: float
    train_auroc: float | None = None
    train_accuracy: float | None = None
    inner_aurocs: dict[str, float | None] = field(default_factory=dict)


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
        step: steps done within the epoch that is running.
        loss_sum: over the known labels of these steps.
        known_sum: how many these are.
        step_size: inputs of a step, as this training began with; 0 where that is not decided yet.
        start_loss: of the inner rows before any training, where the start may be kept.
        start_auroc: likewise.
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
    step: int = 0
    loss_sum: float = 0.0
    known_sum: int = 0
    step_size: int = 0
    start_loss: float | None = None
    start_auroc: float | None = None


@dataclass
class Checkpoint:
    """Progress and tensors after an epoch, or within one.

    Attributes:
        progress: where training stands.
        model: the tensors that this phase changes.
        best: the same of the best epoch.
        optimizer: state of parameter i under `i.key`.
        scaler: of gradients in float16.
        window: what the last steps of the epoch said.
    """

    progress: Progress
    model: Tensors
    best: Tensors
    optimizer: Tensors
    scaler: Tensors = field(default_factory=dict)
    window: Tensors = field(default_factory=dict)


def copied(tensors: Tensors) -> Tensors:
    """The tensors as they are now."""
    return {name: value.detach().clone() for name, value in tensors.items()}


def save_checkpoint(path: Path, fingerprint: str, checkpoint: Checkpoint) -> None:
    """Publish a checkpoint; an interruption leaves the one before."""
    state = checkpoint
    every = (state.model, state.best, state.optimizer, state.scaler, state.window)
    tensors = {
        f"{group}/{name}": value.detach().cpu().contiguous().clone()
        for group, members in zip(GROUPS, every, strict=True)
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
            groups: dict[str, Tensors] = {name: {} for name in GROUPS}
            for key in stream.keys():  # noqa: SIM118 - a safetensors handle, not a dict
                group, _, name = key.partition("/")
                groups[group][name] = stream.get_tensor(key)
        raw = json.loads(metadata["progress"])
        raw["history"] = [Epoch(**entry) for entry in raw["history"]]
        progress = Progress(**raw)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        log.warning("%s is damaged (%s): starting over", path, type(error).__name__)
        return None
    return Checkpoint(progress, *(groups[name] for name in GROUPS))
