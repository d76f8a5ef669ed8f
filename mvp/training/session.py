"""A training and its folder: where it goes on, and what it leaves behind."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from mvp.config import TrainingConfig
from mvp.errors import MvpError
from mvp.files import digest_json, tidy
from mvp.networks import Network, save_weights
from mvp.training.checkpoint import Checkpoint, Progress, load_checkpoint, save_checkpoint
from mvp.training.curves import draw_curve, write_history
from mvp.training.events import Events
from mvp.training.loop import Loop
from mvp.training.objective import Objective
from mvp.training.processes import Processes

CHECKPOINT = "checkpoint.safetensors"
WEIGHTS = "weights.safetensors"
HISTORY = "history.csv"
CURVE = "curve.png"
EVENTS = "tensorboard"


class Session:
    """One training, alone or by several processes, of which the first one writes.

    Args:
        folders: of the artefacts; the checkpoint lies in the first.
        mark: the digest of all that decides the weights.
        processes: that train together.

    Attributes:
        checkpoint: where it goes on; None where it starts.

    Raises:
        MvpError: the processes do not train the same, or do not see the same folder.
    """

    def __init__(self, folders: Sequence[Path], mark: str, processes: Processes) -> None:
        self.folders, self.mark, self.processes = list(folders), mark, processes
        if processes.told(mark) != mark:
            raise MvpError(
                f"process {processes.rank} would train another network than process 0",
                cause="it sees other settings, files or weights, or has other library versions",
                remedy="give all machines the same workspace, data and environment",
            )
        with processes.first_before_others():
            if processes.first:
                for folder in folders:
                    tidy(folder, lambda path: path.name.startswith(".partial-"))
            self.checkpoint = load_checkpoint(self._place, mark)
        mine = digest_json(asdict(self.checkpoint.progress) if self.checkpoint else None)
        if processes.told(mine) != mine:
            raise MvpError(
                f"process {processes.rank} would go on from another epoch than process 0",
                path=self._place,
                cause="its machine does not see the same folder",
                remedy="keep the workspace on storage that all machines share",
            )
        self.resumed = len(self.checkpoint.progress.history) if self.checkpoint else None
        # The first one may be done at once, and remove it.
        processes.meet()

    @property
    def _place(self) -> Path:
        return self.folders[0] / CHECKPOINT

    def save(self, state: Checkpoint) -> None:
        """Publish a checkpoint."""
        save_checkpoint(self._place, self.mark, state)

    def run(
        self,
        name: str,
        settings: TrainingConfig,
        seed: int,
        device: torch.device,
        phases: tuple[Objective | None, Objective],
        progress_bar: bool,
        *,
        keep_start: bool = False,
    ) -> tuple[Progress, bool]:
        """Train what is left.

        Args:
            name: for bars and errors.
            settings: how; `batch_size` is a number.
            seed: all chance comes from it.
            device: where.
            phases: of the head, where there is one, and of the whole network.
            progress_bar: whether to show one.
            keep_start: see `Loop.run`.

        Returns:
            Where it ended, and whether that was before the last epoch.
        """
        _, network = phases
        if network.epochs:
            # A name that is not there is better told now than after the head's phase.
            network.groups()
        events = None
        if settings.tensorboard and self.processes.first:
            events = Events(self.folders[0] / EVENTS, self.resumed or 0)
        loop = Loop(
            name,
            settings,
            seed,
            device,
            self.checkpoint,
            self.save,
            progress_bar,
            processes=self.processes,
            on_epoch=events.write if events else None,
        )
        loop.progress.step_size = settings.step_size
        try:
            early = loop.run(*phases, keep_start=keep_start)
        finally:
            if events:
                events.close()
        return loop.progress, early

    def publish(
        self,
        networks: Mapping[Path, Network],
        name: str,
        state: Progress,
        also: Callable[[], None] | None = None,
    ) -> None:
        """Write the artefacts; the checkpoint goes last, so that a crash here repeats only this.

        Args:
            networks: for each folder its network, with the best weights.
            name: for the picture.
            state: where training ended.
            also: writes what else there is.
        """
        if self.processes.first:
            if not state.history:
                logging.getLogger("mvp").warning(
                    "view %s: training.epochs and head_epochs are 0; its weights stay as they were",
                    name,
                )
            for folder, network in networks.items():
                save_weights(network, folder / WEIGHTS)
                write_history(folder / HISTORY, state.history)
                draw_curve(folder / CURVE, name, state.history, state.best_epoch)
            if also is not None:
                also()
            self._place.unlink(missing_ok=True)
        # Nobody looks for the artefacts before they are there.
        self.processes.meet()
