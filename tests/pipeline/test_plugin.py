"""A third party's learner, found through the entry point, without a line changed in `mvp`."""

import csv
import sys
from pathlib import Path

import pytest

import mvp
from mvp.learners import check_learner, find_learner, learner_names

PLUGIN = Path(__file__).parents[1] / "plugin"


@pytest.fixture
def plugin(monkeypatch):
    monkeypatch.syspath_prepend(str(PLUGIN))
    yield
    sys.modules.pop("mvp_nearest", None)


def test_it_is_trained_saved_loaded_and_scores(plugin, workspace):
    assert "nearest" in learner_names()
    fitted = mvp.fit_head(workspace, "nearest", {"neighbours": 9}, progress=False)
    assert fitted.name == "nearest"
    result = mvp.evaluate(workspace, "nearest", progress=False)
    assert {r.model for r in result.evaluation.metrics} == {"frontal", "lateral", "mean", "fusion"}
    done = mvp.score(workspace / "data" / "studies.csv", workspace, head="nearest", progress=False)
    assert done.scored == done.studies
    with (workspace / "scores" / "studies.csv").open() as stream:
        assert all(0 <= float(r["tube_side"]) <= 1 for r in csv.DictReader(stream))


def test_it_is_imported_only_when_asked_for(plugin):
    find_learner("logistic")
    assert "mvp_nearest" not in sys.modules
    find_learner("nearest")
    assert "mvp_nearest" in sys.modules


def test_it_keeps_the_contract_but_for_several_classes(plugin):
    # It knows binary labels only, and the contract test says exactly that.
    from mvp_nearest import NearestLearner

    with pytest.raises(AssertionError):
        check_learner(NearestLearner)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("sklearn.ensemble.RandomForestClassifier", marks=pytest.mark.slow),
        "sklearn.neighbors.KNeighborsClassifier",
        "sklearn.naive_bayes.GaussianNB",
    ],
)
def test_any_scikit_learn_classifier_by_its_dotted_path(workspace, path):
    fitted = mvp.fit_head(workspace, path, progress=False)
    assert fitted.name == path.rpartition(".")[2].lower()
    done = mvp.score(
        workspace / "data" / "studies.csv", workspace, head=fitted.name, progress=False
    )
    assert done.scored == done.studies
