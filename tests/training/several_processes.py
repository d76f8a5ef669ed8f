"""What each process of `torchrun` does in the tests; started alone, it trains by itself."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import torch

# A joint training needs what its own tests make, and one start of processes is dear enough.
sys.path.insert(0, str(Path(__file__).parents[1] / "stages"))

import jointly
from finetuning import Images, Net, data, train, view
from test_finetune_bags import Volumes
from test_several_views import CPU, members
from torch import nn

from mvp.config import NetworkConfig
from mvp.errors import MvpError
from mvp.stages.finetune_shared import finetune_shared
from mvp.training.processes import together


class Still(Net):
    """Nothing in it depends on which rows stand in a part together: no dropout."""

    def __init__(self):
        super().__init__()
        self.drop = nn.Identity()


class Plain(Still):
    """Nor batch norm."""

    def __init__(self):
        super().__init__()
        self.norm = nn.Identity()


def still():
    return Still()


def plain():
    return Plain()


# Not AdamW: it makes whole steps of the rounding errors of a bias before batch norm, whose gradient
# is zero.
SETTINGS = {
    "epochs": 2,
    "head_epochs": 2,
    "batch_size": 12,
    "optimizer": "sgd",
    "learning_rate": 0.05,
}


class Watched(Images):
    """Notes in a file which rows a process reads, and may fail in one of them."""

    def __init__(self, pixels, path, fails):
        super().__init__(pixels)
        self.path, self.fails = path, fails

    def batches(self, order, size):
        with self.path.open("a") as stream:
            stream.write("".join(f"{row}\n" for row in order))
        if self.fails and len(self.asked) > 60:
            raise MvpError("the disk of this process is gone")
        yield from super().batches(order, size)


def together_with_few(folder, processes):
    """Two views with one stem, one of them in some steps alone: its own layers move in these."""
    network = NetworkConfig(name="several_processes:still", share="body")
    both = members(folder, epochs=2, head_epochs=0, batch_size=8, optimizer="sgd")
    both = [replace(one, view=one.view.model_copy(update={"network": network})) for one in both]
    both[1] = replace(both[1], train=both[1].train[:5])
    return finetune_shared(both, seed=3, device=CPU, progress=False, processes=processes)


def main(folder, what):
    torch.set_num_threads(1)
    with together() as processes:
        for name in ("plain", "still", "volumes"):
            fails = what == "fails" and processes.rank == 1
            rows = folder / f"{name}-{processes.rank}.rows"
            images, values = Watched(data()[0], rows, fails), None
            if name == "volumes":
                # Several steps have a single volume, too few for two processes.
                images = Volumes()
                values = images.values
            # In parts only where nothing depends on which rows stand in one together.
            settings = {**SETTINGS, "accumulate": 2 if name == "plain" else 1}
            network = f"several_processes:{'plain' if name == 'plain' else 'still'}"
            result = train(
                folder / name, view(network, **settings), images, values, processes=processes
            )
            sys.stdout.write(f"{processes.rank} {name} {result.best_loss!r} {result.images_seen}\n")
        result = together_with_few(folder / "group", processes)["lateral"]
        sys.stdout.write(f"{processes.rank} group {result.best_loss!r} {result.images_seen}\n")
        jointly.train_every(folder / "joint", jointly.EVERY, 0.0, processes)


if __name__ == "__main__":
    place = Path(sys.argv[1])
    place.mkdir(parents=True, exist_ok=True)
    try:
        main(place, sys.argv[2])
    except MvpError as error:
        sys.stderr.write(f"mvp: {error}\n")
        sys.exit(1)
    assert os.environ.get("WORLD_SIZE", "1") in ("1", "2", "3")
