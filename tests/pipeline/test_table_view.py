"""A view of values beside images: it helps where it should, and its encoder saw no test row."""

import csv
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mvp
from mvp import pipeline
from mvp.errors import ConfigError, DataError, StaleError
from mvp.pipeline.project import Project
from mvp.pipeline.provenance import patient_hashes, read_provenance

STUDIES = 600
TOML = """
protocol = "frozen"

[data]
table = "studies.csv"
root = "."

[views.film]

[views.clinical]
kind = "table"
numbers = ["age"]
categories = ["sex"]

[labels.finding]

[network]
name = "small"

[transform]
size = 16

[extract]
unit_rows = 64

[head]
learner = "logistic"
options = { C = 0.1 }

[split]
test = 0.4

[evaluate]
draws = 200
"""


def write_table(folder, rows):
    with (folder / "studies.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def read_table(folder):
    return csv_rows(folder / "studies.csv")


def csv_rows(path):
    with Path(path).open() as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The finding depends on the film's brightness as much as on age: read only."""
    folder = tmp_path_factory.mktemp("values") / "ws"
    rng = np.random.default_rng(0)
    (folder / "films").mkdir(parents=True)
    rows = []
    for i in range(STUDIES):
        signal, age = rng.normal(), rng.uniform(30, 90)
        chance = 1 / (1 + math.exp(-3 * (signal + (age - 60) / 15)))
        pixels = np.clip(rng.normal(120 + 45 * signal, 10, (16, 16)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "films" / f"{i}.png")
        rows.append(
            {
                "study": f"s{i:03}",
                "patient": f"p{i:03}",
                "view": "film",
                "path": f"films/{i}.png",
                "age": "" if i % 20 == 7 else f"{age:.1f}",
                "sex": "FMfm"[i % 4],
                "finding": int(rng.random() < chance),
            }
        )
    write_table(folder, rows)
    (folder / "mvp.toml").write_text(TOML)
    return folder


@pytest.fixture(scope="module")
def extracted_once(made, tmp_path_factory):
    ws = shutil.copytree(made, tmp_path_factory.mktemp("extracted") / "ws")
    mvp.extract(ws, progress=False)
    return ws


@pytest.fixture
def ws(made, tmp_path):
    """A copy without features."""
    return shutil.copytree(made, tmp_path / "ws")


@pytest.fixture
def extracted(extracted_once, tmp_path):
    """A copy with the features of both views."""
    return shutil.copytree(extracted_once, tmp_path / "ws")


def encoder(ws):
    return (ws / "stage1" / "clinical" / "all" / "encoder.json").read_bytes()


@pytest.mark.slow
def test_age_improves_a_label_that_depends_on_age(ws, command):
    code, _, err = command("run", "-w", ws)
    assert code == 0, err
    assert "extraction fits its encoder" in err
    done = mvp.evaluate(ws, progress=False).to_json()
    area = {m["model"]: m["auroc"] for m in done["rows"] if m["label"] == "finding"}
    assert 0.6 < area["film"] < 0.95
    assert 0.7 < area["clinical"] < 0.95
    assert area["fusion"] > max(area["film"], area["clinical"]) + 0.02
    gain = next(d for d in done["differences"] if d["other"] != "mean")
    assert gain["low"] > 0


def test_the_encoder_never_saw_test_rows(extracted):
    ws = extracted
    before = encoder(ws)
    project = Project(ws, progress=False)
    test = project.split.mask(project.manifest.studies, ["test"])
    tested = set(project.manifest.studies[test])
    seen = set(read_provenance(ws / "stage1" / "clinical" / "all")["patients"])
    assert seen
    assert not seen & set(patient_hashes(project.workspace, project.manifest.patients[test]))
    rows = read_table(ws)
    for row in rows:
        if row["study"] in tested:
            row.update(age="4000", sex="unheard of")
    write_table(ws, rows)
    mvp.extract(ws, progress=False)
    assert encoder(ws) == before
    next(row for row in rows if row["study"] not in tested and row["age"])["age"] = "31"
    write_table(ws, rows)
    mvp.extract(ws, progress=False)
    assert encoder(ws) != before


def test_an_evaluation_on_rows_that_the_encoder_saw_is_refused(extracted):
    ws = extracted
    lines = (ws / "split.csv").read_text().splitlines()
    tested, seen = (next(line for line in lines if line.endswith(p)) for p in (",test", ",stage2"))
    lines[lines.index(tested)] = tested.replace(",test", ",stage2")
    lines[lines.index(seen)] = seen.replace(",stage2", ",test")
    (ws / "split.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match="trained this view's encoder"):
        mvp.fit_head(ws, progress=False)


def test_a_second_extraction_computes_nothing(ws):
    first = mvp.extract(ws, ["clinical"], progress=False).views["clinical"]
    # Rows of the same values are one row: 18 blank ages, two spellings of each sex.
    assert first.images == STUDIES
    assert first.computed <= STUDIES - 18 + 2
    again = mvp.extract(ws, ["clinical"], progress=False).views["clinical"]
    assert (again.computed, again.rows) == (0, STUDIES)


def test_studies_without_values_lack_the_view_and_wrong_values_are_rejected(ws, command):
    rows = read_table(ws)
    rows[0].update(age="", sex="")
    rows[1].update(age="old")
    write_table(ws, rows)
    code, out, _ = command("extract", "-w", ws, "--json")
    assert code == 4
    done = json.loads(out)
    view = done["views"]["clinical"]
    assert (view["images"], view["rejected"]) == (STUDIES - 1, 1)
    (rejected,) = csv_rows(done["reject_table"])
    assert (rejected["study"], rejected["view"]) == ("s001", "clinical")
    assert "'old'" in rejected["reason"]
    mvp.fit_head(ws, progress=False)
    scored = mvp.score(ws / "studies.csv", ws, progress=False)
    assert scored.scored == STUDIES  # both still have their film
    first = csv_rows(scored.out)[0]
    assert (first["has_film"], first["has_clinical"]) == ("True", "False")


def test_new_studies_are_scored_with_the_encoder_as_it_was_fitted(extracted):
    ws = extracted
    mvp.fit_head(ws, progress=False)
    before = encoder(ws)
    rows = [{**row, "study": f"new {row['study']}", "age": "99"} for row in read_table(ws)[:9]]
    for row in rows:
        del row["finding"], row["patient"]
    folder = ws / "elsewhere"
    folder.mkdir()
    write_table(folder, rows)
    done = mvp.score(folder / "studies.csv", ws, progress=False)
    assert (done.scored, done.forward_passes) == (9, 0)
    assert encoder(ws) == before
    cached = mvp.score(folder / "studies.csv", ws, cached_only=True, progress=False)
    assert cached.scored == 9


def test_other_columns_make_the_head_stale(extracted):
    ws = extracted
    mvp.fit_head(ws, progress=False)
    text = (ws / "mvp.toml").read_text()
    (ws / "mvp.toml").write_text(text.replace('categories = ["sex"]', "categories = []"))
    with pytest.raises(StaleError, match="other columns"):
        mvp.score(ws / "studies.csv", ws, progress=False)
    mvp.extract(ws, progress=False)
    with pytest.raises(StaleError, match="other features"):
        mvp.score(ws / "studies.csv", ws, progress=False)


def test_damage_is_found_and_written_anew(extracted):
    ws = extracted
    chunk = next((ws / "cache" / "clinical").rglob("c.*"))
    data = bytearray(chunk.read_bytes())
    data[100] ^= 1
    chunk.write_bytes(bytes(data))
    assert pipeline.cache_verify(ws, progress=False).exit_code == 5
    mvp.extract(ws, verify=True, progress=False)
    assert pipeline.cache_verify(ws, progress=False).exit_code == 0


def test_a_column_that_is_not_there_is_one_line(ws):
    text = (ws / "mvp.toml").read_text()
    (ws / "mvp.toml").write_text(text.replace('numbers = ["age"]', 'numbers = ["agee"]'))
    with pytest.raises(ConfigError, match="'age'"):
        mvp.extract(ws, progress=False)


def test_a_dry_run_deals_no_split(ws, command):
    code, out, _ = command("run", "-w", ws, "--dry-run", "--quiet")
    assert code == 0
    assert "nothing was trained, extracted or dealt" in out
    assert not (ws / "split.csv").exists()


def test_rows_of_the_table_in_another_order_change_no_encoder(ws):
    mvp.extract(ws, ["clinical"], progress=False)
    assert not step(ws, "extract clinical").runs
    write_table(ws, read_table(ws)[::-1])
    assert not step(ws, "extract clinical").runs


def step(ws, name):
    return next(s for s in mvp.run(ws, dry_run=True, progress=False).steps if s.name == name)
