"""`mvp run` does what changed and nothing else, and says why."""

import csv
import shutil
from dataclasses import replace

import pytest
from PIL import Image

import mvp
from mvp.errors import StaleError
from mvp.pipeline._evaluate import evaluation_inputs
from mvp.pipeline.heads import load_head, require_current_keys
from mvp.pipeline.project import Project
from tests.pipeline.conftest import edit, rows_of, write_rows


@pytest.fixture(scope="module")
def evaluated_once(trained, tmp_path_factory):
    ws = shutil.copytree(trained, tmp_path_factory.mktemp("evaluated") / "ws")
    mvp.run(ws, progress=False)
    return ws


@pytest.fixture
def evaluated(evaluated_once, tmp_path):
    """A copy of the trained workspace after `mvp run`."""
    return shutil.copytree(evaluated_once, tmp_path / "ws")


def steps(outcome):
    return {step.name: (step.runs, step.reason) for step in outcome.steps}


def test_a_second_run_does_nothing_and_a_change_only_what_follows_from_it(workspace):
    first = steps(mvp.run(workspace, progress=False))
    assert [name for name, (runs, _) in first.items() if runs] == ["fit-head logistic", "evaluate"]
    assert not any(runs for runs, _ in steps(mvp.run(workspace, progress=False)).values())

    edit(workspace, "draws = 200", "draws = 300")
    planned = steps(mvp.run(workspace, dry_run=True, progress=False))
    assert planned["evaluate"] == (True, "changed since the last one: the settings")
    assert [n for n, (runs, _) in planned.items() if runs] == ["evaluate"]

    edit(workspace, "size = 32", 'size = 32\nfit = "crop"')
    planned = steps(mvp.run(workspace, dry_run=True, progress=False))
    assert "the preparation of the images" in planned["finetune frontal"][1]
    assert planned["extract frontal"] == (True, "after finetune frontal")
    assert planned["fit-head logistic"][0]
    assert planned["evaluate"][0]


def test_a_dry_run_says_every_step_once(workspace, command):
    _, out, err = command("run", "-w", workspace, "--dry-run")
    assert (out + err).count("finetune lateral: ") == 1


def test_a_dry_run_changes_nothing(workspace):
    before = sorted(str(p) for p in workspace.rglob("*"))
    edit(workspace, "epochs = 2", "epochs = 1")
    mvp.run(workspace, dry_run=True, progress=False)
    after = sorted(str(p) for p in workspace.rglob("*") if p.name != "split.csv")
    assert [p for p in before if not p.endswith("split.csv")] == after


def test_changed_images_retrain_and_a_touched_file_does_not(evaluated):
    workspace = evaluated
    with (workspace / "data" / "studies.csv").open() as stream:
        paths = [r["path"] for r in csv.DictReader(stream) if r["view"] == "PA"]
    file = workspace / "data" / paths[0]
    file.touch()
    assert not any(r for r, _ in steps(mvp.run(workspace, dry_run=True, progress=False)).values())
    for path in paths:
        image = Image.open(workspace / "data" / path)
        image.point(lambda value: 255 - value).save(workspace / "data" / path)
    planned = steps(mvp.run(workspace, dry_run=True, progress=False))
    assert planned["finetune frontal"][0]
    assert "the training images" in planned["finetune frontal"][1]
    assert not planned["finetune lateral"][0]


def test_a_new_study_costs_only_its_own_images(workspace, command):
    with (workspace / "data" / "studies.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    extra = write_extra(workspace)
    with (workspace / "data" / "studies.csv").open("a", newline="") as stream:
        csv.DictWriter(stream, list(rows[0])).writerows(extra)
    _, out, _ = command("extract", "-w", workspace, "--quiet", "--json")
    assert f'"forward_passes": {len(extra)}, "rejected": 0' in out


def write_extra(workspace):
    """Images of other phantoms, as rows of a table."""
    other = workspace.parent / "other"
    mvp.demo(other, data_only=True, studies=60, seed=5, progress=False)
    with (other / "data" / "studies.csv").open() as stream:
        rows = list(csv.DictReader(stream))[:3]
    for i, row in enumerate(rows):
        shutil.copy(other / "data" / row["path"], workspace / "data" / f"extra{i}.png")
        row["path"], row["study"] = f"extra{i}.png", f"X{row['study']}"
        row["patient"] = f"X{row['patient']}"
    return rows


def rewrite(workspace, change):
    rows = rows_of(workspace)
    change(rows)
    write_rows(workspace, rows)


def in_part(workspace, *parts):
    with (workspace / "split.csv").open() as stream:
        return [r["study"] for r in csv.DictReader(stream) if r["part"] in parts]


def test_other_images_or_patients_of_the_test_are_evaluated_anew(evaluated):
    workspace = evaluated
    tested = in_part(workspace, "test")

    def one_patient(rows):
        for row in rows:
            if row["study"] in tested:
                row["patient"] = "all of them"

    rewrite(workspace, one_patient)
    done = steps(mvp.run(workspace, progress=False))
    assert not done["fit-head logistic"][0]
    assert done["evaluate"] == (True, "changed since the last one: the rows")

    with (workspace / "data" / "studies.csv").open() as stream:
        path = next(
            r["path"] for r in csv.DictReader(stream) if r["study"] in tested and r["view"] == "PA"
        )
    image = Image.open(workspace / "data" / path)
    image.point(lambda value: 255 - value).save(workspace / "data" / path)
    done = steps(mvp.run(workspace, progress=False))
    assert done["extract frontal"][0]
    assert not done["fit-head logistic"][0]
    assert done["evaluate"][0]


def test_views_swapped_back_for_one_study_refit_the_head(evaluated):
    workspace = evaluated
    study = in_part(workspace, "stage2")[0]

    def swap(rows):
        for row in rows:
            if row["study"] == study:
                row["view"] = {"PA": "LL", "LL": "PA"}[row["view"]]

    rewrite(workspace, swap)
    done = steps(mvp.run(workspace, progress=False))
    assert done["fit-head logistic"] == (True, "changed since it was fitted: the rows")


def test_studies_that_change_their_role_refit_the_head_though_they_are_the_same(evaluated):
    path = evaluated / "split.csv"
    path.write_text(path.read_text().replace("stage2-inner", "calibration"))
    planned = steps(mvp.run(evaluated, dry_run=True, progress=False))
    assert planned["fit-head logistic"] == (True, "changed since it was fitted: the rows")


def test_what_the_digest_of_a_head_does_not_tell_is_evaluated_anew(evaluated):
    project = Project(evaluated, progress=False)
    saved = load_head(project, "logistic")
    before = evaluation_inputs(project, saved)
    read_otherwise = {**saved.provenance["reading"], "instances": "max"}
    for other in (
        replace(saved, ablation=None),
        replace(saved, provenance={**saved.provenance, "reading": read_otherwise}),
    ):
        assert other.digest == saved.digest
        assert evaluation_inputs(project, other) != before


def test_a_head_of_other_folds_is_refused(evaluated):
    saved = load_head(Project(evaluated, progress=False), "logistic")
    with pytest.raises(StaleError, match="other folds"):
        require_current_keys(saved, dict.fromkeys(("fold-0", "fold-1"), saved.keys["all"]))


def test_run_forgets_no_reject(evaluated):
    workspace = evaluated
    with (workspace / "data" / "studies.csv").open() as stream:
        path = next(r["path"] for r in csv.DictReader(stream) if r["view"] == "PA")
    (workspace / "data" / path).unlink()
    for _ in range(2):
        done = mvp.run(workspace, progress=False)
        assert done.exit_code == 4
        assert done.rejected >= 1
        assert "rejected.csv" in done.text
