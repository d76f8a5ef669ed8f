"""Cross-fitting, the whole way: K pairs of networks and heads, evaluated and scored together."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import mvp
from mvp.errors import ConfigError, DataError, StaleError
from mvp.pipeline.heads import load_head
from mvp.pipeline.project import Project
from mvp.pipeline.provenance import patient_hashes, read_provenance
from mvp.pipeline.stage_two import head_rows, role_masks
from mvp.pipeline.workspace import Workspace
from tests.pipeline.conftest import SMALL_TOML, edit, rows_of, write_rows, write_workspace

K = 2
TOML = (
    SMALL_TOML.replace('"holdout"', '"crossfit"').replace("epochs = 2", "epochs = 1")
    + f"\n[split]\nfolds = {K}\ncalibration = 0.1\n"
)


@pytest.fixture(scope="session")
def crossed(tmp_path_factory):
    """A workspace of protocol crossfit that has walked the whole way."""
    ws = write_workspace(tmp_path_factory.mktemp("crossed") / "ws", TOML, 100)
    mvp.run(ws, progress=False)
    return ws


@pytest.fixture
def ws(crossed, tmp_path):
    return Path(shutil.copytree(crossed, tmp_path / "ws"))


def test_every_pair_learns_from_the_fold_that_its_network_never_saw(crossed):
    project = Project(crossed, progress=False)
    saved = load_head(project, None)
    assert saved.ensemble.folds == tuple(f"fold-{k}" for k in range(K))
    rows, _ = head_rows(project, ["frontal", "lateral"], "crossfit")
    space = Workspace(crossed)
    everybody: list[str] = []
    for fold, one in rows.items():
        learned = [str(p) for role in ("train", "inner") for p in one.of(role)[0].groups]
        kept = [str(p) for role in ("calibration", "test") for p in one.of(role)[0].groups]
        assert kept
        for view in ("frontal", "lateral"):
            saw = set(read_provenance(space.stage1(view, fold))["patients"])
            assert saw
            assert not saw & set(patient_hashes(space, [*learned, *kept]))
        everybody += set(learned)
    # Nobody is lost to stage two, and nobody is held out twice.
    assert len(everybody) == len(set(everybody))
    masks = role_masks(project, "crossfit", "fold-0")
    outside = ~(masks["test"] | masks["calibration"])
    assert set(everybody) == set(project.manifest.patients[outside].tolist())


def test_the_second_run_has_nothing_to_do_and_a_dry_one_writes_nothing(ws):
    again = mvp.run(ws, progress=False)
    assert not any(step.runs for step in again.steps)
    (ws / "split.csv").unlink()
    shutil.rmtree(ws / "stage1")
    dry = mvp.run(ws, dry_run=True, progress=False)
    assert next(s for s in dry.steps if s.name == "finetune frontal").reason.startswith("fold-0")
    assert not (ws / "split.csv").exists()


def test_new_studies_are_scored_by_every_pair(ws):
    table = ws / "new.csv"
    some = rows_of(ws)[:6]
    with table.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(some[0]))
        writer.writeheader()
        writer.writerows(some)
    done = mvp.score(table, ws, root=ws / "data", progress=False)
    with Path(done.out).open() as stream:
        scores = {row["study"]: float(row["tube_side"]) for row in csv.DictReader(stream)}
    project = Project(ws, progress=False)
    saved = load_head(project, None)
    rows, _ = head_rows(project, ["frontal", "lateral"], "crossfit")
    asked = saved.ensemble.ask(rows, "test")
    column = saved.ensemble.outputs.index("tube_side")
    said = saved.decisions.calibrated(asked.predicted["fusion"])[:, column]
    for study, value in zip(asked.studies, said, strict=True):
        if study in scores:
            assert scores[study] == pytest.approx(float(value), abs=1e-5)
    assert scores
    assert list(done.drift) == ["fold-0", "fold-1"]
    assert "drift (fold-0): frontal: " in done.text


def test_a_fold_trained_anew_makes_the_head_stale(ws):
    edit(ws, "epochs = 1", "epochs = 2")
    mvp.finetune(ws, progress=False)
    with pytest.raises((StaleError, ConfigError)):
        mvp.evaluate(ws, progress=False)
    mvp.extract(ws, progress=False)
    with pytest.raises(StaleError, match="fold-0"):
        mvp.evaluate(ws, progress=False)


def test_a_calibration_patient_whom_a_network_has_seen_is_refused(ws):
    """Somebody is moved into the slice after the networks were trained."""
    lines = (ws / "split.csv").read_text().splitlines()
    moved = next(i for i, line in enumerate(lines) if ",stage1," in line)
    study = lines[moved].split(",")[0]
    lines[moved] = f"{study},calibration,"
    (ws / "split.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises((DataError, StaleError, ConfigError)):
        mvp.fit_head(ws, progress=False)


def test_other_protocols_have_no_networks_here(crossed):
    for protocol in ("holdout", "same-rows"):
        with pytest.raises(ConfigError, match="without folds"):
            mvp.fit_head(crossed, protocol=protocol, name="other", progress=False)


def test_the_protocol_needs_to_know_how_many_folds(tmp_path):
    with pytest.raises(ConfigError, match="folds = 5"):
        mvp.check(write_workspace(tmp_path / "w", SMALL_TOML.replace("holdout", "crossfit"), 60))


def test_the_report_says_what_optimism_hides(crossed):
    newest = Workspace(crossed).evaluations()[0]
    said = json.loads((newest / "metrics.json").read_text())
    assert said["protocol"] == "crossfit"
    assert {row["model"] for row in said["optimism"]} == {"fusion"}
    assert all(row["gap"] is None or np.isfinite(row["gap"]) for row in said["optimism"])
    page = (newest / "report.html").read_text()
    assert "Optimism gap" in page
    assert "fold-1" in page


def test_a_changed_label_of_one_fold_is_noticed(ws):
    project = Project(ws, progress=False)
    changed = next(str(s) for s, part in project.split.parts.items() if part == "stage2")
    rows = rows_of(ws)
    for row in rows:
        if row["study"] == changed:
            row["tube_side"] = "0" if row["tube_side"] == "1" else "1"
    write_rows(ws, rows)
    steps = {s.name: s for s in mvp.run(ws, dry_run=True, progress=False).steps}
    assert steps["finetune frontal"].runs


@pytest.mark.parametrize("asked", [{"trials": 2}, {"sweep": True}])
def test_a_search_gives_all_pairs_the_same_options(ws, asked):
    done = mvp.fit_head(ws, progress=False, **asked)
    saved = load_head(Project(ws, progress=False), None)
    assert len(saved.ensemble.members) == K
    for family in saved.ensemble.members.values():
        assert family.fusion.options == done.options
    assert done.search == saved.provenance["search"]
