"""What the cache saves: training from it against passing every image through the network again.

One side extracts the features of JPEG files once, by `mvp.extract`, and trains a head on them for
ten epochs. The other decodes the files and runs the network in every epoch. Both train the same
head by the same loop, and end with the same weights. Then ten learners are fitted: from one cache,
and each end to end, with an extraction of its own. `--once` leaves the long sides out: one
extraction of many files, and what each learner costs beside it.

    python -m benchmarks.saving --images 320
    python -m benchmarks.saving --images 3000 --once
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.extraction import BATCH, settings, write_films, write_weights
from benchmarks.timing import timed
from mvp import pipeline
from mvp.data.inputs import Inputs
from mvp.data.loading import Request
from mvp.networks.engines import Engine, open_engine
from mvp.pipeline.networks import feature_network, open_stores, view_inputs
from mvp.pipeline.project import Project
from mvp.pipeline.tables import cached_table
from mvp.reports import grid

EPOCHS = 10
LEARNERS = (
    "logistic",
    "mlp",
    "xgboost",
    "mean",
    "hemis",
    "sklearn.ensemble.RandomForestClassifier",
    "sklearn.ensemble.HistGradientBoostingClassifier",
    "sklearn.ensemble.ExtraTreesClassifier",
    "sklearn.neighbors.KNeighborsClassifier",
    "sklearn.naive_bayes.GaussianNB",
)


def workspace(folder: Path, name: str) -> Path:
    place = Path(tempfile.mkdtemp(prefix="saving-", dir=folder))
    (place / "mvp.toml").write_text(settings(name, "torch"))
    return place


def train(features: Callable[[], Tensor], labels: Tensor) -> Tensor:
    """The weights of a linear head after ten epochs, each of which asks for the features."""
    torch.manual_seed(0)
    head: torch.nn.Linear | None = None
    for _ in range(EPOCHS):
        seen = features()
        if head is None:
            head = torch.nn.Linear(seen.shape[1], 1)
            optimizer = torch.optim.AdamW(head.parameters())
        for rows in torch.randperm(len(seen)).split(64):
            loss = torch.nn.functional.binary_cross_entropy_with_logits(
                head(seen[rows])[:, 0], labels[rows]
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert head is not None
    return head.weight.detach()


def cached(place: Path) -> Tensor:
    pipeline.extract(place, progress=False)
    project = Project(place, progress=False)
    table = cached_table(project, open_stores(project, ["frontal"]))
    seen = torch.from_numpy(table.matrix())
    return train(lambda: seen, truth(project))


def live(place: Path) -> Tensor:
    """Decoding and network in every epoch, in the batches of the extraction."""
    project = Project(place, progress=False)
    made, images = feature_network(project, "frontal"), project.manifest.images
    inputs = view_inputs(project, project.manifest, made.view)
    rows = torch.tensor(images["study"].to_numpy())  # numbers of studies
    example = inputs.preparation.finish(torch.stack(inputs.synthetic()), made.network.channels)
    opened = (made.network, made.view.network, made.settings, project.device, example)

    def features() -> Tensor:
        requests = (Request(str(file), None, (0,)) for file in images["file"])
        parts, waiting = [], []
        with open_engine(*opened) as engine:
            for image in inputs.load(requests, project.workers, BATCH):
                if isinstance(image, Exception):
                    raise image
                waiting.append(image)
                if len(waiting) == BATCH:
                    parts.append(pooled(engine, inputs, waiting, made.network.channels))
                    waiting = []
            if waiting:
                parts.append(pooled(engine, inputs, waiting, made.network.channels))
        out = torch.empty(len(rows), parts[0].shape[1])
        out[rows] = torch.cat(parts)
        return out

    return train(features, truth(project))


def pooled(engine: Engine, inputs: Inputs, waiting: list[Tensor], channels: int) -> Tensor:
    return torch.from_numpy(engine(inputs.preparation.finish(torch.stack(waiting), channels)))


def truth(project: Project) -> Tensor:
    return torch.from_numpy(project.manifest.labels.values[:, 0])


def epochs(folder: Path, name: str) -> list[list[str]]:
    pipeline.extract(workspace(folder, name), progress=False)  # libraries and files are warm
    once, a = timed(lambda: cached(workspace(folder, name)))
    always, b = timed(lambda: live(workspace(folder, name)))
    same = "equal bit for bit" if torch.equal(a, b) else f"differ by {(a - b).abs().max():.1e}"
    return [
        [f"{EPOCHS} epochs of a linear head, {name}", "seconds"],
        ["extract once, then from the cache", f"{once:.1f}"],
        ["decode and network in every epoch", f"{always:.1f}"],
        ["ratio", f"{always / once:.2f}"],
        ["weights of the two heads", same],
    ]


def learners(folder: Path, name: str, end_to_end: bool) -> list[list[str]]:
    """Ten learners from one cache, and each with an extraction of its own."""
    one = workspace(folder, name)
    extraction, _ = timed(lambda: pipeline.extract(one, progress=False))
    rows, fits, alone = [], 0.0, 0.0
    for learner in LEARNERS:
        fit, _ = timed(lambda learner=learner: fitted(one, learner))
        fits += fit
        if end_to_end:
            own = workspace(folder, name)
            again, _ = timed(lambda own=own: pipeline.extract(own, progress=False))
            end, _ = timed(lambda own=own, learner=learner: fitted(own, learner))
            shutil.rmtree(own)
            alone += again + end
        rows.append([learner.rpartition(".")[2], f"{fit:.2f}", f"{fit / extraction:.1%}"])
    return [
        ["mvp.fit_head", "seconds", "of the extraction"],
        *rows,
        ["extraction", f"{extraction:.1f}", ""],
        ["ten from one cache", f"{extraction + fits:.1f}", ""],
        *[["ten end to end", f"{alone:.1f}", f"{alone / (extraction + fits):.2f} times"]][
            : int(end_to_end)
        ],
    ]


def fitted(place: Path, learner: str) -> None:
    pipeline.fit_head(place, learner, progress=False)


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--images", type=int, default=640)
    options.add_argument("--network", default="resnet18")
    options.add_argument("--once", action="store_true", help="leave the end-to-end sides out")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_films(folder, chosen.images)
        write_weights(folder)
        print(f"{chosen.images} JPEG files of 1024 x 1024, {torch.get_num_threads()} threads")
        if not chosen.once:
            print(grid(epochs(folder, chosen.network)))
        print(grid(learners(folder, chosen.network, not chosen.once)))


if __name__ == "__main__":
    main()
