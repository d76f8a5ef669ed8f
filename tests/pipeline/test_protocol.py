"""The statistical protocol: who may see which rows, and what is said when someone should not."""

import csv
import json
import shutil

import pandas as pd
import pytest

import mvp
from mvp.errors import ConfigError, DataError
from mvp.pipeline.project import Project
from mvp.pipeline.provenance import patient_hashes
from tests.pipeline.conftest import rows_of, write_rows


def provenance(folder):
    return json.loads((folder / "provenance.json").read_text())


def test_no_patient_takes_part_in_two_roles(workspace):
    mvp.fit_head(workspace, progress=False)
    stage1 = set(provenance(workspace / "stage1" / "frontal" / "all")["patients"])
    head = set(provenance(workspace / "heads" / "logistic")["patients"])
    project = Project(workspace, progress=False)
    test = project.split.mask(project.manifest.studies, ["test"])
    tested = set(patient_hashes(project.workspace, project.manifest.patients[test]))
    assert stage1
    assert head
    assert tested
    assert not stage1 & head
    assert not stage1 & tested
    assert not head & tested


def test_provenance_holds_no_patient_id(workspace):
    mvp.fit_head(workspace, progress=False)
    with (workspace / "data" / "studies.csv").open() as stream:
        ids = {r["study"] for r in csv.DictReader(stream)}
    for path in workspace.rglob("*.json"):
        text = path.read_text()
        assert not any(f'"{i}"' in text for i in ids), path


def test_same_rows_only_by_name_and_it_says_so(workspace):
    honest = mvp.fit_head(workspace, progress=False)
    ablation = mvp.fit_head(workspace, protocol="same-rows", name="ablation", progress=False)
    assert honest.rows != ablation.rows
    assert "ablation" in ablation.text
    made = provenance(workspace / "heads" / "ablation")
    stage1 = set(provenance(workspace / "stage1" / "frontal" / "all")["patients"])
    assert set(made["patients"]) & stage1
    said = mvp.evaluate(workspace, "ablation", progress=False)
    assert any("same-rows" in w for w in said.warnings)


def test_frozen_heads_on_fine_tuned_networks_are_refused(workspace):
    with pytest.raises(ConfigError, match="rows that trained its networks"):
        mvp.fit_head(workspace, protocol="frozen", progress=False)


def test_a_split_changed_behind_the_networks_back_is_refused(workspace):
    path = workspace / "split.csv"
    text = path.read_text()
    swapped = (
        text.replace(",stage1\n", ",X\n")
        .replace(",stage2\n", ",stage1\n")
        .replace(",X\n", ",stage2\n")
    )
    path.write_text(swapped)
    with pytest.raises(DataError, match="trained this view's network"):
        mvp.fit_head(workspace, progress=False)


def test_test_patients_that_a_head_was_fitted_on_are_refused(workspace):
    mvp.fit_head(workspace, progress=False)
    path = workspace / "split.csv"
    path.write_text(path.read_text().replace(",stage2\n", ",test\n"))
    with pytest.raises(DataError, match="test patients were among those"):
        mvp.evaluate(workspace, progress=False)


def test_images_that_nobody_extracted_do_not_pass_for_missing_views(workspace):
    (segment,) = (workspace / "cache" / "lateral").glob("*/segments/*")
    unit_rows = json.loads((segment / "segment.json").read_text())["unit_rows"]
    (segment / "ledger" / "0.json").unlink()
    (segment / "sealed.json").unlink()
    with pytest.raises(ConfigError, match=f"^{unit_rows} images have no cached features"):
        mvp.fit_head(workspace, progress=False)


def test_the_same_image_under_two_patients_keeps_them_together(workspace):
    (workspace / "split.csv").unlink()
    with (workspace / "data" / "studies.csv").open() as stream:
        rows = [r for r in csv.DictReader(stream) if r["view"] == "PA"]
    a = rows[0]
    b = next(r for r in reversed(rows) if r["patient"] != a["patient"])
    shutil.copy(workspace / "data" / a["path"], workspace / "data" / b["path"])
    checked = mvp.check(workspace, progress=False)
    said = [p.text for p in checked.problems if p.kind == "same-image-two-patients"]
    assert len(said) == 1
    assert a["study"] in said[0]
    assert b["study"] in said[0]
    parts = Project(workspace, progress=False).split.parts
    assert parts[a["study"]] == parts[b["study"]]


def test_the_same_image_in_two_fixed_parts_is_refused_with_both_named(workspace):
    (workspace / "split.csv").unlink()
    rows = rows_of(workspace)
    patients = sorted({r["patient"] for r in rows})
    for row in rows:
        row["split"] = "test" if row["patient"] in patients[::3] else "train"
    a = next(r for r in rows if r["split"] == "test" and r["view"] == "PA")
    b = next(r for r in rows if r["split"] == "train" and r["view"] == "PA")
    shutil.copy(workspace / "data" / a["path"], workspace / "data" / b["path"])
    write_rows(workspace, rows)
    toml = workspace / "mvp.toml"
    toml.write_text(toml.read_text().replace('root = "data"', 'root = "data"\nsplit = "split"'))
    with pytest.raises(DataError) as error:
        _ = Project(workspace, progress=False).split
    assert a["study"] in str(error.value)
    assert b["study"] in str(error.value)
    assert mvp.check(workspace, progress=False).exit_code == 3


def test_views_swapped_in_the_settings_are_swapped_everywhere(workspace):
    mvp.fit_head(workspace, progress=False)
    before = mvp.score(workspace / "data" / "studies.csv", workspace, progress=False)
    toml = (workspace / "mvp.toml").read_text()
    frontal = '[views.frontal]\naliases = ["PA"]\n'
    lateral = '[views.lateral]\naliases = ["LL"]\n'
    (workspace / "mvp.toml").write_text(
        toml.replace(frontal, "").replace(lateral, lateral + frontal)
    )
    after = mvp.score(
        workspace / "data" / "studies.csv", workspace, workspace / "again.csv", progress=False
    )
    assert before.scored == after.scored
    assert (workspace / "again.csv").read_text() == (
        workspace / "scores" / "studies.csv"
    ).read_text()


def test_labels_in_another_order_are_refused_or_the_same(workspace):
    mvp.fit_head(workspace, progress=False)
    toml = (workspace / "mvp.toml").read_text()
    side, depth = "[labels.tube_side]\n", "[labels.tube_depth]\n"
    (workspace / "mvp.toml").write_text(toml.replace(side + depth, depth + side))
    with pytest.raises(ConfigError, match="other labels"):
        mvp.evaluate(workspace, progress=False)


def test_training_rows_alone_decide_a_head(workspace):
    """Labels of test studies can be anything without a digit of the head changing."""
    mvp.fit_head(workspace, name="a", progress=False)
    project = Project(workspace, progress=False)
    tested = set(project.manifest.studies[project.split.mask(project.manifest.studies, ["test"])])
    table = workspace / "data" / "studies.csv"
    rows = rows_of(workspace)
    for row in rows:
        if row["study"] in tested:
            row["tube_side"] = "1"
    write_rows(workspace, rows)
    mvp.fit_head(workspace, name="b", progress=False)
    scores = []
    for head in ("a", "b"):
        out = workspace / f"{head}.parquet"
        mvp.score(table, workspace, out, head=head, progress=False)
        scores.append(pd.read_parquet(out).drop(columns="head"))
    pd.testing.assert_frame_equal(*scores, check_exact=True)


def test_evaluate_refuses_test_patients_that_trained_the_networks(workspace):
    mvp.fit_head(workspace, progress=False)
    path = workspace / "split.csv"
    path.write_text(path.read_text().replace(",stage1\n", ",test\n"))
    with pytest.raises(DataError, match="of the test rows trained this view's network"):
        mvp.evaluate(workspace, progress=False)


def test_without_the_key_of_the_patients_nobody_claims_to_know(workspace):
    mvp.fit_head(workspace, progress=False)
    (workspace / "patients.key").unlink()
    for verb in (mvp.fit_head, mvp.evaluate):
        with pytest.raises(ConfigError, match="nobody can tell any more"):
            verb(workspace, progress=False)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "first line"),
        ("study,part\nS00000,a\nS00001\n", "line 2"),
        ("study,part\nS00000,test\nS00000,stage1\n", "second part"),
    ],
)
def test_a_split_that_cannot_be_trusted_is_refused(workspace, text, reason):
    (workspace / "split.csv").write_text(text)
    with pytest.raises(DataError, match=reason):
        mvp.fit_head(workspace, progress=False)


def test_several_images_are_read_as_when_the_head_was_fitted(workspace):
    mvp.fit_head(workspace, progress=False)
    toml = (workspace / "mvp.toml").read_text()
    for old, new in (
        ('learner = "logistic"', 'learner = "logistic"\ninstances = "max"'),
        ('aliases = ["PA"]', 'aliases = ["PA"]\nimages = "first"'),
    ):
        (workspace / "mvp.toml").write_text(toml.replace(old, new))
        with pytest.raises(ConfigError, match="another reading of several images"):
            mvp.evaluate(workspace, progress=False)
        with pytest.raises(ConfigError, match="another reading of several images"):
            mvp.score(workspace / "data" / "studies.csv", workspace, progress=False)


def test_a_network_is_not_used_with_another_preparation_than_it_was_trained_with(workspace):
    toml = (workspace / "mvp.toml").read_text()
    (workspace / "mvp.toml").write_text(toml.replace("size = 32", "size = 48"))
    with pytest.raises(ConfigError, match="the preparation of the images changed"):
        mvp.extract(workspace, progress=False)


def test_a_frozen_workspace_has_no_other_protocol(workspace):
    toml = (workspace / "mvp.toml").read_text()
    (workspace / "mvp.toml").write_text(toml.replace('"holdout"', '"frozen"'))
    with pytest.raises(ConfigError, match="networks are frozen"):
        mvp.fit_head(workspace, protocol="holdout", progress=False)
