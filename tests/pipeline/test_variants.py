"""Other shapes of a workspace: classes, sources, one view, several images, float16."""

import csv

import numpy as np
import pytest

import mvp
from mvp.errors import ConfigError, DataError
from mvp.pipeline.networks import open_stores
from mvp.pipeline.project import Project
from mvp.pipeline.tables import cached_table
from tests.pipeline.conftest import SMALL_TOML, rows_of, write_rows, write_workspace


def features(project, views):
    return cached_table(project, open_stores(project, views))


@pytest.mark.parametrize(
    "learner",
    [
        pytest.param("mlp", marks=pytest.mark.slow),
        "xgboost",
        pytest.param("logistic", marks=pytest.mark.slow),
    ],
)
def test_a_multiclass_label_beside_a_binary_one(tmp_path, learner):
    ws = write_workspace(tmp_path / "ws", studies=100)
    rows = rows_of(ws)
    names = {("0", "0"): "right back", ("1", "0"): "left back"}
    for row in rows:
        side, depth = row["tube_side"], row["tube_depth"]
        row["tip"] = "" if "" in (side, depth) else names.get((side, depth), "front")
    write_rows(ws, rows)
    classes = '[labels.tip]\nkind = "multiclass"\nclasses = ["front", "left back", "right back"]\n'
    (ws / "mvp.toml").write_text(SMALL_TOML.replace("[labels.tube_depth]\n", classes))
    options = {"mlp": {"epochs": 5}, "xgboost": {"n_estimators": 10}, "logistic": {}}[learner]
    mvp.finetune(ws, progress=False)
    mvp.extract(ws, progress=False)
    mvp.fit_head(ws, learner, options, progress=False)
    result = mvp.evaluate(ws, learner, progress=False)
    outputs = ["enlarged_heart", "tube_side", "tip=front", "tip=left back", "tip=right back"]
    assert list(dict.fromkeys(r.label for r in result.evaluation.metrics)) == outputs
    known = {r["study"]: r["tip"] for r in rows if r["tip"]}
    project = Project(ws, progress=False)
    tested = project.manifest.studies[project.split.mask(project.manifest.studies, ["test"])]
    for row in result.evaluation.metrics:
        if row.model == "fusion" and row.label.startswith("tip="):
            own = [s for s in tested if s in known]
            assert row.n == len(own)
            assert row.positives == sum(known[s] == row.label.removeprefix("tip=") for s in own)
    mvp.score(ws / "data" / "studies.csv", ws, ws / "s.csv", head=learner, progress=False)
    with (ws / "s.csv").open() as stream:
        for row in csv.DictReader(stream):
            assert abs(sum(float(row[o]) for o in outputs[2:]) - 1) < 1e-4


def test_one_view_only(workspace):
    toml = (workspace / "mvp.toml").read_text()
    (workspace / "mvp.toml").write_text(toml.replace('[views.lateral]\naliases = ["LL"]\n', ""))
    mvp.fit_head(workspace, progress=False)
    result = mvp.evaluate(workspace, progress=False)
    assert {r.model for r in result.evaluation.metrics} == {"fusion"}
    assert result.evaluation.without_views > 0
    done = mvp.score(workspace / "data" / "studies.csv", workspace, progress=False)
    assert done.scored + done.rejected_studies == done.studies
    assert done.exit_code == 4


def test_a_view_with_a_source_has_a_network_of_its_own(workspace):
    toml = (workspace / "mvp.toml").read_text()
    extra = '[views.side]\nsource = "frontal"\nlabels = ["tube_side"]\n\n[labels.enlarged_heart]'
    (workspace / "mvp.toml").write_text(toml.replace("[labels.enlarged_heart]", extra))
    assert mvp.run(workspace, dry_run=True, progress=False).steps[2].name == "finetune side"
    mvp.finetune(workspace, ["side"], progress=False)
    done = mvp.extract(workspace, progress=False)
    assert done.views["frontal"].forward_passes == 0
    assert (
        done.views["side"].rows == done.views["frontal"].rows == done.views["side"].forward_passes
    )
    fitted = mvp.fit_head(workspace, progress=False)
    assert fitted.views == ["frontal", "lateral", "side"]
    table = features(Project(workspace, progress=False), fitted.views)
    present = table.presence[:, 0]
    assert (table.presence[:, 2] == present).all()
    assert not np.allclose(table.block("frontal")[present], table.block("side")[present])


def test_several_images_of_a_view_are_averaged_or_the_first_is_taken(workspace):
    rows = rows_of(workspace)
    frontal = [r for r in rows if r["view"] == "PA"]
    twin = dict(frontal[0], path=frontal[1]["path"])
    write_rows(workspace, [*rows, twin])
    project = Project(workspace, progress=False)
    study = list(project.manifest.studies).index(twin["study"])
    other = list(project.manifest.studies).index(frontal[1]["study"])
    own = features(_before(workspace, rows), ["frontal"]).block("frontal")
    write_rows(workspace, [*rows, twin])
    both = features(Project(workspace, progress=False), ["frontal"]).block("frontal")
    np.testing.assert_allclose(both[study], (own[study] + own[other]) / 2, rtol=1e-6)
    toml = (workspace / "mvp.toml").read_text()
    first = toml.replace('aliases = ["PA"]', 'aliases = ["PA"]\nimages = "first"')
    (workspace / "mvp.toml").write_text(first)
    one = features(Project(workspace, progress=False), ["frontal"]).block("frontal")
    np.testing.assert_array_equal(one[study], own[study])
    (workspace / "mvp.toml").write_text(first.replace('"first"', '"error"'))
    with pytest.raises(DataError, match="several images of one view"):
        mvp.extract(workspace, ["frontal"], progress=False)


def _before(workspace, rows):
    write_rows(workspace, rows)
    return Project(workspace, progress=False)


def test_float16_is_another_key_and_close(workspace):
    table = features(Project(workspace, progress=False), ["frontal"])
    toml = (workspace / "mvp.toml").read_text()
    (workspace / "mvp.toml").write_text(toml.replace("[extract]", '[extract]\ndtype = "float16"'))
    done = mvp.extract(workspace, ["frontal"], progress=False)
    assert done.forward_passes == done.views["frontal"].rows
    half = features(Project(workspace, progress=False), ["frontal"])
    assert half.keys != table.keys
    np.testing.assert_allclose(half.block("frontal"), table.block("frontal"), rtol=2e-3, atol=1e-3)


def test_a_subset_of_views(workspace):
    fitted = mvp.fit_head(workspace, views=["lateral"], name="lateral-only", progress=False)
    assert fitted.views == ["lateral"]
    done = mvp.score(
        workspace / "data" / "studies.csv", workspace, head="lateral-only", progress=False
    )
    assert done.scored == sum(r["view"] == "LL" for r in rows_of(workspace))


def test_a_new_label_needs_a_new_network_only_where_it_is_asked(workspace):
    toml = (workspace / "mvp.toml").read_text()
    added = toml.replace("[labels.tube_depth]\n", "[labels.tube_depth]\n[labels.apical_nodule]\n")
    own = 'labels = ["enlarged_heart", "tube_side", "tube_depth"]\n'
    for view, alias in (("frontal", "PA"), ("lateral", "LL")):
        start = f'[views.{view}]\naliases = ["{alias}"]\n'
        added = added.replace(start, start + own)
    (workspace / "mvp.toml").write_text(added)
    plan = {s.name: s.runs for s in mvp.run(workspace, dry_run=True, progress=False).steps}
    assert not plan["finetune frontal"]
    assert not plan["extract lateral"]
    assert plan["fit-head logistic"]


def test_a_source_is_found_whatever_the_order_and_the_case(workspace):
    toml = (workspace / "mvp.toml").read_text()
    first = '[views.side]\nsource = "Frontal"\n\n[views.frontal]'
    (workspace / "mvp.toml").write_text(toml.replace("[views.frontal]", first))
    checked = mvp.check(workspace, progress=False)
    assert checked.views["side"] == checked.views["frontal"]
    assert checked.views["side"]["images"] > 0


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ("[views.FRONTAL]\n", "case only"),
        ('[labels."k=1"]\n[labels.k]\nkind = "multiclass"\nclasses = ["1", "2"]\n', "k=1"),
    ],
)
def test_names_that_would_fall_together_are_refused(workspace, extra, said):
    toml = (workspace / "mvp.toml").read_text()
    place = "[network]"
    (workspace / "mvp.toml").write_text(toml.replace(place, extra + place))
    with pytest.raises(ConfigError, match=said):
        mvp.check(workspace, progress=False)


def test_check_counts_the_classes_of_a_multiclass_label(workspace):
    rows = rows_of(workspace)
    for row in rows:
        row["tip"] = "left" if row["tube_side"] == "1" else "right"
    write_rows(workspace, rows)
    toml = (workspace / "mvp.toml").read_text()
    label = '[labels.tip]\nkind = "multiclass"\nclasses = ["nowhere", "left", "right"]\n'
    (workspace / "mvp.toml").write_text(toml.replace("[network]", label + "[network]"))
    checked = mvp.check(workspace, progress=False)
    assert checked.exit_code == 0
    assert checked.labels["tip"]["all"]["classes"]["nowhere"] == 0
    assert any(p.kind == "one-class-in-part" and "nowhere" in p.text for p in checked.problems)
