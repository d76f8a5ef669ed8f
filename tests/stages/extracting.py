"""A small network, files, and extraction as the stage does it, for the tests."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mvp.config import ExtractConfig, NetworkConfig, TransformConfig
from mvp.data.inputs import ImageInputs
from mvp.data.reading.inventory import Inventory
from mvp.data.reading.readers import Limits, read_instances
from mvp.data.transforms import Transform
from mvp.features import FeatureStore
from mvp.networks import build
from mvp.stages.extract import extract, feature_key, rows_of

NETWORK = NetworkConfig(name="small")
TRANSFORM = Transform(TransformConfig(size=32))


def made_network():
    torch.manual_seed(0)
    made = build(NETWORK, 3)
    # Statistics as after training: fresh batch norm would hide a network in training mode.
    for module in made.module.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    made.module.eval()
    return made


def write_images(folder, count=16, seed=0):
    """Asymmetric films of different sizes, as .png."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        pixels = rng.integers(0, 256, (30 + i, 40), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return [folder / f"{i}.png" for i in range(count)]


def write_volume(path, slices, seed=0, dtype=np.uint8, wide=40):
    rng = np.random.default_rng([seed, slices])
    stack = rng.integers(0, 256, (slices, 30, wide)).astype(dtype)
    np.save(path, stack)
    return path


def scan(files, limits=None):
    """The records of some files, in order; each is looked at anew."""
    files = [str(f) for f in files]
    inventory = Inventory(Path(files[0]).parent / "inventory.sqlite")
    records = inventory.scan(files, limits or Limits())
    return [records[file] for file in files]


def run(network, records, folder, *, config=NETWORK, transform=TRANSFORM, **changes):
    """Extract records into a folder: gives the store, opened anew, and the result."""
    how = {k: changes.pop(k) for k in ("workers", "verify") if k in changes}
    settings = ExtractConfig(**{"batch_size": 8, "unit_rows": 1024, **changes})
    key = feature_key("frontal", network, config, transform, settings)
    result = extract(
        network,
        config,
        ImageInputs(transform),
        records,
        FeatureStore(folder).open(key),
        settings=settings,
        device=torch.device("cpu"),
        progress=False,
        **how,
    )
    return FeatureStore(folder).open(key), result


def row_ids(records, instances="keep"):
    return [row for record in records for row in rows_of(record, instances)]


def read(store, records):
    return store.read(row_ids(records, store.key.instances))


def plain_map(network, files, transform=TRANSFORM):
    """(row, 160, 2, 2): the last map of every image and slice, without hooks or batches."""
    module = network.module
    maps = []
    with torch.no_grad():
        for file in files:
            for pixels in read_instances(file):
                batch = transform.finish(transform.prepare(pixels)[None])
                maps.append(module.stages(module.stem(batch))[0].numpy())
    return np.stack(maps)


def plain_forward(network, files, transform=TRANSFORM):
    """(row, width): the same, averaged over its places."""
    return plain_map(network, files, transform).mean((2, 3))


def counting_forwards(monkeypatch, network):
    """Sizes of the batches that go through a network from now on."""
    forwards = []
    forward = type(network).forward
    monkeypatch.setattr(
        type(network), "forward", lambda self, x: (forwards.append(len(x)), forward(self, x))[1]
    )
    return forwards
