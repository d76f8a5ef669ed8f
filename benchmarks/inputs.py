"""Images from files to tensors: through decoder processes, and by threads in this process."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.timing import paired
from mvp.config import TransformConfig
from mvp.data.loading import Request, load_instances
from mvp.data.reading.readers import Limits, read_stack
from mvp.data.transforms import Transform

FILES, WORKERS = 64, 2
TRANSFORM = Transform(TransformConfig(size=224))


def film(seed: int, side: int, dtype: str) -> np.ndarray:
    """(side, side) a smooth picture with grain, as films have."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side] / side
    picture = 0.5 + 0.3 * np.sin(7 * x + seed) * np.cos(5 * y) + rng.normal(0, 0.02, (side, side))
    return (np.clip(picture, 0, 1) * np.iinfo(dtype).max).astype(dtype)


def write(folder: Path, name: str, side: int, dtype: str = "uint8") -> list[str]:
    files = []
    for seed in range(FILES):
        path = folder / f"{seed}-{name}"
        if path.suffix == ".npy":
            np.save(path, film(seed, side, dtype))
        else:
            Image.fromarray(film(seed, side, dtype)).save(path)
        files.append(str(path))
    return files


def through_decoders(files: list[str]) -> None:
    requests = (Request(file, None, (0,)) for file in files)
    for image in load_instances(requests, TRANSFORM, Limits(), WORKERS, 64):
        if isinstance(image, Exception):
            raise image


def by_threads(files: list[str]) -> None:
    def one(file: str) -> None:
        stack = read_stack(file, Limits())
        TRANSFORM.prepare(stack.pixels[0], stack.shown_at(0))

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(one, files))


def table() -> list[list[str]]:
    """Time for the same files, through decoders and by threads, and their ratio."""
    kinds = [("1024² JPEG", "a.jpg", 1024, "uint8"), ("64² PNG", "b.png", 64, "uint8")]
    kinds += [("2000² PNG, 16 bit", "c.png", 2000, "uint16")]
    rows = [[f"{FILES} files, {WORKERS} workers", "decoders", "threads", "ratio"]]
    with tempfile.TemporaryDirectory() as folder:
        for title, name, side, dtype in kinds:
            files = write(Path(folder), name, side, dtype)
            rows.append(
                [title, *paired(partial(through_decoders, files), partial(by_threads, files))]
            )
    return rows
