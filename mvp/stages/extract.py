"""Extract: every image of a view through its network once, into the feature store."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType

import torch
from torch import Tensor
from tqdm import tqdm

from mvp.config import ExtractConfig, NetworkConfig
from mvp.data.draws import Draws
from mvp.data.inputs import ImageInputs, Inputs, TextInputs
from mvp.data.reading.inventory import FileRecord
from mvp.data.text_preparation import TextPreparation
from mvp.data.transforms import Transform
from mvp.errors import ImageError
from mvp.features import KeyStore, UnitTask, Writer, image_digest
from mvp.networks import Network
from mvp.networks.engines import KeptExports
from mvp.stages._extraction import ExtractResult, ExtractRun
from mvp.stages._feature_key import feature_key, rows_of, surroundings
from mvp.stages._opening import fresh_rows, opened_run
from mvp.stages._twins import take_from_twins

log = logging.getLogger("mvp")

__all__ = [
    "ExtractResult",
    "Extraction",
    "extract",
    "feature_key",
    "fresh_rows",
    "rows_of",
    "surroundings",
]


class Extraction:
    """One view's features being made: opened once, given its images in any number of parts.

    Several processes may do this on one store at a time: they share the units.

    Args:
        network: with its final weights; left as it was found.
        config: which layers, and how they are pooled.
        inputs: what the network is shown, by a deterministic preparation; no other is taken.
        store: the features of this network's key.
        settings: batch size, unit size, tolerance, compression, engine, what becomes of slices.
        device: where the network runs.
        workers: decoding threads; the features do not depend on it.
        verify: compare the digests of all stored bytes first; damaged units are recomputed.
        progress: show a bar.
        draws: random changes of every image that are cached beside it; None for the image alone.
        twins: features of the same network, preparation and engine under another view's name:
            what they hold is copied, and goes through no network again.
        exports: where an export of the network is read and kept; None to make it every time.

    Raises:
        TypeError: the preparation is not deterministic.
    """

    def __init__(
        self,
        network: Network,
        config: NetworkConfig,
        inputs: Inputs,
        store: KeyStore,
        *,
        settings: ExtractConfig,
        device: torch.device,
        workers: int = 2,
        verify: bool = False,
        progress: bool = True,
        draws: Draws | None = None,
        twins: Sequence[KeyStore] = (),
        exports: KeptExports | None = None,
    ) -> None:
        if not isinstance(inputs, ImageInputs | TextInputs) or not isinstance(
            inputs.preparation, Transform | TextPreparation
        ):
            raise TypeError("extraction takes a Transform: nothing random may touch the images")
        self.store, self.settings, self.inputs = store, settings, inputs
        self.result = ExtractResult(store.key.view, store.key.digest)
        self._network, self._config = network, config
        self._device, self._workers = device, workers
        self._verify, self._progress, self._draws = verify, progress, draws
        self._twins, self._exports = twins, exports
        self._stack = ExitStack()
        self._run: ExtractRun | None = None
        self._writer: Writer | None = None

    def __enter__(self) -> Extraction:
        self.result.recomputed_units = self.store.discard_damaged(deep=self._verify)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return self._stack.__exit__(kind, error, traceback)

    def add(
        self,
        images: Iterable[FileRecord],
        *,
        ready: Mapping[str, Sequence[Tensor | ImageError]] | None = None,
        wait: bool = True,
    ) -> None:
        """Make sure that every one of these images has its features in the store.

        Args:
            images: readable files or texts. The same pixels are one image, wherever they lie.
            ready: digest of a file's bytes to its prepared instances, of those that are decoded
                already; the others are decoded now.
            wait: for units that other processes compute; otherwise these may still be open.

        Raises:
            ConfigError: the engine cannot run this network.
            StaleError: this machine gives other numbers than those in the store.
            StorageError: the store cannot be written; found out before the network runs.
        """
        started = time.perf_counter()
        store, result = self.store, self.result
        files = {str(record.pixels): record for record in images}
        wanted = [row for r in files.values() for row in rows_of(r, self.settings.instances)]
        waiting = [row for row, there in zip(wanted, store.has(wanted), strict=True) if not there]
        if waiting or (self._verify and self._run is None):
            run, writer = self._opened()
            run.take(files, ready)
            waiting = run.set_aside_known_rejects(waiting, store.rejected)
            waiting = take_from_twins(
                self._twins,
                waiting,
                writer,
                lambda rows: self._planned(rows, rows, again=False),
                lambda twin: self._agree(twin, run),
            )
            if waiting:
                tasks = self._planned(waiting, wanted, again=wait)
                run.compute(tasks, writer, wait=wait)
            run.take({})  # what was prepared is needed no more, and may be very large
            store.refresh(gone=True)
        result.rows = int(store.has(wanted).sum())
        result.rejected, ours = {}, set(wanted)
        for row, reason in store.rejected.items():
            if row in ours:
                result.rejected.setdefault(image_digest(row), reason)
        result.seconds["total"] += time.perf_counter() - started

    def _planned(
        self, rows: Sequence[bytes], available: Sequence[bytes], *, again: bool
    ) -> list[UnitTask]:
        run, writer = self._opened()
        return writer.plan(
            rows,
            self.store.shape or run.shape,
            self.settings.unit_rows,
            self._surroundings,
            available=set(available),
            again=again,
            compression=self.settings.compression,
        )

    def _opened(self) -> tuple[ExtractRun, Writer]:
        """The engine and the writer, made ready when the first image waits for them."""
        if self._run is None or self._writer is None:
            writer = self._stack.enter_context(Writer(self.store))
            writer.require_place()
            label = f"extract {self.store.key.view}"
            bar = self._stack.enter_context(
                tqdm(total=0, desc=label, unit="img", disable=not self._progress)
            )
            run = opened_run(
                self._stack,
                self._network,
                self._config,
                self.inputs,
                self.settings,
                self._device,
                self._workers,
                self.result,
                bar,
                self._draws,
                self._exports,
            )
            self._surroundings = surroundings(self._device, self.settings)
            self._agree(self.store, run)
            self._run, self._writer = run, writer
        return self._run, self._writer

    def _agree(self, store: KeyStore, run: ExtractRun) -> None:
        store.agree_with_golden(self._surroundings, run.golden, self.settings.tolerance)


def extract(
    network: Network,
    config: NetworkConfig,
    inputs: Inputs,
    images: Iterable[FileRecord],
    store: KeyStore,
    *,
    settings: ExtractConfig,
    device: torch.device,
    workers: int = 2,
    verify: bool = False,
    progress: bool = True,
    draws: Draws | None = None,
) -> ExtractResult:
    """Make sure that every image has its features in the store; see `Extraction`."""
    with Extraction(
        network,
        config,
        inputs,
        store,
        settings=settings,
        device=device,
        workers=workers,
        verify=verify,
        progress=progress,
        draws=draws,
    ) as extraction:
        extraction.add(images)
    return extraction.result
