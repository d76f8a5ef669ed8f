"""Scoring: exactly the missing images, the cache alone, no study lost, no formula run."""

import csv

import pandas as pd
import pytest

import mvp
from mvp.data import loading
from mvp.data.reading import inventory, readers
from mvp.stages import score as stage
from tests.pipeline.test_freshness import write_extra


def read(path):
    with path.open() as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def fitted(workspace):
    mvp.fit_head(workspace, progress=False)
    return workspace


def new_table(ws, rows):
    path = ws / "new.csv"
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_scoring_extracts_exactly_the_missing_images(fitted):
    known = read(fitted / "data" / "studies.csv")[:6]
    extra = write_extra(fitted)
    path = new_table(fitted, known + extra)
    first = mvp.score(path, fitted, progress=False)
    assert first.forward_passes == len(extra)
    assert first.cached == len(known)
    assert first.scored == len({r["study"] for r in known + extra})
    second = mvp.score(path, fitted, progress=False)
    assert second.forward_passes == 0


def test_cached_only_opens_no_image(fitted, monkeypatch):
    known = read(fitted / "data" / "studies.csv")[:6]
    extra = write_extra(fitted)
    path = new_table(fitted, known + extra)

    def opened(*_):
        raise AssertionError("an image was opened")

    for module in (readers, loading, inventory):
        for name in ("decode", "examine", "read_stack", "check_file"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, opened)
    done = mvp.score(path, fitted, cached_only=True, progress=False)
    assert done.forward_passes == 0
    assert done.cached == len(known)
    assert done.scored + done.rejected_studies == done.studies
    assert done.exit_code == 4
    reasons = {r["reason"] for r in read(fitted / "scores" / "new.rejected.csv")}
    assert "not in the cache" in reasons


def test_in_is_done_plus_rejected_and_the_reject_table_says_why(fitted):
    rows = read(fitted / "data" / "studies.csv")
    study = rows[0]["study"]
    mine = [r for r in rows if r["study"] == study]
    for row in mine:
        row["path"] = "nowhere/" + row["path"]
    path = new_table(fitted, mine + [r for r in rows if r["study"] != study][:4])
    done = mvp.score(path, fitted, progress=False)
    assert done.exit_code == 4
    assert done.scored + done.rejected_studies == done.studies
    assert study not in {r["study"] for r in read(fitted / "scores" / "new.csv")}
    rejected = read(fitted / "scores" / "new.rejected.csv")
    assert {r["study"] for r in rejected} == {study}
    assert any("not there" in r["reason"] for r in rejected)


def test_scores_agree_between_formats_blocks_and_missing_views(fitted, monkeypatch):
    table = fitted / "data" / "studies.csv"
    mvp.score(table, fitted, fitted / "a.csv", progress=False)
    monkeypatch.setattr(stage, "BLOCK", 7)
    mvp.score(table, fitted, fitted / "b.parquet", progress=False)
    a = pd.read_csv(fitted / "a.csv", dtype={"study": str})
    b = pd.read_parquet(fitted / "b.parquet")
    assert list(a.columns) == list(b.columns)
    assert (a["study"] == b["study"]).all()
    assert abs(a["tube_side"] - b["tube_side"]).max() < 1e-6
    views = pd.read_csv(table, dtype=str).groupby("study")["view"].apply(set)
    for row in b.itertuples():
        assert row.has_frontal == ("PA" in views[row.study])
        assert row.has_lateral == ("LL" in views[row.study])
    assert (~b["has_frontal"]).any()
    assert (~b["has_lateral"]).any()


def test_ids_that_a_spreadsheet_would_run_are_text(fitted):
    rows = read(fitted / "data" / "studies.csv")[:2]
    rows[0]["study"], rows[1]["study"] = "=cmd()", "@x"
    path = new_table(fitted, rows)
    mvp.score(path, fitted, progress=False)
    assert {r["study"] for r in read(fitted / "scores" / "new.csv")} == {"'=cmd()", "'@x"}


def test_scores_never_overwrite_their_table(command, fitted):
    table = fitted / "data" / "studies.csv"
    code, _, err = command("score", table, "-w", fitted, "--out", table, "--quiet")
    assert code == 2
    assert "overwrite" in err


def test_an_unknown_suffix_is_refused_before_any_work(command, fitted):
    table = fitted / "data" / "studies.csv"
    code, _, err = command("score", table, "-w", fitted, "--out", fitted / "s.xlsx", "--quiet")
    assert code == 2
    assert ".csv or .parquet" in err


def test_a_reject_table_scored_again_is_not_overwritten(command, fitted):
    table = fitted / "x.rejected.csv"
    table.write_text((fitted / "data" / "studies.csv").read_text())
    code, _, err = command("score", table, "-w", fitted, "--out", fitted / "x.csv", "--quiet")
    assert code == 2
    assert "overwrite" in err
    assert table.exists()


def test_a_folder_is_no_score_table(command, fitted):
    table = fitted / "data" / "studies.csv"
    code, _, err = command("score", table, "-w", fitted, "--out", fitted / "data", "--quiet")
    assert code == 2
    assert "a folder" in err
    (fitted / "file").write_text("")
    code, _, err = command("score", table, "-w", fitted, "--out", fitted / "file" / "s.csv", "-q")
    assert code == 2
    assert "name another place with --out" in err


def test_a_view_that_the_head_needs_and_mvp_toml_lacks(command, fitted):
    toml = (fitted / "mvp.toml").read_text()
    (fitted / "mvp.toml").write_text(toml.replace('[views.lateral]\naliases = ["LL"]\n', ""))
    for extra in ([], ["--cached-only"]):
        table = fitted / "data" / "studies.csv"
        code, _, err = command("score", table, "-w", fitted, "--quiet", *extra)
        assert code == 2
        assert "'lateral'" in err
