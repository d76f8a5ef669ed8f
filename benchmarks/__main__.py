"""`make bench`: ratios in one run, alternating their two sides, medians of the pairs.

Its parts are `python -m benchmarks network`, `inputs`, `store` and `heads`; without a name all of
them run. What takes longer, or processes and options of its own, is run by itself:

    python -m benchmarks.heads [ROWS]           an epoch of the perceptron; `heads` with other rows
    python -m benchmarks.boosting [ROWS ...]    XGBoost from the store against one array
    python -m benchmarks.sweep [ROWS] [WIDTH]   linear heads side by side against one by one
    python -m benchmarks.scoring --rows N ...   `mvp score` over millions of studies
    python -m benchmarks.joint                  memory of a joint step on the largest knee study
    python -m benchmarks.saving --images N      training from the cache against every epoch anew
    python -m benchmarks.extraction --images N  images a second against a plain script
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import torch

from benchmarks.timing import paired
from mvp.config import NetworkConfig
from mvp.networks import Capture, build, inference
from mvp.reports import grid

PARTS = ("network", "inputs", "store", "heads")


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


def help_time() -> list[str]:
    def run(*arguments: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, *arguments], capture_output=True, check=True)

    return paired(run("-m", "mvp", "extract", "--help"), run("-c", "import typer"))


def main() -> None:
    which = set(sys.argv[1:] or PARTS)
    if unknown := which.difference(PARTS):
        sys.exit(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if "network" in which:
        torch.manual_seed(0)
        rows = [
            ["what / against what", "ours", "other", "ratio"],
            ["mvp extract --help / import typer", *help_time()],
            ["hooked forward / plain, resnet18 at 224, batch 8", *hook("resnet18", 224, 8)],
            ["hooked forward / plain, densenet121 at 224, batch 8", *hook("densenet121", 224, 8)],
            ["ten epochs with a cache / without, resnet18", *epochs()],
        ]
        print(grid(rows))
    if "inputs" in which:
        from benchmarks import inputs

        print(grid(inputs.table()))
    if "store" in which:
        from benchmarks import store

        store.main()
    if "heads" in which:
        from benchmarks import heads

        heads.main(heads.ROWS)


if __name__ == "__main__":
    main()
