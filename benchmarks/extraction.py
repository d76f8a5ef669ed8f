"""Extraction from JPEG files: a plain script, thingsvision, mvp, and the bare engines.

Every figure is taken in a process of its own, one side after the other, round after round. What
is timed starts after the imports and the building of the network, and ends when the features are
on the disk. `mvp:onnxruntime` exports the network, `mvp:onnxruntime:later` finds that export kept.
`--thingsvision PYTHON` names the interpreter of an environment that has it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

NETWORKS = {"densenet121": "features", "resnet18": "avgpool", "resnet50": "avgpool"}
BATCH, SIDE, SIZE = 32, 1024, 224


def write_films(folder: Path, number: int) -> None:
    """Grey 1024² JPEG files of quality 90, smooth with grain as films are, and their table."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    lines = ["study,patient,view,path,finding"]
    for seed in range(number):
        rng = np.random.default_rng(seed)
        picture = 0.5 + 0.3 * np.sin(7 * x + seed) * np.cos(5 * y + 0.1 * seed)
        picture += rng.normal(0, 0.02, (SIDE, SIDE))
        pixels = (np.clip(picture, 0, 1) * 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}.jpg", quality=90)
        lines.append(f"s{seed},p{seed},frontal,{seed}.jpg,{seed % 2}")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")


def write_weights(folder: Path) -> None:
    import torch
    from torchvision import models

    for name in NETWORKS:
        torch.manual_seed(0)
        torch.save(models.get_model(name).state_dict(), folder / f"{name}.pth")


def plain(folder: Path, name: str, workers: int) -> Callable[[], int]:
    """What one writes in twenty lines, with the loader as it comes or with worker processes."""
    import torch
    from torch.utils.data import DataLoader, Dataset
    from torchvision import models, transforms

    files = sorted(folder.glob("*.jpg"))
    normal = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    ready = transforms.Compose([transforms.Resize((SIZE, SIZE)), transforms.ToTensor(), normal])

    class Films(Dataset):
        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, i: int) -> torch.Tensor:
            return ready(Image.open(files[i]).convert("RGB"))

    model = models.get_model(name)
    model.load_state_dict(torch.load(folder / f"{name}.pth", weights_only=True))
    model.eval()
    seen: list[torch.Tensor] = []
    model.get_submodule(NETWORKS[name]).register_forward_hook(
        lambda _module, _inputs, output: seen.append(output.clone())
    )

    def run() -> int:
        rows = []
        with torch.no_grad():
            for batch in DataLoader(Films(), batch_size=BATCH, num_workers=workers):
                model(batch)
                rows.append(torch.relu(seen.pop()).mean((2, 3)))
        torch.save(torch.cat(rows), folder / "plain.pt")
        return len(files)

    return run


def settings(name: str, engine: str) -> str:
    """mvp.toml of a workspace beside the films."""
    return f"""protocol = "frozen"
[data]
table = "../table.csv"
root = ".."
[views.frontal]
[labels.finding]
[network]
name = "{name}"
weights = "../{name}.pth"
[transform]
size = {SIZE}
fit = "stretch"
[extract]
engine = "{engine}"
batch_size = {BATCH}
"""


def with_mvp(folder: Path, name: str, engine: str, later: bool) -> Callable[[], int]:
    """A new workspace and files that nobody has looked at; later, an earlier run's export."""
    import mvp.networks.engines  # noqa: F401 - imports are not what is measured
    from mvp import pipeline
    from mvp.pipeline import _extract  # noqa: F401

    earlier = sorted(folder.glob(f"{name}-{engine}-*/engines"))
    workspace = Path(tempfile.mkdtemp(prefix=f"{name}-{engine}-", dir=folder))
    if later:
        shutil.copytree(earlier[-1], workspace / "engines")
    (workspace / "mvp.toml").write_text(settings(name, engine))

    def run() -> int:
        done = pipeline.extract(workspace, progress=False)
        print(done.text, file=sys.stderr)
        return done.forward_passes

    return run


def bare(folder: Path, name: str, how: str) -> Callable[[], int]:
    """The network alone, on tensors in memory."""
    import torch
    from torchvision import models

    from mvp.config import ExtractConfig, NetworkConfig, TransformConfig
    from mvp.data.transforms import Transform
    from mvp.networks import build
    from mvp.networks.engines import open_engine

    number = len(list(folder.glob("*.jpg")))
    if how in ("eager", "channels-last"):
        model = models.get_model(name).eval()
        images = torch.randn(BATCH, 3, SIZE, SIZE)
        if how == "channels-last":
            model = model.to(memory_format=torch.channels_last)
            images = images.contiguous(memory_format=torch.channels_last)

        def eager() -> int:
            with torch.inference_mode():
                for start in range(0, number, BATCH):
                    model(images[: min(BATCH, number - start)])
            return number

        return eager
    config = NetworkConfig(name=name, weights=str(folder / f"{name}.pth"))
    network = build(config, None)
    transform = Transform(TransformConfig(size=SIZE))
    images = transform.finish(torch.rand(BATCH, 1, SIZE, SIZE), network.channels)
    settings = ExtractConfig(engine=how, batch_size=BATCH)

    def through_engine() -> int:
        for start in range(0, number, BATCH):
            engine(images[: min(BATCH, number - start)])
        return number

    manager = open_engine(network, config, settings, torch.device("cpu"), images[:2])
    engine = manager.__enter__()  # stands until the process ends
    through_engine.manager = manager  # type: ignore[attr-defined]
    engine(images)
    return through_engine


def thingsvision(folder: Path, name: str) -> Callable[[], int]:
    """Its own loader and extractor, as its documentation shows them."""
    import torch
    from thingsvision import get_extractor
    from thingsvision.utils.data import DataLoader, ImageDataset
    from thingsvision.utils.storing import save_features

    extractor = get_extractor(model_name=name, source="torchvision", device="cpu", pretrained=False)
    state = torch.load(folder / f"{name}.pth")
    extractor.model.load_state_dict(state)
    films = folder / "films"

    def run() -> int:
        data = ImageDataset(
            root=str(films),
            out_path=str(folder / "things"),
            backend=extractor.get_backend(),
            transforms=extractor.get_transformations(),
        )
        loader = DataLoader(dataset=data, batch_size=BATCH, backend=extractor.get_backend())
        features = extractor.extract_features(
            batches=loader, module_name=NETWORKS[name], flatten_acts=False
        )
        save_features(features, out_path=str(folder / "things"), file_format="npy")
        return len(features)

    return run


def one(kind: str, folder: Path, name: str) -> None:
    """Measure one side in this process and print seconds and images."""
    side, _, detail = kind.partition(":")
    action = {
        "plain": lambda: plain(folder, name, int(detail or 0)),
        "mvp": lambda: with_mvp(folder, name, *_engine_and_run(detail)),
        "bare": lambda: bare(folder, name, detail),
        "thingsvision": lambda: thingsvision(folder, name),
    }[side]()
    started = time.perf_counter()
    images = action()
    print(json.dumps({"seconds": time.perf_counter() - started, "images": images}))
    sys.stdout.flush()
    os._exit(0)


def _engine_and_run(detail: str) -> tuple[str, bool]:
    engine, _, run = detail.partition(":")
    return engine, run == "later"


def matrix_product() -> float:
    """GFLOP/s of a large float32 matrix product."""
    import torch

    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    times = []
    for _ in range(8):
        started = time.perf_counter()
        torch.mm(a, b)
        times.append(time.perf_counter() - started)
    return 2 * 2048**3 / statistics.median(times) / 1e9


def measured(kind: str, folder: Path, name: str, python: str = sys.executable) -> float:
    """Images per second."""
    done = subprocess.run(
        [python, "-m", "benchmarks.extraction", "--one", kind, str(folder), name],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{kind} {name}: {done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return float(found["images"] / found["seconds"])


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.extraction")
    parser.add_argument("--one", nargs=3, metavar=("KIND", "FOLDER", "NETWORK"))
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--without", nargs="*", default=[], metavar="KIND")
    parser.add_argument("--thingsvision", metavar="PYTHON")
    asked = parser.parse_args(arguments)
    if asked.one:
        one(asked.one[0], Path(asked.one[1]), asked.one[2])
        return
    # Not at the top: thingsvision's environment need not have what mvp needs.
    from mvp.reports import grid

    kinds = ["plain", "plain:2", "mvp:torch", "mvp:onnxruntime", "mvp:onnxruntime:later"]
    kinds += ["bare:eager", "bare:channels-last", "bare:torch", "bare:onnxruntime"]
    if asked.thingsvision:
        kinds.insert(2, "thingsvision")
    kinds = [kind for kind in kinds if kind not in asked.without]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_films(folder, asked.images)
        write_weights(folder)
        (folder / "films").mkdir()
        for film in folder.glob("*.jpg"):
            os.link(film, folder / "films" / film.name)
        print(
            f"{asked.images} grey JPEG files of 1024²; matrix product "
            f"{matrix_product():.0f} GFLOP/s"
        )
        for name in asked.networks:
            rates: dict[str, list[float]] = {kind: [] for kind in kinds}
            for _ in range(asked.rounds):
                for kind in kinds:
                    python = asked.thingsvision if kind == "thingsvision" else sys.executable
                    rates[kind].append(measured(kind, folder, name, python))
            print(grid(_table(name, rates)))


def _table(name: str, rates: dict[str, list[float]]) -> list[list[str]]:
    rows = [[name, "images/s", "of the plain script", "of its bare engine"]]
    for kind, found in rates.items():
        own = f"bare:{kind.split(':')[1]}" if kind.startswith("mvp:") else None
        rows.append(
            [
                kind,
                f"{statistics.median(found):.1f}",
                _ratio(found, rates["plain"]),
                _ratio(found, rates[own]) if own else "",
            ]
        )
    return rows


def _ratio(ours: list[float], theirs: list[float]) -> str:
    ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    return f"{statistics.median(ratios):.2f} [{ratios[0]:.2f}, {ratios[-1]:.2f}]"


if __name__ == "__main__":
    main(sys.argv[1:])
