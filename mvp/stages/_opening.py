"""A run of extraction with its engine made ready, and features that are not stored."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from tqdm import tqdm

from mvp.config import ExtractConfig, NetworkConfig
from mvp.data.draws import Draws
from mvp.data.inputs import Inputs
from mvp.data.reading.inventory import FileRecord
from mvp.networks import Network
from mvp.networks.engines import KeptExports, open_engine
from mvp.stages._extraction import ExtractResult, ExtractRun, ready_for_network
from mvp.types import FloatArray


def opened_run(
    stack: ExitStack,
    network: Network,
    config: NetworkConfig,
    inputs: Inputs,
    settings: ExtractConfig,
    device: torch.device,
    workers: int,
    result: ExtractResult,
    bar: Any,
    draws: Draws | None,
    exports: KeptExports | None,
) -> ExtractRun:
    """A run whose engine stands until the stack is closed."""
    before = time.perf_counter()
    example = ready_for_network(network, inputs, torch.stack(inputs.synthetic()), device)
    engine = stack.enter_context(open_engine(network, config, settings, device, example, exports))
    result.seconds["start"] += time.perf_counter() - before
    return ExtractRun(network, inputs, device, workers, settings, result, engine, bar, draws)


def fresh_rows(
    network: Network,
    config: NetworkConfig,
    inputs: Inputs,
    images: Iterable[FileRecord],
    rows: Sequence[bytes],
    *,
    settings: ExtractConfig,
    device: torch.device,
    workers: int = 2,
    draws: Draws | None = None,
    exports: KeptExports | None = None,
) -> tuple[FloatArray, dict[int, str]]:
    """Features (row, ...) of some rows from their images, to be held against stored ones.

    Args:
        network: as for `extract`, as are the others.
        config: which layers, and how they are pooled.
        inputs: what the network is shown.
        images: the files or texts of the rows, and maybe others.
        rows: row ids.
        settings: batch size, engine, and what becomes of slices.
        device: where the network runs.
        workers: decoding threads.
        draws: as for `Extraction`.
        exports: as for `Extraction`.

    Returns:
        The features, NaN where there are none, and for those rows the reason.
    """
    result = ExtractResult("", "")
    with ExitStack() as stack:
        bar = stack.enter_context(tqdm(total=0, disable=True))
        run = opened_run(
            stack,
            network,
            config,
            inputs,
            settings,
            device,
            workers,
            result,
            bar,
            draws,
            exports,
        )
        run.take({str(record.pixels): record for record in images})
        return run.fresh(rows)
