"""`mvp split` and what `mvp check` says of it: dealt, looked at, fixed by hand or by lists."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

import mvp
from mvp.errors import ConfigError, DataError
from mvp.pipeline.project import Project
from tests.pipeline.conftest import SMALL_TOML, rows_of, write_rows, write_workspace


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write_workspace(tmp_path_factory.mktemp("split") / "ws", studies=60)


@pytest.fixture
def ws(made, tmp_path):
    return shutil.copytree(made, tmp_path / "ws")


def settings(ws, text):
    (ws / "mvp.toml").write_text(SMALL_TOML + f"\n[split]\n{text}\n")


def standing(ws):
    with (ws / "split.csv").open(newline="") as stream:
        return {row["study"]: row for row in csv.DictReader(stream)}


def patients(ws):
    return {row["study"]: row["patient"] for row in rows_of(ws)}


def kinds(outcome):
    return [p.kind for p in outcome.problems]


def test_a_dry_run_writes_nothing_and_says_what_would_be(ws):
    shown = mvp.split(ws, dry_run=True, progress=False)
    assert not (ws / "split.csv").exists()
    done = mvp.split(ws, progress=False)
    assert done.written
    assert done.parts == shown.parts
    assert json.loads(json.dumps(done.to_json()))["parts"] == done.parts
    assert sum(part["studies"] for part in done.parts.values()) == len(standing(ws)) == done.new
    assert sum(part["patients"] for part in done.parts.values()) == len(set(patients(ws).values()))
    assert "frontal+lateral" in done.text
    assert not mvp.split(ws, progress=False).written


def test_the_split_is_the_one_that_other_verbs_would_deal(ws):
    dealt = dict(Project(ws, progress=False).deal().parts)
    mvp.split(ws, progress=False)
    assert {s: r["part"] for s, r in standing(ws).items()} == dealt


@pytest.mark.parametrize("option", [{"seed": 3}, {"link_near": True}])
def test_an_option_without_effect_is_refused(ws, option):
    mvp.split(ws, **option, progress=False)
    with pytest.raises(ConfigError, match="--force"):
        mvp.split(ws, **option, progress=False)
    assert mvp.split(ws, force=True, **option, progress=False).split == "split.csv"


def test_force_with_another_seed_deals_anew_and_replaces_a_damaged_file(ws):
    mvp.split(ws, progress=False)
    before = standing(ws)
    done = mvp.split(ws, force=True, seed=5, progress=False)
    assert done.moved > 0
    assert standing(ws) != before
    (ws / "split.csv").write_text("nonsense")
    with pytest.raises(DataError, match=r"split\.csv cannot be used"):
        mvp.split(ws, progress=False)
    assert mvp.split(ws, force=True, progress=False).written


def test_dealing_anew_says_what_becomes_stale(workspace):
    done = mvp.split(workspace, force=True, seed=9, dry_run=True, progress=False)
    assert "network frontal" in done.stale
    assert "would be stale" in done.text
    assert mvp.split(workspace, progress=False).stale == []


def test_folds_are_a_third_column_and_stay_when_studies_come(ws):
    rows = rows_of(ws)
    write_rows(ws, [r for r in rows if int(r["study"][1:]) % 4])
    settings(ws, "folds = 4")
    mvp.split(ws, progress=False)
    before = {s: r["fold"] for s, r in standing(ws).items()}
    assert set(before.values()) == {"", "0", "1", "2", "3"}
    assert all((r["fold"] == "") == (r["part"] == "test") for r in standing(ws).values())
    write_rows(ws, rows)
    done = mvp.split(ws, progress=False)
    after = {s: r["fold"] for s, r in standing(ws).items()}
    assert done.new > 0
    assert {s: after[s] for s in before} == before
    assert sum(done.folds) == sum(r["part"] != "test" for r in standing(ws).values())


def test_another_number_of_folds_needs_to_be_asked_for(ws):
    settings(ws, "folds = 4")
    mvp.split(ws, progress=False)
    parts = {s: r["part"] for s, r in standing(ws).items()}
    settings(ws, "folds = 3")
    with pytest.raises(ConfigError, match="--new-folds"):
        mvp.split(ws, progress=False)
    assert len(mvp.split(ws, new_folds=True, progress=False).folds) == 3
    assert {s: r["part"] for s, r in standing(ws).items()} == parts
    settings(ws, "folds = 0")
    with pytest.raises(ConfigError, match=r"split\.folds is 0"):
        mvp.split(ws, new_folds=True, progress=False)


def test_a_patient_list_fixes_the_test_part_and_nobody_else_is_in_it(ws):
    own = patients(ws)
    tested = sorted(set(own.values()))[:7]
    (ws / "ids.txt").write_text("patient\n" + "\n".join([*tested, "nobody"]) + "\n")
    settings(ws, 'lists = {test = "ids.txt"}')
    done = mvp.split(ws, progress=False)
    assert "unknown-in-list" in kinds(done)
    assert "'nobody' (line 9)" in done.text
    parts = standing(ws)
    assert {own[s] for s, r in parts.items() if r["part"] == "test"} == set(tested)
    assert "unknown-in-list" in kinds(mvp.check(ws, files=False, progress=False))


def test_an_edit_that_tears_a_patient_apart_is_refused_with_both_named(ws):
    mvp.split(ws, progress=False)
    own, rows = patients(ws), standing(ws)
    patient = next(p for p in own.values() if list(own.values()).count(p) > 1)
    a, b = [s for s, p in own.items() if p == patient][:2]
    rows[a]["part"], rows[b]["part"] = "stage1", "test"
    (ws / "split.csv").write_text(
        "study,part\n" + "".join(f"{s},{r['part']}\n" for s, r in rows.items())
    )
    with pytest.raises(DataError) as caught:
        mvp.split(ws, progress=False)
    assert a in str(caught.value)
    assert b in str(caught.value)
    checked = mvp.check(ws, files=False, progress=False)
    told = next(p for p in checked.problems if p.kind == "patient-in-two-parts")
    assert checked.exit_code == 3
    assert f"study {a}, patient {patient}, part stage1" in told.text


def copy_saved_again(ws):
    """A film of one patient becomes, as another file, a film of another patient."""
    rows = [r for r in rows_of(ws) if r["view"] == "PA"]
    rng = np.random.default_rng(0)
    film = Image.fromarray(rng.integers(0, 255, (16, 16), dtype=np.uint8)).resize((64, 64), 3)
    other = next(r for r in rows if r["patient"] != rows[0]["patient"])
    film.save(ws / "data" / rows[0]["path"])
    film.point(lambda v: v * 0.9 + 5).save(ws / "data" / other["path"])
    return rows[0], other


def test_films_saved_again_are_listed_and_linked_on_request(ws):
    a, b = copy_saved_again(ws)
    (ws / "lists").write_text(f"{a['patient']}\n")
    settings(ws, 'lists = {test = "lists"}')
    done = mvp.split(ws, progress=False)
    told = next(p for p in done.problems if p.kind == "near-image-two-patients")
    assert done.exit_code == 0
    assert "1 of them in two parts" in told.text
    for row in (a, b):
        assert row["path"] in told.text
        assert f"study {row['study']}, patient {row['patient']}" in told.text
    assert "near-image-two-patients" in kinds(mvp.check(ws, progress=False))
    with pytest.raises(DataError, match="belong together"):
        mvp.split(ws, force=True, link_near=True, progress=False)
    settings(ws, 'near = "link"')
    mvp.split(ws, force=True, progress=False)
    parts = standing(ws)
    assert parts[a["study"]]["part"] == parts[b["study"]]["part"]


def test_links_asked_for_later_leave_those_who_stand(ws):
    a, b = copy_saved_again(ws)
    rows = rows_of(ws)
    write_rows(ws, [row for row in rows if row["study"] != rows[-1]["study"]])
    mvp.split(ws, progress=False)
    path = ws / "split.csv"
    apart = {r["study"] for r in rows if r["patient"] == b["patient"]}
    first = standing(ws)[a["study"]]["part"]
    other = "stage1" if first != "stage1" else "stage2"
    lines = [line.split(",") for line in path.read_text().splitlines()]
    lines = [[s, other if s in apart else part] for s, part in lines]
    path.write_text("".join(f"{s},{part}\n" for s, part in lines))
    write_rows(ws, rows)
    settings(ws, 'near = "link"')
    assert mvp.split(ws, progress=False).new == 1
    assert standing(ws)[b["study"]]["part"] == other


def test_blank_images_link_nobody(ws):
    rows = [r for r in rows_of(ws) if r["view"] == "PA"]
    for row in rows:
        Image.new("L", (64, 64), 7).save(ws / "data" / row["path"])
    done = mvp.split(ws, progress=False)
    assert "blank-image" in kinds(done)
    assert min(part["studies"] for part in done.parts.values()) > 0


def test_check_counts_patterns_and_says_how_the_table_was_read(ws):
    checked = mvp.check(ws, files=False, progress=False)
    shown = checked.to_json()
    assert sum(shown["patterns"].values()) == shown["studies"]
    assert shown["patterns"]["frontal+lateral"] == shown["studies_with_all_views"]
    assert shown["read_as"]
    assert shown["read_as"] in checked.text
    assert shown["burned_in"] is None


def test_pictures_that_say_they_hold_a_name_are_listed(ws, command):
    pydicom = pytest.importorskip("pydicom")
    rows = rows_of(ws)
    for row, said in zip(rows, ("YES", "NO", None), strict=False):
        header = pydicom.Dataset()
        header.file_meta = pydicom.dataset.FileMetaDataset()
        header.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        header.SOPClassUID, header.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", "1.2.3"
        if said:
            header.BurnedInAnnotation = said
        row["path"] = f"{row['study']}-{row['view']}.dcm"
        header.save_as(ws / "data" / row["path"], enforce_file_format=True)
    write_rows(ws, rows)
    checked = mvp.check(ws, files=False, burned_in=True, progress=False)
    assert checked.burned_in == {"yes": 1, "no": 1, "unsaid": 1}
    told = next(p for p in checked.problems if p.kind == "burned-in")
    assert f"line 2, study {rows[0]['study']}" in told.text
    _, out, _ = command("check", "-w", ws, "--no-files", "--burned-in", "--quiet")
    assert "names or numbers in the picture: yes 1, no 1, unsaid 1" in out


def test_the_command_splits(ws, command):
    code, out, _ = command("split", "-w", ws, "--dry-run", "--json", "--quiet")
    assert code == 0
    assert json.loads(out)["dry_run"] is True
