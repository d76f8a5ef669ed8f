"""Errors a newcomer makes: one line, the remedy, the right exit code, no traceback."""

import csv
import shutil

import pytest
from PIL import Image

import mvp
from mvp.errors import MvpError
from tests.pipeline.conftest import edit, rows_of, write_rows


@pytest.mark.parametrize("verb", ["check", "finetune", "extract", "fit-head", "evaluate", "run"])
def test_no_mvp_toml(refused, tmp_path, verb):
    code, line = refused(verb, "--workspace", tmp_path)
    assert code == 2
    assert "mvp init TABLE" in line


def test_a_column_that_is_not_there(refused, workspace):
    edit(workspace, 'root = "data"', 'root = "data"\nstudy = "studdy"')
    code, line = refused("check", "-w", workspace)
    assert code == 2
    assert "'studdy'" in line
    assert "did you mean 'study'?" in line


def test_a_table_that_is_not_there(refused, workspace):
    (workspace / "data" / "studies.csv").unlink()
    code, line = refused("extract", "-w", workspace)
    assert code == 3
    assert "studies.csv" in line


def test_a_misspelt_setting(refused, workspace):
    edit(workspace, "epochs = 2", "epoks = 2")
    code, line = refused("check", "-w", workspace)
    assert code == 2
    assert "training.epoks: unknown setting; did you mean 'epochs'?" in line


def test_a_view_nobody_configured(refused, workspace):
    code, line = refused("extract", "-w", workspace, "--view", "laterl")
    assert code == 2
    assert "did you mean 'lateral'?" in line


def test_fit_head_before_extract(refused, workspace):
    for folder in (workspace / "cache").iterdir():
        if folder.is_dir():
            folder.rename(workspace / f"moved-{folder.name}")
    code, line = refused("fit-head", "-w", workspace)
    assert code == 2
    assert "mvp extract --view frontal" in line


def test_extract_before_finetune(refused, workspace):
    (workspace / "stage1" / "lateral" / "all" / "weights.safetensors").unlink()
    code, line = refused("extract", "-w", workspace, "--view", "lateral")
    assert code == 2
    assert "mvp finetune --view lateral" in line


def test_weights_that_were_exchanged_are_not_the_trained_ones(refused, workspace):
    """Features of other weights under this network's provenance could be of patients it saw."""
    folder = workspace / "stage1"
    shutil.copyfile(
        folder / "frontal" / "all" / "weights.safetensors",
        folder / "lateral" / "all" / "weights.safetensors",
    )
    code, line = refused("extract", "-w", workspace, "--view", "lateral")
    assert code == 2
    assert "exchanged" in line
    assert "mvp finetune --view lateral --force" in line


def test_an_unknown_learner(refused, workspace):
    code, line = refused("fit-head", "-w", workspace, "--learner", "xgbost")
    assert code == 2
    assert "xgboost" in line


def test_an_unknown_option_of_a_learner(refused, workspace):
    code, line = refused("fit-head", "-w", workspace, "--learner", "logistic", "--set", "c=1")
    assert code == 2
    assert "C" in line


def test_an_unknown_head(refused, workspace):
    mvp.fit_head(workspace, progress=False)
    code, line = refused("evaluate", "-w", workspace, "--head", "logstic")
    assert code == 2
    assert "did you mean 'logistic'?" in line


def test_a_label_with_one_class(refused, workspace):
    rows = rows_of(workspace)
    for row in rows:
        row["tube_side"] = "1"
    write_rows(workspace, rows)
    code, line = refused("fit-head", "-w", workspace)
    assert code == 3
    assert "tube_side" in line
    assert "Remedy" in line


def test_a_head_fitted_on_other_weights_than_the_cache_holds(refused, workspace):
    mvp.fit_head(workspace, progress=False)
    edit(workspace, "epochs = 2", "epochs = 1")
    mvp.finetune(workspace, ["lateral"], progress=False)
    mvp.extract(workspace, ["lateral"], progress=False)
    for verb in (["evaluate"], ["score", workspace / "data" / "studies.csv"]):
        code, line = refused(*verb, "-w", workspace)
        assert code == 2
        assert "lateral" in line
        assert "the network's weights" in line
        assert "mvp fit-head" in line


def test_a_head_fitted_on_other_preprocessing(refused, workspace):
    mvp.fit_head(workspace, progress=False)
    edit(workspace, "size = 32", 'size = 32\nfit = "crop"')
    code, line = refused("score", workspace / "data" / "studies.csv", "-w", workspace)
    assert code == 2
    assert "the preparation of the images" in line


def damage(workspace):
    """Six ways an image can be bad; gives (path in the table, part of the reason)."""
    rows = [r for r in rows_of(workspace) if r["view"] == "PA"][:5]
    paths = [workspace / "data" / r["path"] for r in rows]
    paths[0].write_bytes(b"")
    paths[1].write_bytes(paths[1].read_bytes()[:200])
    jpeg = paths[2]
    Image.open(jpeg).save(jpeg, format="JPEG")
    jpeg.write_bytes(jpeg.read_bytes()[: jpeg.stat().st_size // 2])
    paths[3].unlink()
    paths[4].write_text("not an image")
    reasons = ["0 bytes", "decoded", "decoded", "not there", "decoded"]
    return list(zip([r["path"] for r in rows], reasons, strict=True))


def test_damaged_and_missing_images_become_rejects(command, workspace):
    bad = damage(workspace)
    code, out, err = command("extract", "-w", workspace, "--view", "frontal", "--quiet")
    assert code == 4
    assert "Traceback" not in err
    run = sorted((workspace / "runs").glob("*-extract"))[-1]
    with (run / "rejected.csv").open() as stream:
        rejects = {row["path"]: row for row in csv.DictReader(stream)}
    assert set(rejects) == {path for path, _ in bad}
    for path, reason in bad:
        assert reason in rejects[path]["reason"]
        assert rejects[path]["view"] == "frontal"
        assert rejects[path]["study"]
        assert int(rejects[path]["line"]) > 1
    images = sum(r["view"] == "PA" for r in rows_of(workspace))
    assert f"{images - 5} rows" in out
    assert "5 rejected" in out
    # The same again: nothing new is tried, the same are rejected, in = done + rejected.
    code, again, _ = command("extract", "-w", workspace, "--view", "frontal", "--json", "--quiet")
    assert code == 4
    assert '"forward_passes": 0' in again


def test_check_names_damaged_images_and_ends_with_3(command, workspace):
    bad = damage(workspace)
    code, out, _ = command("check", "-w", workspace, "--quiet")
    assert code == 3
    for path, _ in bad:
        assert path in out


def test_a_study_id_keeps_its_zeros(command, workspace):
    rows = rows_of(workspace)
    first = rows[0]["study"]
    for row in rows:
        if row["study"] == first:
            row["study"] = "007"
    write_rows(workspace, rows)
    mvp.extract(workspace, progress=False)
    mvp.fit_head(workspace, progress=False)
    out = workspace / "scores.csv"
    code, _, _ = command("score", workspace / "data" / "studies.csv", "-w", workspace, "--out", out)
    assert code == 0
    with out.open() as stream:
        studies = [row["study"] for row in csv.DictReader(stream)]
    assert "007" in studies
    assert len(studies) == len({r["study"] for r in rows})


def test_every_error_is_an_mvp_error_in_python_too(workspace):
    with pytest.raises(MvpError, match="did you mean 'lateral'"):
        mvp.extract(workspace, ["laterl"], progress=False)
