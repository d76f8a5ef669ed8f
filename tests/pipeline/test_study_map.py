"""Which study has which row: the same in memory, in a file, and after another import."""

import numpy as np
import pytest

from mvp.features import mapped, sorted_keys
from mvp.features.rows import unpack
from mvp.files import digest_bytes
from mvp.pipeline import study_map
from mvp.pipeline.study_map import StudyMap

STUDIES = [f"s{n}" for n in range(50)]


def digest(text):
    return digest_bytes(text.encode())


@pytest.fixture
def made():
    return StudyMap.of(STUDIES, [digest(s) for s in STUDIES])


@pytest.fixture
def in_file(made, tmp_path, monkeypatch):
    monkeypatch.setattr(mapped, "LARGE", 0)
    monkeypatch.setattr(sorted_keys, "_FENCE", 4)
    said = made.write(tmp_path / "m")
    return StudyMap.read(tmp_path / "m", 50, said)


@pytest.mark.parametrize("kind", ["made", "in_file"])
def test_a_study_has_its_row(kind, request):
    found = request.getfixturevalue(kind)
    asked = ["s49", "nobody", "s0", "s7"]
    rows = found.rows(asked)
    assert rows.counts.tolist() == [1, 0, 1, 1]
    assert [row.hex() for row in unpack(rows.ids)] == [
        digest(s) + "00000000" for s in ("s49", "s0", "s7")
    ]
    assert len(found) == len(found.every().counts) == 50


@pytest.mark.parametrize("kind", ["made", "in_file"])
def test_keys_that_agree_in_part_are_told_apart(kind, request, monkeypatch, tmp_path):
    monkeypatch.setattr(study_map, "_keys", lambda digests: np.zeros(len(digests), np.uint64))
    found = StudyMap.of(STUDIES, [digest(s) for s in STUDIES])
    if kind == "in_file":
        found = StudyMap.read(tmp_path / "m", 50, found.write(tmp_path / "m"))
    np.testing.assert_array_equal(found.find(["s3", "x", "s49"]), [3, -1, 49])


def test_another_import_adds_and_replaces(in_file):
    newer = StudyMap.of(["s3", "new"], [digest("other"), digest("new")])
    now = in_file.updated(newer)
    assert len(now) == 51
    wanted = [digest("other"), digest("s4"), digest("new")]
    assert [bytes(d).hex() for d in now.digests(now.find(["s3", "s4", "new"]))] == wanted


def test_a_file_that_was_changed_is_not_read(made, tmp_path):
    said = made.write(tmp_path / "m")
    data = bytearray((tmp_path / "m").read_bytes())
    data[40] ^= 1
    (tmp_path / "m").write_bytes(data)
    with pytest.raises(ValueError, match="not the one that was written"):
        StudyMap.read(tmp_path / "m", 50, said)
