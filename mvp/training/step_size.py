"""`training.batch_size = "auto"`: how many inputs of a step a GPU's memory can hold."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch

from mvp.config import ResolvedView, TrainingConfig
from mvp.config.variants import FROZEN_BODY
from mvp.errors import MvpError
from mvp.training.checkpoint import Checkpoint, copied
from mvp.training.objective import Objective
from mvp.training.precision import make_scaler, mixed
from mvp.training.processes import Processes
from mvp.training.schedule import seeded
from mvp.types import IntArray

log = logging.getLogger("mvp")

SMALLEST = 8
# What other batches and fragments may need on top.
SAFE_SHARE = 0.8
MOMENTS = 2


def decided_step_size(
    settings: TrainingConfig,
    checkpoint: Checkpoint | None,
    device: torch.device,
    processes: Processes,
    objective: Callable[[int], Objective],
) -> int:
    """Inputs of a step: what the settings say, what the training began with, or what fits.

    The learning rate stays as it is, whatever the size.

    Args:
        settings: how to train.
        checkpoint: what is gone on from.
        device: where.
        processes: that train together; each takes what its own memory holds.
        objective: makes the phase of the whole network, which needs the most, with steps of a size.
    """
    if settings.batch_size != "auto":
        return settings.batch_size
    if checkpoint is not None:
        return checkpoint.progress.step_size
    if settings.freeze == FROZEN_BODY:
        log.info(
            'training.batch_size = "auto" measures the training of a network; with '
            'training.freeze = "all" it is %d',
            settings.step_size,
        )
        return settings.step_size
    if device.type != "cuda":
        log.info(
            'training.batch_size = "auto" measures the memory of a GPU; on %s it is %d',
            device.type,
            settings.step_size,
        )
        return settings.step_size
    mine = torch.tensor([find_step_size(objective, settings, device)], device=device)
    found = int(processes.rows(mine, processes.rank, processes.number).min()) * processes.number
    log.info('training.batch_size = "auto" is %d on this GPU', found)
    return found


def with_step_size(view: ResolvedView, size: int) -> ResolvedView:
    """A view's settings with the number in place of "auto"."""
    training = view.training.model_copy(update={"batch_size": size})
    return view.model_copy(update={"training": training})


def find_step_size(
    objective: Callable[[int], Objective], settings: TrainingConfig, device: torch.device
) -> int:
    """The largest doubling of 8 whose steps fit into four fifths of the memory.

    The network goes forward and back as in training, with the fullest step of an epoch: it has the
    deepest volume, and of views that are trained together all that meet. Its weights and
    statistics are put back.

    Raises:
        MvpError: not even 8 inputs fit.
    """
    first = objective(SMALLEST)
    total = sum(first.inputs(rows) for rows in first.steps(0))
    before = copied(first.state())

    def fits(size: int) -> bool:
        made = objective(size)
        return _fits(made, max(made.steps(0), key=made.inputs), settings, device)

    try:
        return largest(fits, total)
    finally:
        first.module.load_state_dict(before, strict=False)


def largest(fits: Callable[[int], bool], most: int) -> int:
    """The largest of 8, 16, 32 ... that fits, `most` at most.

    Raises:
        MvpError: the first does not.
    """
    size, found = min(SMALLEST, most), 0
    while fits(size):
        found = size
        if size == most:
            break
        size = min(2 * size, most)
    if not found:
        raise MvpError(
            f"the GPU's memory does not hold a step of {size} inputs",
            remedy="set a smaller transform.size, another network, "
            'training.precision = "bfloat16", or training.batch_size and training.accumulate',
        )
    return found


def _fits(
    objective: Objective, rows: IntArray, settings: TrainingConfig, device: torch.device
) -> bool:
    _forget(objective, device)
    losses = objective.losses(0, [rows])
    try:
        with seeded(0, device), mixed(settings.precision, device):
            loss = next(losses)
        make_scaler(settings.precision, device).scale(loss.total).backward()
        return _has_room(objective, device)
    except torch.OutOfMemoryError:
        return False
    except MvpError as error:
        if not isinstance(error.__cause__, torch.OutOfMemoryError):
            raise
        return False
    finally:
        if close := getattr(losses, "close", None):
            close()
        objective.module.eval()
        _forget(objective, device)


def _has_room(objective: Objective, device: torch.device) -> bool:
    if device.type != "cuda":
        return True
    fitted = [p for group in objective.groups() for p in group.parameters]
    moments = MOMENTS * sum(p.numel() * p.element_size() for p in fitted)
    peak = torch.cuda.max_memory_allocated(device) + moments
    return peak <= SAFE_SHARE * torch.cuda.get_device_properties(device).total_memory


def _forget(objective: Objective, device: torch.device) -> None:
    objective.module.zero_grad(set_to_none=True)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
