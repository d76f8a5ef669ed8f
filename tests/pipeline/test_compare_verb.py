"""`mvp compare` and `mvp next-view` in a workspace: what they write, refuse and say."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mvp
from mvp.errors import ConfigError
from mvp.pipeline._compare import chosen_subsets, values_wanted
from mvp.pipeline.provenance import read_provenance
from mvp.stages._candidates import subsets_of
from tests.pipeline.conftest import (
    FILMS_TOML,
    edit,
    files_below,
    rows_of,
    write_films,
    write_rows,
    write_workspace,
)
from tests.pipeline.test_folds import two_studies_a_patient

FAST = ("--learners", "logistic,mean")
TWO_VIEWS = FILMS_TOML.replace(
    "[labels.finding]", '[views.again]\nsource = "frontal"\n\n[labels.finding]'
)
CROSSFIT = (
    TWO_VIEWS.replace('"frozen"', '"crossfit"') + "\n[training]\nepochs = 1\n[split]\nfolds = 2\n"
)


def means(said):
    return [row for row in said["rows"] if row["label"] == "mean over labels"]


def table(path):
    with Path(path).open() as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def folded(tmp_path_factory):
    """Two views over films, each with a network for each of two folds."""
    ws = tmp_path_factory.mktemp("folds") / "ws"
    write_films(ws, 60, CROSSFIT)
    two_studies_a_patient(ws)
    mvp.finetune(ws, progress=False)
    mvp.extract(ws, folds=True, progress=False)
    return ws


def test_learners_and_subsets_are_ranked_and_written(trained, done_json):
    before = files_below(trained / "heads") if (trained / "heads").exists() else {}
    said = done_json("compare", "-w", trained, *FAST)
    assert said["candidates"] == said["ranked"] == 6
    assert {row["views"] for row in means(said)} == {"frontal", "lateral", "frontal+lateral"}
    assert [row["rank"] for row in means(said)] == list(range(1, 7))
    best = means(said)[0]
    assert said["winner"]["learner"] == best["learner"]
    assert "+".join(said["winner"]["views"]) == best["views"]
    folder = Path(said["folder"])
    assert folder.name.endswith("-compare")
    assert {p.name for p in folder.iterdir()} >= {
        "compare.json", "compare.csv", "compare.txt", "compare.png", "differences.csv",
        "view-values.csv", "provenance.json",
    }  # fmt: skip
    assert json.loads((folder / "compare.json").read_text()) == said
    assert len(table(folder / "compare.csv")) == len(said["rows"])
    for gain in said["view_values_sum"]:
        own = [v["value"] for v in said["view_values"] if v["label"] == gain["label"]]
        assert sum(own) == pytest.approx(gain["gain"], abs=1e-12)
    assert read_provenance(folder)["split"]
    after = files_below(trained / "heads") if (trained / "heads").exists() else {}
    assert after == before


def test_a_person_is_told_how_many_were_compared_and_on_what(trained, done):
    said = done("compare", "-w", trained, *FAST, "--subsets", "full", "--no-shapley")
    assert "2 candidates fitted, 2 ranked by mean AUROC on" in said
    assert "as the best of 2 its validation figure is too good" in said
    assert "runner-up" in said
    alone = ("--learners", "logistic", "--subsets", "full", "--no-shapley")
    said = done("compare", "-w", trained, *alone)
    assert "nothing was chosen" in said
    assert "as the best of" not in said
    assert "Shapley" not in said
    assert "none" not in said.lower()


def test_the_same_again_is_the_same(trained, done_json):
    said = [
        done_json("compare", "-w", trained, "--learners", "logistic", "--subsets", "singles")
        for _ in range(2)
    ]
    assert said[0].pop("folder") != said[1].pop("folder")
    assert said[0] == said[1]


def test_the_ablation_stands_by_name_only_and_flagged(trained, done, done_json):
    arguments = ("compare", "-w", trained, "--learners", "logistic", "--subsets", "full")
    said = done_json(*arguments, "--protocols", "holdout,same-rows")
    flags = {row["protocol"]: (row["rank"], row["ablation"]) for row in means(said)}
    assert flags == {"holdout": (1, False), "same-rows": (None, True)}
    assert any("same-rows is an ablation" in line for line in said["warnings"])
    assert "not ranked" in done(*arguments, "--protocols", "holdout,same-rows")
    assert not any(row["ablation"] for row in done_json(*arguments)["rows"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--learners", "logistik"], "no learner 'logistik'"),
        (["--learners", ","], "--learners names nothing"),
        (["--protocols", "crossfitt"], "no protocol 'crossfitt'"),
        (["--protocols", "same-rows"], "name an honest protocol beside it"),
        (["--protocols", "frozen"], "would fit the head on rows that trained its networks"),
        (["--subsets", "most"], "use one of auto, all, singles, full"),
        (["--views", "oblique"], "no view 'oblique'"),
        (["--views", "frontal", "--shapley"], "one view alone is worth all"),
        (["--protocols", "crossfit"], "the split has no folds"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_fitted(
    trained, refused, arguments, said
):
    code, line = refused("compare", "-w", trained, *arguments)
    assert code == 2
    assert said in line


@pytest.mark.slow
def test_crossfit_networks_are_compared_by_all_folds(folded, done_json, done):
    said = done_json("compare", "-w", folded, "--learners", "logistic")
    assert said["protocols"] == ["crossfit"]
    assert said["candidates"] == 3
    tested = sum(p == "test" for p in split_of(folded).values())
    assert {row["n"] for row in means(said)} == {tested} == {said["test_studies"]}
    assert said["view_values_of"]
    # One film under two names: neither view is worth more than what both reach.
    done("fit-head", "-w", folded)
    lacking = done_json("next-view", "-w", folded)
    assert (lacking["studies"], lacking["lacking"]) == (tested, 0)


def test_of_many_views_each_and_all_together_are_compared_unless_more_is_asked_for():
    many = [f"v{i}" for i in range(6)]
    assert chosen_subsets(many[:5], "auto") == (subsets_of(many[:5], lambda size: True), [])
    few, notes = chosen_subsets(many, "auto")
    assert few == [*((view,) for view in many), tuple(many)]
    assert "63 subsets" in notes[0]
    assert len(chosen_subsets(many, "all")[0]) == 63
    assert chosen_subsets(many, "full") == ([tuple(many)], [])
    with pytest.raises(ConfigError, match="2047 candidates"):
        chosen_subsets([f"v{i}" for i in range(11)], "all")
    told = []
    assert values_wanted(many[:5], None, told)
    assert not values_wanted(many[:1], None, told)
    assert not told
    assert not values_wanted(many, None, told)
    assert "not valued" in told[0]
    assert values_wanted(many, True, [])
    with pytest.raises(ConfigError, match="heads for 2047 subsets"):
        values_wanted([f"v{i}" for i in range(11)], True, [])


def split_of(ws):
    with (ws / "split.csv").open() as stream:
        return {row["study"]: row["part"] for row in csv.DictReader(stream)}


def test_frozen_networks_are_compared(tmp_path, done_json):
    write_films(tmp_path / "ws", 60, TWO_VIEWS)
    mvp.extract(tmp_path / "ws", progress=False)
    said = done_json("compare", "-w", tmp_path / "ws", "--learners", "logistic")
    assert said["protocols"] == ["frozen"]
    assert said["candidates"] == 3


# ---- next view


def test_the_test_studies_that_lack_a_view_get_one_row_for_each_label(workspace, done_json):
    lose_films(workspace)
    mvp.fit_head(workspace, "logistic", progress=False)
    said = done_json("next-view", "-w", workspace)
    rows = table(said["out"])
    present = views_of(workspace)
    tested = [s for s, part in split_of(workspace).items() if part == "test"]
    lacking = {s for s in tested if len(present[s]) == 1}
    assert lacking
    assert said["lacking"] == len(lacking)
    assert {row["study"] for row in rows} == lacking
    assert len(rows) == 3 * len(lacking)
    for row in rows:
        if row["next_view"]:
            assert row["next_view"] not in present[row["study"]]
            assert 0 <= float(row["low"]) <= float(row["flips"]) <= float(row["high"]) <= 1
            assert int(row["rests_on"]) >= 10


def test_studies_of_another_table_are_asked_about_as_they_are_scored(workspace, done, done_json):
    mvp.fit_head(workspace, "logistic", progress=False)
    rows = rows_of(workspace)
    studies = sorted({row["study"] for row in rows})[:3]
    new = [r for r in rows if r["study"] in studies[:2] and r["view"] == "PA"]
    new += [r for r in rows if r["study"] == studies[2]]
    write = workspace / "new.csv"
    with write.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(new)
    said = done_json("next-view", write, "-w", workspace)
    assert said["studies"] == 3
    assert {r["study"] for r in table(said["out"])} == set(studies[:2])
    assert all(r["next_view"] in ("lateral", "") for r in table(said["out"]))
    new[0]["path"] = "nowhere.png"
    with write.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(new)
    said = done_json("next-view", write, "-w", workspace, code=4)
    assert said["rejected"] == 1
    assert said["without_views"] == 1
    assert table(said["reject_table"])[0]["study"] == new[0]["study"]


def test_a_head_of_one_view_knows_no_next_one(workspace, refused):
    mvp.fit_head(workspace, "logistic", views=["frontal"], name="one", progress=False)
    code, line = refused("next-view", "-w", workspace, "--head", "one")
    assert code == 2
    assert "knows one view" in line


def test_labels_in_another_order_than_the_head_was_fitted_on_are_refused(workspace, refused):
    mvp.fit_head(workspace, "logistic", progress=False)
    edit(
        workspace,
        "[labels.tube_side]\n[labels.tube_depth]",
        "[labels.tube_depth]\n[labels.tube_side]",
    )
    code, line = refused("next-view", "-w", workspace)
    assert code == 2
    assert "fitted on other labels" in line


def test_the_threshold_of_the_head_decides(workspace, done_json):
    lose_films(workspace)
    calls = {}
    for threshold in (None, "sensitivity"):
        if threshold:
            edit(
                workspace,
                'learner = "logistic"',
                'learner = "logistic"\nthreshold = "sensitivity"\nat = 1.0',
            )
        mvp.fit_head(workspace, "logistic", progress=False)
        rows = table(done_json("next-view", "-w", workspace)["out"])
        calls[threshold] = sum(row["call"] == "1" for row in rows)
    assert calls["sensitivity"] > calls[None]


def lose_films(ws):
    """Every third study loses its lateral film, before anything is fitted."""
    rows = rows_of(ws)
    order = {s: i for i, s in enumerate(sorted({row["study"] for row in rows}))}
    both = {s for s in order if sum(r["study"] == s for r in rows) == 2}
    write_rows(
        ws,
        [r for r in rows if r["view"] != "LL" or r["study"] not in both or order[r["study"]] % 3],
    )


def views_of(ws):
    names = {"PA": "frontal", "LL": "lateral"}
    found = {}
    for row in rows_of(ws):
        found.setdefault(row["study"], set()).add(names[row["view"]])
    return found


# ---- the whole way


PIXELS = """
protocol = "frozen"
[data]
table = "data/studies.csv"
root = "data"
[views.frontal]
imported = true
[views.lateral]
imported = true
[labels.enlarged_heart]
[labels.tube_side]
[labels.tube_depth]
[split]
test = 0.35
[head]
learner = "logistic"
options = {C = 0.003}
"""


@pytest.mark.slow
def test_what_the_lateral_alone_shows_is_credited_to_it(tmp_path, done, done_json):
    """The demo's phantoms; coarse pixels stand for features, so no network has to be trained."""
    ws = write_workspace(tmp_path / "ws", PIXELS, studies=1000)
    for alias, view in (("PA", "frontal"), ("LL", "lateral")):
        films = [row for row in rows_of(ws) if row["view"] == alias]
        pixels = [
            np.asarray(Image.open(ws / "data" / row["path"]).resize((32, 32), Image.Resampling.BOX))
            for row in films
        ]
        values = np.stack(pixels).reshape(len(films), -1).astype(np.float32)
        np.savez(ws / f"{view}.npz", studies=[row["study"] for row in films], features=values)
        done("import-features", "--view", view, ws / f"{view}.npz", "-w", ws, "-q")
    said = done_json("compare", "-w", ws, "--learners", "logistic")
    values = {(v["label"], v["view"]): v for v in said["view_values"]}
    for gain in said["view_values_sum"]:
        own = [values[gain["label"], view]["value"] for view in ("frontal", "lateral")]
        assert sum(own) == pytest.approx(gain["auroc"] - 0.5, abs=1e-12)
    for label, shows, other in (
        ("tube_depth", "lateral", "frontal"),
        ("tube_side", "frontal", "lateral"),
    ):
        assert values[label, shows]["low"] > 0.3, label
        assert abs(values[label, other]["value"]) < 0.06, label
    for view in ("frontal", "lateral"):  # the heart shows on both
        assert values["enlarged_heart", view]["low"] > 0.1
    # What lacks the lateral film is likely to be decided otherwise with it, by the depth alone.
    done("fit-head", "-w", ws, "-q")
    summary = done_json("next-view", "-w", ws)["summary"]
    flips = {(row["label"], row["view"]): row["flips"] for row in summary}
    assert flips["tube_depth", "lateral"] > 0.2
    assert flips["tube_depth", "frontal"] < 0.15
