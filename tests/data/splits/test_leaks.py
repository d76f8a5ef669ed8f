"""Leaks are told with line, study, patient, part and file."""

import numpy as np
import pandas as pd
import pytest

from mvp.data.reading.inventory import FileRecord
from mvp.data.splits.leaks import image_problems, near_leaks, near_problems, patient_problems
from mvp.data.tables.manifest import Manifest
from mvp.types import Labels, Target

PARTS = {"s0": "stage1", "s1": "test", "s2": "stage1"}


def manifest(patients):
    n = len(patients)
    images = pd.DataFrame(
        {
            "study": range(n),
            "view": "frontal",
            "path": [f"{i}.png" for i in range(n)],
            "file": [f"/x/{i}.png" for i in range(n)],
            "line": range(2, n + 2),
            "error": "",
        }
    )
    studies = np.array([f"s{i}" for i in range(n)], object)
    labels = Labels((Target("l"),), np.zeros((n, 1), np.float32))
    return Manifest(
        studies, np.array(patients, object), labels, np.full(n, "", object), images, (), n
    )


def look(seed):
    return np.random.default_rng(seed).bytes(1024)


def nearly(seed):
    values = np.frombuffer(look(seed), np.uint8) * 0.9 + 10
    return values.astype(np.uint8).tobytes()


def records(*files):
    """(digest of pixels, look) for every file in order."""
    return {
        f"/x/{i}.png": FileRecord(f"/x/{i}.png", f"f{i}", pixels, "", look=seen.hex())
        for i, (pixels, seen) in enumerate(files)
    }


def test_a_patient_in_two_parts_is_told_once_with_both_studies():
    (problem,) = patient_problems(manifest(["p", "p", "q"]), PARTS)
    assert (problem.severity, problem.count) == ("error", 1)
    assert "line 2 (study s0, patient p, part stage1)" in problem.text
    assert "line 3 (study s1, patient p, part test)" in problem.text
    assert patient_problems(manifest(["p", "q", "p"]), PARTS) == []
    assert patient_problems(manifest(["p", "p", "p"]), {"s0": "test"}) == []


@pytest.mark.parametrize(
    ("parts", "kind", "severity"),
    [
        (PARTS, "same-image-two-parts", "error"),
        ({}, "same-image-two-patients", "warning"),
        ({"s0": "test", "s1": "test"}, "same-image-two-patients", "warning"),
    ],
)
def test_the_same_image_of_two_patients(parts, kind, severity):
    same = records(("a", look(0)), ("a", look(0)), ("b", look(1)))
    (problem,) = image_problems(manifest(["p", "q", "r"]), same, parts)
    assert (problem.kind, problem.severity, problem.count) == (kind, severity, 1)
    assert "line 2 (0.png, study s0, patient p" in problem.text
    assert "line 3 (1.png, study s1, patient q" in problem.text


def test_blank_images_and_texts_are_no_leak():
    blank = records(("a", bytes(1024)), ("a", bytes(1024)), ("a", bytes(1024)))
    (problem,) = image_problems(manifest(["p", "q", "r"]), blank, PARTS)
    assert (problem.kind, problem.count) == ("blank-image", 3)
    texts = records(("a", b""), ("a", b""), ("a", b""))
    assert image_problems(manifest(["p", "q", "r"]), texts, PARTS) == []


def test_nearly_the_same_image_of_two_patients_those_in_two_parts_first():
    found = records(("a", look(0)), ("c", look(1)), ("b", nearly(0)), ("d", nearly(1)))
    own = manifest(["p", "q", "r", "t"])
    leaks = near_leaks(own, found)
    assert [(a.study, b.study) for a, b, _ in leaks.pairs] == [(0, 2), (1, 3)]
    (problem,) = near_problems(own, leaks, {**PARTS, "s3": "stage2"})
    assert problem.severity == "warning"
    assert "2 pairs of images of two patients are nearly the same, 1 of them in two" in problem.text
    assert problem.text.index("1.png") < problem.text.index("0.png")
    assert near_leaks(manifest(["p", "q", "p", "q"]), found).pairs == ()
