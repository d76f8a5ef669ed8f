"""What every import is checked for, whatever the data set."""

import importlib
from pathlib import Path

import pandas as pd
import pytest

from mvp.data.importers import KINDS, Draft, ImportRequest, Kind, LabelDraft, ViewDraft, read_draft
from mvp.data.importers import kinds as registry
from mvp.errors import ConfigError, DataError


def draft(**changes):
    frame = pd.DataFrame(
        {
            "study": ["a", "a", "b"],
            "patient": ["p", "p", "q"],
            "view": ["x", "y", "x"],
            "path": ["1", "2", "3"],
            "sick": ["1", "1", "0"],
        }
    )
    given = {
        "frame": frame,
        "rows": 3,
        "root": Path(),
        "views": {"x": ViewDraft(), "y": ViewDraft()},
        "labels": {"sick": LabelDraft("sick")},
    }
    return Draft(**{**given, **changes})


@pytest.fixture
def made(monkeypatch, tmp_path):
    """Import what a made-up importer returns."""

    def run(result):
        class Module:
            @staticmethod
            def read(request):
                return result

        monkeypatch.setitem(KINDS, "made", Kind("made", "a table"))
        monkeypatch.setattr(registry.importlib, "import_module", lambda name: Module)
        return read_draft("made", ImportRequest(tmp_path))

    return run


def test_a_draft_that_adds_up_is_taken(made):
    assert len(made(draft()).frame) == 3
    assert made(draft(rows=5, left_out={"without a reason": 2})).notes == []


def test_a_row_that_is_not_accounted_for_is_loud(made):
    with pytest.raises(DataError, match="4 rows came in, 3 are kept and 0"):
        made(draft(rows=4))


def test_nothing_kept_says_why(made):
    with pytest.raises(DataError, match="no image is left") as error:
        made(draft(frame=draft().frame[:0], rows=3, left_out={"of view 'z'": 3}))
    assert "3 of view 'z'" in str(error.value)


@pytest.mark.parametrize(
    ("column", "row", "cell", "what"),
    [
        ("patient", 1, "q", "one study belongs to two patients, 'p' and 'q'"),
        ("study", 2, "", "1 rows have no study or no path"),
        ("path", 2, "", "1 rows have no study or no path"),
    ],
)
def test_a_manifest_that_would_be_wrong_is_not_made(made, column, row, cell, what):
    frame = draft().frame
    frame.loc[row, column] = cell
    with pytest.raises(DataError, match=what):
        made(draft(frame=frame))


def test_a_label_without_its_column_is_found(made):
    with pytest.raises(DataError, match="no column 'well'"):
        made(draft(labels={"well": LabelDraft("well")}))


def test_labels_of_one_class_are_left_out_but_never_all(made):
    frame = draft().frame.assign(dull="1")
    labels = {"sick": LabelDraft("sick"), "dull": LabelDraft("dull")}
    taken = made(draft(frame=frame, labels=labels))
    assert list(taken.labels) == ["sick"]
    assert taken.notes == ["labels with fewer than two classes, left out: dull"]
    assert list(made(draft(frame=frame, labels={"dull": LabelDraft("dull")})).labels) == ["dull"]


def test_every_kind_has_its_importer():
    for kind in KINDS.values():
        assert callable(importlib.import_module(f"mvp.data.importers.{kind.module}").read)
        assert kind.needs <= kind.options


def test_an_unknown_kind_and_a_source_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="no importer 'chexprt'; did you mean 'chexpert'"):
        read_draft("chexprt", ImportRequest(tmp_path))
    with pytest.raises(DataError, match="the source is not there") as error:
        read_draft("chexpert", ImportRequest(tmp_path / "train.csv"))
    assert "chexpert is given train.csv or valid.csv" in str(error.value)
    with pytest.raises(DataError, match="a folder, not a table"):
        read_draft("chexpert", ImportRequest(tmp_path))
