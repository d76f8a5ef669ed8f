"""One run through the real command line: from a table to scored studies."""

import csv

import pandas as pd
import pytest

from tests.pipeline.conftest import SMALL_TOML, finish, finish_json, write_workspace


@pytest.fixture(scope="module")
def ws(tmp_path_factory):
    return write_workspace(tmp_path_factory.mktemp("e2e") / "ws", studies=100)


def test_the_whole_way(ws):
    table = pd.read_csv(ws / "data" / "studies.csv", dtype=str, keep_default_na=False)
    (ws / "mvp.toml").unlink()
    said = finish("init", ws / "data" / "studies.csv", "--workspace", ws)
    assert "view frontal: 'PA'" in said
    assert "view lateral: 'LL'" in said
    assert "apical_nodule" in said
    (ws / "mvp.toml").write_text(SMALL_TOML)

    checked = finish_json("check", "-w", ws)
    assert checked["studies"] == table["study"].nunique() == 100
    assert checked["patients"] == table["patient"].nunique()
    assert checked["images"] == len(table)
    assert checked["problems"] == [p for p in checked["problems"] if p["severity"] == "warning"]
    both = table.groupby("study")["view"].nunique().eq(2).sum()
    assert checked["studies_with_all_views"] == both
    for view, alias in (("frontal", "PA"), ("lateral", "LL")):
        assert checked["views"][view]["images"] == (table["view"] == alias).sum()

    trained = finish("finetune", "-w", ws)
    assert "frontal: 2 epochs" in trained
    for view in ("frontal", "lateral"):
        folder = ws / "stage1" / view / "all"
        assert {p.name for p in folder.iterdir()} >= {
            "weights.safetensors",
            "history.csv",
            "curve.png",
            "provenance.json",
        }
        assert not (folder / "checkpoint.safetensors").exists()

    first = finish_json("extract", "-w", ws)
    again = finish_json("extract", "-w", ws)
    for view, alias in (("frontal", "PA"), ("lateral", "LL")):
        images = int((table["view"] == alias).sum())
        for count in ("images", "rows", "computed", "forward_passes"):
            assert first["views"][view][count] == images
        assert first["views"][view]["cached"] == again["views"][view]["computed"] == 0
        assert again["views"][view]["rows"] == again["views"][view]["cached"] == images
        assert again["views"][view]["rejected"] == 0
    assert again["forward_passes"] == 0

    finish("fit-head", "-w", ws)
    finish("fit-head", "-w", ws, "--learner", "xgboost", "--set", "n_estimators=20")
    result = finish_json("evaluate", "-w", ws, "--head", "xgboost")
    rows = {(r["model"], r["label"]): r for r in result["rows"]}
    assert {m for m, _ in rows} == {"frontal", "lateral", "mean", "fusion"}
    assert {label for _, label in rows} == {"enlarged_heart", "tube_side", "tube_depth"}
    for row in rows.values():
        assert row["n"] == row["positives"] + row["negatives"]
        assert 0 <= row["low"] <= row["auroc"] <= row["high"] <= 1
    assert {p.suffix for p in (ws / "runs").glob("*-evaluate/*")} >= {".html", ".csv", ".png"}

    new = table[table["study"].isin(table["study"].unique()[:7])]
    new.drop(columns=["patient", "tube_side"]).to_csv(ws / "new.csv", index=False)
    scored = finish_json(
        "score", ws / "new.csv", "-w", ws, "--out", ws / "out.csv", "--head", "xgboost"
    )
    assert scored["scored"] == scored["studies"] == 7
    assert scored["forward_passes"] == 0
    with (ws / "out.csv").open() as stream:
        scores = list(csv.DictReader(stream))
    assert [s["study"] for s in scores] == list(new["study"].unique())
    # A label has a call where a threshold could be chosen.
    calls = {column for column in scores[0] if column.endswith("_call")}
    assert calls <= {"enlarged_heart_call", "tube_side_call", "tube_depth_call"}
    assert set(scores[0]) - calls == {
        "study",
        "enlarged_heart",
        "tube_side",
        "tube_depth",
        "has_frontal",
        "has_lateral",
        "head",
    }
    assert len({s["head"] for s in scores}) == 1
    assert all(0 <= float(s["tube_side"]) <= 1 for s in scores)

    plan = finish("run", "-w", ws, "--dry-run")
    for step in ("finetune frontal", "extract lateral", "fit-head logistic"):
        assert f"{step}: skipped" in plan
    assert "evaluate: runs, not evaluated yet" in plan
