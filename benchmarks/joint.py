"""Memory and seconds of one joint step on the largest study: three planes, 17 and 61 slices.

Every figure is the greatest resident memory of a process of its own, which builds three AlexNets
and a head, and takes one step (forward, back, SGD with momentum) on one study of random slices;
beside it a process that builds the same and takes no step.

    python -m benchmarks.joint
    python -m benchmarks.joint --network resnet18 --slices 17 61
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

PLANES = ("axial", "coronal", "sagittal")
LABELS = 3


def step(network: str, slices: int, size: int) -> dict[str, float]:
    """Seconds and peak memory (MB) of a step on a study of so many slices a plane; 0 for none."""
    import resource

    import torch

    from mvp.config import NetworkConfig
    from mvp.learners.fusion_net import FusionNet
    from mvp.networks import build
    from mvp.networks.bodies import Body, ViewInputs
    from mvp.networks.multiview import MultiView

    torch.manual_seed(0)
    networks = {plane: build(NetworkConfig(name=network), LABELS) for plane in PLANES}
    width = networks[PLANES[0]].width
    head = FusionNet([width] * 3, LABELS, hidden=64, layers=0, dropout=0.0)
    bodies = {plane: Body(one, own=one.head) for plane, one in networks.items()}
    total = 3 * width
    module = MultiView(
        dict.fromkeys(PLANES, width), bodies, head, torch.zeros(total), torch.ones(total)
    ).train()
    module.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-3, momentum=0.9)
    started = time.perf_counter()
    if slices:
        batch = {
            plane: ViewInputs(torch.tensor([0]), torch.rand(slices, 3, size, size), [slices])
            for plane in PLANES
        }
        seen = module.look(batch, 1)
        truth = torch.ones(1, LABELS)
        said = [module.head(seen.features, seen.presence), *(one for _, one in seen.own.values())]
        loss = sum(
            (weight * torch.nn.functional.binary_cross_entropy_with_logits(one, truth))
            for weight, one in zip((1.0, 0.3, 0.3, 0.3), said, strict=True)
        )
        loss.backward()
        optimizer.step()
    seconds = time.perf_counter() - started
    return {
        "MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "seconds": seconds,
    }


def measured(network: str, slices: int, size: int) -> dict[str, float]:
    """What `step` says in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.joint", "--one", str(slices)]
    command += ["--network", network, "--size", str(size)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def main(arguments: list[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.joint")
    parser.add_argument("--network", default="alexnet")
    parser.add_argument("--slices", type=int, nargs="+", default=[17, 61])
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--one", type=int)
    asked = parser.parse_args(arguments)
    if asked.one is not None:
        print(json.dumps(step(asked.network, asked.one, asked.size)))
        return
    from mvp.reports import grid

    base = measured(asked.network, 0, asked.size)["MB"]
    rows = [["slices a plane", "peak MB", "of it the step", "MB a slice", "seconds"]]
    rows.append(["none", f"{base:.0f}", "0", "", ""])
    for slices in asked.slices:
        found = measured(asked.network, slices, asked.size)
        more = found["MB"] - base
        rows.append(
            [
                str(slices),
                f"{found['MB']:.0f}",
                f"{more:.0f}",
                f"{more / (3 * slices):.1f}",
                f"{found['seconds']:.1f}",
            ]
        )
    print(f"one study, three planes, {asked.network} at {asked.size}")
    print(grid(rows))


if __name__ == "__main__":
    main(sys.argv[1:])
