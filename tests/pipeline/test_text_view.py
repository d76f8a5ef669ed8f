"""Views of texts, of a column and of files, beside a view of values, through every verb."""

import csv
import shutil

import pytest
from PIL import Image

import mvp
from mvp import pipeline
from mvp.errors import ConfigError, DataError, StaleError
from mvp.pipeline import networks
from mvp.pipeline._finetune import plan_finetune
from mvp.pipeline.project import Project
from tests.pipeline.conftest import edit

STUDIES = 80
TOML = """
[data]
table = "data/studies.csv"
root = "data"

[views.report]
kind = "text"
column = "findings"

[views.request]
kind = "text"
aliases = ["REQ"]

[views.clinical]
kind = "table"
numbers = ["age", "size"]

[labels.finding]

[text]
length = 24
channels = 4
kernels = [2, 3]

[training]
epochs = 1

[extract]
unit_rows = 16

[head]
learner = "logistic"

[evaluate]
draws = 100
"""


def table(ws, rows=None):
    path = ws / "data" / "studies.csv"
    if rows is None:
        with path.open() as stream:
            return list(csv.DictReader(stream))
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return rows


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    ws = tmp_path_factory.mktemp("texts") / "ws"
    (ws / "data").mkdir(parents=True)
    (ws / "mvp.toml").write_text(TOML)
    rows = []
    for i in range(STUDIES):
        (ws / "data" / f"{i}.txt").write_text(f"cough since {i} days" if i % 2 else f"check {i}")
        rows.append(
            {
                "study": f"s{i}",
                "patient": f"p{i}",
                "view": "REQ",
                "path": f"{i}.txt",
                "findings": "" if i % 9 == 4 else f"{'opacity' if i % 2 else 'clear'} {i % 7}",
                "age": 40 + i % 5,
                "size": 44 - i % 5,
                "finding": i % 2,
            }
        )
    table(ws, rows)
    assert mvp.run(ws, progress=False).exit_code == 0
    return ws


@pytest.fixture
def ws(done, tmp_path):
    return shutil.copytree(done, tmp_path / "ws")


def running(ws):
    return [s.name for s in mvp.run(ws, dry_run=True, progress=False).steps if s.runs]


def study_in(ws, part):
    return next(s for s, p in Project(ws, progress=False).split.parts.items() if p == part)


def test_a_second_run_does_nothing_and_every_row_is_used(ws):
    assert running(ws) == []
    extracted = mvp.extract(ws, progress=False)
    assert extracted.forward_passes == 0
    assert {name: view.computed for name, view in extracted.views.items()} == {
        "report": 0,
        "request": 0,
        "clinical": 0,
    }
    used = pipeline.cache_gc(ws).facts
    assert used["items"] == []
    scored = mvp.score(ws / "data" / "studies.csv", ws, progress=False)
    assert (scored.scored, scored.forward_passes, scored.rejects) == (STUDIES, 0, [])


@pytest.mark.parametrize(
    ("column", "value", "again"),
    [
        ("age", "71", ["extract clinical", "evaluate"]),
        ("findings", "never seen", ["extract report", "evaluate"]),
        ("finding", "", ["evaluate"]),
    ],
)
def test_a_changed_cell_of_a_test_study_costs_what_follows_from_it(ws, column, value, again):
    rows, tested = table(ws), study_in(ws, "test")
    next(row for row in rows if row["study"] == tested)[column] = value
    table(ws, rows)
    # A dry run cannot look beyond a step that would run.
    assert running(ws)[0] == again[0]
    ran = [step.name for step in mvp.run(ws, progress=False).steps if step.runs]
    assert ran == again


def test_a_changed_value_of_a_training_study_fits_the_encoder_and_the_head_anew(ws):
    rows, seen = table(ws), study_in(ws, "stage1")
    next(row for row in rows if row["study"] == seen)["age"] = "71"
    table(ws, rows)
    ran = [step.name for step in mvp.run(ws, progress=False).steps if step.runs]
    assert ran == ["extract clinical", "fit-head logistic", "evaluate"]


@pytest.mark.parametrize(
    "change",
    [
        "length = 25",
        "lower = true",
        "embedding = 8",
        "channels = 5",
        "kernels = [3]",
        "dropout = 0.5",
    ],
)
def test_every_setting_of_texts_makes_their_networks_stale(ws, change):
    name = change.split(" ")[0]
    lines = (ws / "mvp.toml").read_text().splitlines()
    kept = [line for line in lines if not line.startswith(f"{name} = ")]
    kept.insert(kept.index("[text]") + 1, change)
    (ws / "mvp.toml").write_text("\n".join(kept))
    project = Project(ws, progress=False)
    for view in ("report", "request"):
        assert "changed" in plan_finetune(project, view)
    with pytest.raises(StaleError):
        networks.view_key(project, "report")


def test_texts_of_another_column_are_not_scored_with_the_head_of_this_one(ws):
    edit(ws, 'column = "findings"', 'column = "study"')
    with pytest.raises(StaleError, match=r"findings → study"):
        mvp.score(ws / "data" / "studies.csv", ws, progress=False)
    with pytest.raises(StaleError, match=r"findings → study"):
        mvp.evaluate(ws, progress=False)


def test_cached_scores_do_not_take_the_values_of_other_columns(ws):
    """Two columns of the same values change places: the store alone cannot tell."""
    table_path = ws / "data" / "studies.csv"
    assert mvp.score(table_path, ws, cached_only=True, progress=False).scored == STUDIES
    edit(ws, '["age", "size"]', '["size", "age"]')
    with pytest.raises(StaleError, match="other columns"):
        mvp.score(table_path, ws, cached_only=True, progress=False)
    mvp.extract(ws, ["clinical"], progress=False)
    with pytest.raises(StaleError, match="other features"):
        mvp.score(table_path, ws, cached_only=True, progress=False)


def test_check_names_inputs_that_extraction_rejects(ws, command):
    rows = table(ws)
    rows[3]["age"] = "old"
    rows[5]["path"] = "film.png"
    Image.new("L", (9, 9), 9).save(ws / "data" / "film.png")
    table(ws, rows)
    told = [p.text for p in mvp.check(ws, progress=False).problems if p.kind == "input"]
    assert len(told) == 2
    assert "study s5, film.png" in told[0]
    assert "view is of kind" in told[0]
    assert "study s3 (column 'age' says 'old'" in told[1]
    cells = mvp.check(ws, files=False, progress=False).problems
    assert [p.text for p in cells if p.kind == "input"] == told[1:]
    assert mvp.run(ws, progress=False).rejected >= 2


def test_an_encoder_that_nothing_vouches_for_is_not_used(ws):
    """Without its provenance nobody can tell whether it has seen test rows."""
    made = ws / "stage1" / "clinical" / "all" / "provenance.json"
    made.unlink()
    for verb in (mvp.fit_head, mvp.evaluate):
        with pytest.raises(ConfigError, match="whom it has seen"):
            verb(ws, progress=False)
    mvp.extract(ws, ["clinical"], progress=False)
    assert made.exists()
    mvp.evaluate(ws, progress=False)


def test_a_lost_encoder_is_fitted_anew_and_a_damaged_one_named(ws):
    path = ws / "stage1" / "clinical" / "all" / "encoder.json"
    before = path.read_bytes()
    path.unlink()
    assert running(ws)[0] == "extract clinical"
    mvp.run(ws, progress=False)
    assert path.read_bytes() == before
    zero = '{"version":1,"numbers":[["age",1,0],["size",1,1]],"categories":[]}'
    for text in ("[]", zero, zero.replace("[]", "3"), "{"):
        path.write_text(text)
        with pytest.raises(DataError, match="encoder cannot be read"):
            mvp.extract(ws, progress=False)


def test_patients_merged_after_training_are_known_by_their_studies(ws):
    """Their new id is nobody's whom an encoder or a network has seen."""
    seen, tested = study_in(ws, "stage1"), study_in(ws, "test")
    rows = table(ws)
    for row in rows:
        if row["study"] in (seen, tested):
            row["patient"] = "merged"
    table(ws, rows)
    with pytest.raises(DataError, match="belong together"):
        mvp.evaluate(ws, progress=False)
    split = ws / "split.csv"
    split.write_text(split.read_text().replace(f"\n{seen},stage1\n", f"\n{seen},test\n"))
    with pytest.raises(DataError, match="1 patients of the test rows trained this view's network"):
        mvp.evaluate(ws, progress=False)
    edit(ws, 'learner = "logistic"', 'learner = "logistic"\nviews = ["clinical"]')
    with pytest.raises(DataError, match="1 patients of the test rows trained this view's encoder"):
        mvp.fit_head(ws, progress=False)


def test_patients_merged_after_a_head_was_fitted_are_known_by_their_studies(ws):
    seen, tested = study_in(ws, "stage2"), study_in(ws, "test")
    rows = table(ws)
    for row in rows:
        if row["study"] in (seen, tested):
            row["patient"] = "merged"
    table(ws, rows)
    split = ws / "split.csv"
    split.write_text(split.read_text().replace(f"\n{seen},stage2\n", f"\n{seen},test\n"))
    with pytest.raises(DataError, match="1 test patients were among those"):
        mvp.evaluate(ws, progress=False)


def test_the_store_says_that_an_encoder_made_them(ws):
    made = {e["view"]: e["made_by"] for e in pipeline.cache_ls(ws).facts["keys"]}
    assert made["clinical"] == "table (encoder)"
