"""A small workspace with a joint network, for the tests of it."""

import csv
import shutil
from pathlib import Path

import pytest

import mvp
from tests.pipeline.conftest import rows_of

MLP = {"epochs": 15, "hidden": 16, "layers": 1}
JOINT = """
[joint]
head = "mlp"
[joint.training]
epochs = 1
batch_size = 16
"""


def add(ws, text):
    path = ws / "mvp.toml"
    path.write_text(path.read_text() + text)


@pytest.fixture(scope="module")
def joined(trained, tmp_path_factory):
    """The trained workspace with a head of stage two and a joint network on it: read only."""
    folder = Path(shutil.copytree(trained, tmp_path_factory.mktemp("joint") / "ws"))
    mvp.fit_head(folder, "mlp", MLP, progress=False)
    add(folder, JOINT)
    return folder, mvp.finetune_joint(folder, progress=False)


@pytest.fixture
def ws(joined, tmp_path):
    return Path(shutil.copytree(joined[0], tmp_path / "ws"))


def move(ws, studies, part):
    """Deal the patients of some studies to another part."""
    patient = {row["study"]: row["patient"] for row in rows_of(ws)}
    chosen = {patient[study] for study in studies}
    studies = {study for study, one in patient.items() if one in chosen}
    path = ws / "split.csv"
    with path.open() as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        if row["study"] in studies:
            row["part"] = part
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def studies_of(ws, part):
    """The studies of a part."""
    with (ws / "split.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    return [row["study"] for row in rows if row["part"] == part]
