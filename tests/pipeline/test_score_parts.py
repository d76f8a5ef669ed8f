"""A table that is scored in parts gives what it gives in one, and nothing of it is held."""

import csv
import json
import logging
import shutil

import numpy as np
import pandas as pd
import pytest

import mvp
from mvp.data.tables import parts
from mvp.errors import DataError
from mvp.pipeline import seen
from mvp.pipeline.scoring import Scorer
from mvp.pipeline.seen import SeenStudies, among, hashes
from tests.pipeline.test_freshness import write_extra
from tests.pipeline.test_score import read


def written(path, rows):
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def scored(trained, tmp_path_factory):
    """A fitted workspace and a table with new images, missing ones and bad ids; never changed."""
    ws = tmp_path_factory.mktemp("parts") / "ws"
    shutil.copytree(trained, ws)
    mvp.fit_head(ws, progress=False)
    rows = sorted(read(ws / "data" / "studies.csv")[:60], key=lambda row: row["study"])
    rows[5]["path"] = "nowhere.png"
    for row in rows:
        row["patient"] = ""
    bad = [{**rows[0], "study": f"b\u200bad{n}"} for n in range(9)]
    middle = next(i for i in range(20, 60) if rows[i]["study"] != rows[i - 1]["study"])
    written(ws / "new.csv", [*rows[:middle], *bad, *rows[middle:], *write_extra(ws)])
    mvp.score(ws / "new.csv", ws, ws / "whole.csv", progress=False)
    return ws


def in_parts(monkeypatch, rows=7):
    """Rows of every part that is scored from now on."""
    sizes = []
    part = Scorer.part

    def counted(self, manifest):
        sizes.append(manifest.rows)
        return part(self, manifest)

    monkeypatch.setattr(parts, "ROWS", rows)
    monkeypatch.setattr(Scorer, "part", counted)
    return sizes


def cells(path):
    """The rows of a score table with their numbers apart."""
    frame = pd.read_csv(path, dtype={"study": str}, keep_default_na=False)
    numbers = frame.select_dtypes("float")
    return frame.drop(columns=numbers.columns), numbers.to_numpy()


@pytest.mark.parametrize("cached_only", [False, True])
def test_parts_give_what_the_whole_gives(scored, monkeypatch, cached_only):
    whole = mvp.score(
        scored / "new.csv", scored, scored / "a.csv", cached_only=cached_only, progress=False
    )
    sizes = in_parts(monkeypatch)
    done = mvp.score(
        scored / "new.csv", scored, scored / "b.csv", cached_only=cached_only, progress=False
    )
    assert len(sizes) > 5
    assert max(sizes) <= 8  # a study's last row may come along
    told, again = whole.to_json(), done.to_json()
    for key in ("studies", "scored", "rejected_studies", "rejected", "forward_passes", "cached"):
        assert told[key] == again[key], key
    (texts, numbers), (other, others) = cells(scored / "a.csv"), cells(scored / "b.csv")
    pd.testing.assert_frame_equal(texts, other)
    np.testing.assert_allclose(numbers, others, rtol=1e-6)  # as a product is summed, so it rounds
    rejects, now = (sorted(map(str, read(scored / f"{n}.rejected.csv"))) for n in "ab")
    assert rejects == now
    assert len(now) == done.rejected


def test_no_number_of_rows_changes_a_byte_where_the_blocks_are_the_same(scored, monkeypatch):
    monkeypatch.setattr("mvp.stages.score.BLOCK", 1)
    for suffix in ("csv", "parquet"):
        mvp.score(scored / "new.csv", scored, scored / f"a.{suffix}", progress=False)
        with pytest.MonkeyPatch.context() as patch:
            sizes = in_parts(patch, 5)
            mvp.score(scored / "new.csv", scored, scored / f"b.{suffix}", progress=False)
        assert len(sizes) > 5
        assert (scored / f"a.{suffix}").read_bytes() == (scored / f"b.{suffix}").read_bytes()


def test_a_study_that_stands_again_further_down_is_no_score(scored, monkeypatch, command):
    rows = read(scored / "new.csv")
    rows.append(rows[0])
    table = written(scored / "again.csv", rows)
    (scored / "again-out.csv").write_text("as it was")
    in_parts(monkeypatch)
    code, _, err = command(
        "score", table, "-w", scored, "--out", scored / "again-out.csv", "--quiet"
    )
    assert code == DataError.exit_code
    assert f"on line 2 and line {len(rows) + 1}" in err
    assert "sort it by study" in err
    assert (scored / "again-out.csv").read_text() == "as it was"
    assert not (scored / "again-out.rejected.csv").exists()
    assert not list(scored.glob(".partial-*"))
    # In one part they are one study, as ever.
    monkeypatch.setattr(parts, "ROWS", 1000)
    assert mvp.score(table, scored, scored / "once.csv", progress=False).scored


def test_ids_that_share_a_hash_are_two_studies(scored, monkeypatch):
    in_parts(monkeypatch)
    monkeypatch.setattr(seen, "hashes", lambda studies: np.zeros(len(studies), np.uint64))
    done = mvp.score(scored / "new.csv", scored, scored / "h.csv", progress=False)
    assert done.scored == len(read(scored / "whole.csv"))


def test_a_kind_of_warning_is_told_once_and_counted(scored, monkeypatch, caplog):
    in_parts(monkeypatch)
    with caplog.at_level(logging.WARNING, "mvp"):
        mvp.score(scored / "new.csv", scored, scored / "w.csv", progress=False)
    told = [r.message for r in caplog.records if "no patient id" in r.message]
    assert len(told) == 1
    assert any(r.message.startswith("no-patient: ") for r in caplog.records)


def test_a_table_of_bad_ids_alone_is_refused(scored, monkeypatch):
    rows = [row for row in read(scored / "new.csv") if "\u200b" in row["study"]]
    path = written(scored / "bad.csv", rows)
    in_parts(monkeypatch, 2)
    with pytest.raises(DataError, match="no row has a usable id"):
        mvp.score(path, scored, scored / "bad-out.csv", progress=False)
    assert not (scored / "bad-out.csv").exists()


def test_only_the_first_rejects_are_held_and_all_are_written(scored, monkeypatch):
    monkeypatch.setattr("mvp.pipeline._score.MOST_HELD", 3)
    done = mvp.score(scored / "new.csv", scored, scored / "m.csv", progress=False)
    assert len(done.rejects) == 3
    assert done.rejected == len(read(scored / "m.rejected.csv")) > 3
    assert json.loads(json.dumps(done.to_json()))["rejected"] == done.rejected


@pytest.mark.parametrize("sorted_at_once", [4, 1000])
def test_repeated_ids_are_found_whatever_is_sorted_at_once(tmp_path, monkeypatch, sorted_at_once):
    monkeypatch.setattr(seen, "_SORTED", sorted_at_once)
    monkeypatch.setattr(seen, "_BLOCK", 3)
    monkeypatch.setattr(seen, "_HELD_BYTES", 16)
    ids = np.array([f"s{n}" for n in range(50)], dtype=object)
    with SeenStudies(tmp_path) as studies:
        studies.add(ids[:30])
        studies.add(ids[30:])
        assert not len(studies.repeated())
        studies.add(ids[[3, 40]])
        found = studies.repeated()
    assert ids[among(ids, found)].tolist() == ["s3", "s40"]
    assert sorted(found) == sorted(hashes(ids[[3, 40]]))
    assert not list(tmp_path.iterdir())
