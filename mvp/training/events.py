"""The history as TensorBoard's event files."""

from __future__ import annotations

import shutil
from pathlib import Path

from mvp.errors import MissingExtraError
from mvp.training.checkpoint import Epoch


class Events:
    """Writes an epoch's numbers while training goes on.

    Args:
        folder: of the event files.
        done: epochs that an earlier call has written; 0 begins anew.

    Raises:
        MissingExtraError: tensorboard is not installed.
    """

    def __init__(self, folder: Path, done: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtraError("tensorboard", "tensorboard", "training.tensorboard") from error
        if not done:
            shutil.rmtree(folder, ignore_errors=True)
        # What was written after the last checkpoint is written again.
        self._writer = SummaryWriter(str(folder), purge_step=done + 1)
        self._done = done

    def write(self, epoch: Epoch) -> None:
        """One epoch; a number that is undefined is left out."""
        self._done += 1
        numbers = {
            "loss/train": epoch.train_loss,
            "loss/inner": epoch.inner_loss,
            "auroc/train": epoch.train_auroc,
            "auroc/inner": epoch.inner_auroc,
            "accuracy/train": epoch.train_accuracy,
            "learning rate": epoch.learning_rate,
            **{f"auroc/inner/{name}": value for name, value in epoch.inner_aurocs.items()},
        }
        for name, value in numbers.items():
            if value is not None:
                self._writer.add_scalar(name, value, self._done)
        self._writer.flush()

    def close(self) -> None:
        """No more comes."""
        self._writer.close()
