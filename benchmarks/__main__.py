"""`make bench`: every ratio in one run, alternating its two sides, medians of the pairs."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from mvp.config import NetworkConfig
from mvp.features import FeatureKey, FeatureStore, row_id
from mvp.files import digest_bytes
from mvp.networks import Capture, build, inference
from mvp.reports import grid


def seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def paired(ours: Callable[[], object], other: Callable[[], object], pairs: int = 5) -> list[str]:
    """Medians of both, and the median, least and greatest ratio ours / other of the pairs."""
    ours(), other()
    taken = [(seconds(ours), seconds(other)) for _ in range(pairs)]
    ratios = sorted(a / b for a, b in taken)
    mine, theirs = (statistics.median(side) for side in zip(*taken, strict=True))
    middle = statistics.median(ratios)
    return [
        f"{mine * 1000:.0f} ms",
        f"{theirs * 1000:.0f} ms",
        f"{middle:.2f} [{ratios[0]:.2f}, {ratios[-1]:.2f}]",
    ]


def hook(name: str, size: int, batch: int) -> list[str]:
    network = build(NetworkConfig(name=name), None)
    images = torch.randn(batch, 3, size, size)
    with Capture(network) as capture, inference(network):
        return paired(lambda: capture(images), lambda: network.module(images))


def epochs(rows: int = 64, count: int = 10) -> list[str]:
    """Ten epochs of a linear head: every epoch through the network, or once and then cached."""
    network = build(NetworkConfig(name="resnet18"), None)
    images, labels = torch.randn(rows, 3, 112, 112), torch.randint(0, 2, (rows, 1)).float()

    def train(features: Callable[[], torch.Tensor]) -> None:
        head = torch.nn.Linear(network.width, 1)
        optimizer = torch.optim.AdamW(head.parameters())
        for _ in range(count):
            logits = head(features().clone())
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    with Capture(network) as capture:

        def forward() -> torch.Tensor:
            with inference(network):
                return capture(images)

        def cached() -> None:
            once = forward()
            train(lambda: once)

        return paired(cached, lambda: train(forward), pairs=3)


def read(rows: int, width: int, folder: Path) -> list[str]:
    values = np.random.default_rng(0).standard_normal((rows, width)).astype(np.float32)
    flat = folder / "memmap"
    np.memmap(flat, np.float32, "w+", shape=values.shape)[:] = values
    ids = [row_id(digest_bytes(i.to_bytes(8, "big"))) for i in range(rows)]
    store = FeatureStore(folder / "store").open(
        FeatureKey("view", "w", "resnet18", "fc:input", "avg", "t")
    )
    for task in store.plan(ids, width, 1024, {}):
        rows_of_unit = task.segment.unit_slice(task.unit)
        store.commit(task, values[rows_of_unit], {})
    store.refresh()
    return paired(
        lambda: store.read(ids),
        lambda: np.array(np.memmap(flat, np.float32, "r", shape=values.shape)),
    )


def help_time() -> list[str]:
    def run(*arguments: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, *arguments], capture_output=True, check=True)

    return paired(run("-m", "mvp", "extract", "--help"), run("-c", "import typer"))


def main() -> None:
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            ["what / against what", "ours", "other", "ratio"],
            ["mvp extract --help / import typer", *help_time()],
            ["hooked forward / plain, resnet18 at 224, batch 8", *hook("resnet18", 224, 8)],
            ["hooked forward / plain, densenet121 at 224, batch 8", *hook("densenet121", 224, 8)],
            ["ten epochs with a cache / without, resnet18", *epochs()],
            ["store read / memmap copy, 20,000 x 512", *read(20_000, 512, Path(folder))],
        ]
    print(grid(rows))


if __name__ == "__main__":
    main()
