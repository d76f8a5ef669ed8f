"""The tables of CheXpert and PadChest as they were published: what is in them, and how fast."""

import csv
import gzip
import re
import time
from pathlib import Path

import pytest

from mvp.config import parse_config
from mvp.data.tables.manifest import load_manifest

pytestmark = pytest.mark.slow
LABELS = ["No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion"]
LABELS += ["Edema", "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax"]
LABELS += ["Pleural Effusion", "Pleural Other", "Fracture", "Support Devices"]
CHEXPERT = """
[data]
table = "t.csv"
study = ["patient", "study"]
view = "Frontal/Lateral"
path = "Path"
[views.frontal]
[views.lateral]
"""
PADCHEST = """
[data]
study = ["PatientID", "StudyID"]
patient = "PatientID"
view = "Projection"
path = "ImageID"
order = "StudyDate_DICOM"
[views.frontal]
aliases = ["PA", "AP", "AP_horizontal"]
images = "newest"
[views.lateral]
aliases = "L"
[views.report]
kind = "text"
column = "Report"
[labels.child]
column = "Pediatric"
positive = "PED"
negative = "No"
"""


@pytest.fixture(scope="module")
def published():
    package = pytest.importorskip("torchxrayvision")
    return Path(package.__file__).parent / "data"


def load(text, folder, table):
    """The manifest, and the seconds of one core that it took."""
    config = parse_config(text, folder / "mvp.toml")
    start = time.process_time()
    manifest = load_manifest(config, folder, table=table)
    return manifest, time.process_time() - start


def test_chexpert(published, tmp_path):
    with (
        gzip.open(published / "chexpert_train.csv.gz", "rt", newline="") as source,
        (tmp_path / "t.csv").open("w", newline="") as target,
    ):
        rows, writer = csv.reader(source), csv.writer(target)
        writer.writerow([*next(rows), "patient", "study"])
        for row in rows:
            ids = re.search(r"(patient\d+)/(study\d+)/", row[0]).groups()
            writer.writerow([*row, *ids])
    text = CHEXPERT + "".join(f'[labels."{name}"]\n' for name in LABELS)
    m, seconds = load(text, tmp_path, tmp_path / "t.csv")
    assert m.rows == len(m.images) == 223_414
    assert len(m) == 187_641
    assert len(set(m.patients)) == 64_540
    assert m.presence(["frontal", "lateral"]).all(axis=1).sum() == 31_413
    assert not m.problems
    assert seconds < 15  # 3 on an idle machine


def test_padchest(published, tmp_path):
    name = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz"
    text = PADCHEST.replace("[data]", f'[data]\ntable = "{name}"')
    m, seconds = load(text, published, published / name)
    left_out = sum(p.count for p in m.problems if p.kind != "label-conflict")
    assert m.rows == len(m.images) + left_out == 160_861
    assert m.source == "gzip, utf-8-sig, separator ','"
    assert m.filled("report").mean() > 0.99
    assert (~m.images_of("frontal", "newest")["study"].duplicated()).all()
    assert seconds < 25  # 5 on an idle machine
