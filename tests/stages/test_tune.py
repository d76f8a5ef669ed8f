"""The search of options: whom it may look at, what it tries, what it may not choose."""

import sys

import numpy as np
import pytest

from mvp.errors import ConfigError, DataError, MissingExtraError
from mvp.features import table_from_arrays
from mvp.learners import check_learner, find_learner, learner_names, make_learner
from mvp.learners.ensemble import HeadRows
from mvp.learners.search import (
    SKLEARN_SPACES,
    default_point,
    search_space,
    what_is_wrong,
    with_options,
)
from mvp.stages._search_folds import search_rows
from mvp.stages.tune import tune
from mvp.types import Labels, Target
from tests.stages.tunable import PATH, Knob, poisoned, rows_of_roles, studies


@pytest.fixture(scope="module")
def rows():
    return {"all": rows_of_roles(*studies())}


@pytest.fixture(autouse=True)
def nothing_seen():
    Knob.fits.clear()
    Knob.asked.clear()


def searched(learner, rows, trials=8, **kwargs):
    fixed = kwargs.pop("fixed", {})
    settings = {"seed": 3, "progress": False, **kwargs}
    return tune(learner, fixed, rows, trials=trials, **settings)


def outcome(search):
    return [(t.chosen, t.value) for t in search.trials]


@pytest.mark.parametrize("learner", ["logistic", "xgboost"])
def test_other_rows_than_those_of_training_never_reach_the_search(rows, learner):
    fixed = {"n_estimators": 15, "n_jobs": 1} if learner == "xgboost" else {}
    first = searched(learner, rows, 5, fixed=fixed)
    other = {"all": poisoned(rows["all"], ("inner", "calibration", "test"))}
    assert outcome(searched(learner, other, 5, fixed=fixed)) == outcome(first)
    changed = {"all": poisoned(rows["all"], ("train",))}
    assert outcome(searched(learner, changed, 5, fixed=fixed)) != outcome(first)


def test_a_patient_stands_on_one_side_of_every_fold(rows):
    searched(PATH + "Knob", rows, 3)
    train = set(rows["all"].of("train")[0].groups)
    for (fitted, stop), held in zip(Knob.fits, Knob.asked, strict=True):
        sides = [set(fitted), set(stop), set(held)]
        assert all(sides)
        assert sum(map(len, sides)) == len(set.union(*sides))
        assert set.union(*sides) == train
    # Every training patient is measured exactly once by a trial.
    assert sorted(p for held in Knob.asked[:3] for p in set(held)) == sorted(train)


def test_labels_and_patterns_of_views_are_dealt_evenly(rows):
    members, outputs, left_out = search_rows(rows, 3, True, 0)
    labels = members[0].labels
    shares = [np.nanmean(labels.values[part.held], axis=0) for part in members[0].parts]
    assert np.ptp(shares, axis=0).max() < 0.15
    assert outputs == ["l0", "l1"]
    assert left_out == []


def test_without_inner_rows_nothing_is_kept_apart_for_stopping(rows):
    one = rows["all"]
    none = {**one.roles, "inner": np.zeros(len(one.table), bool)}
    searched(PATH + "Knob", {"all": HeadRows(one.table, one.labels, none)}, 2)
    assert all(not stop for _, stop in Knob.fits)


def test_the_defaults_come_first_and_a_better_trial_wins(rows):
    found = searched(PATH + "Knob", rows, 12)
    assert found.trials[0].chosen == {}
    assert found.best.value > found.trials[0].value
    assert found.best.value == max(t.value for t in found.trials)
    assert found.options == {"clear": found.best.chosen["clear"]}
    assert found.options["clear"] > 0.6
    records = found.records()
    assert [r["trial"] for r in records if r["best"]] == [found.best.number]
    assert records[0]["clear"] == "default"


def test_defaults_that_nothing_beats_are_kept(rows):
    found = searched(PATH + "Perfect", rows, 8, fixed={})
    assert found.best.number == 0
    assert found.options == {}


def test_equals_do_not_replace_the_defaults(rows):
    class Same(Knob):
        """Whatever its knob says, it says the same."""

        def predict(self, table):
            self.clear = 1.0
            return super().predict(table)

    # Reached by a dotted path, as a learner is.
    sys.modules["tests.stages.tunable"].Same = Same
    try:
        found = searched(PATH + "Same", rows, 4)
    finally:
        del sys.modules["tests.stages.tunable"].Same
    assert len({t.value for t in found.trials}) == 1
    assert found.best.number == 0


def test_the_same_seed_gives_the_same_and_another_another(rows):
    first = searched(PATH + "Knob", rows, 12)
    assert outcome(searched(PATH + "Knob", rows, 12)) == outcome(first)
    assert outcome(searched(PATH + "Knob", rows, 12, seed=4)) != outcome(first)


def test_a_timeout_ends_after_the_trial_in_flight(rows):
    found = searched(PATH + "Knob", rows, 50, timeout=1e-6)
    assert found.ended == "timeout"
    assert [t.number for t in found.trials] == [0]
    assert len(Knob.fits) == 3
    assert searched(PATH + "Knob", rows, 2, timeout=600).ended == "trials"


def test_fixed_options_are_not_searched(rows):
    fixed = {"subsample": 0.7, "n_estimators": 5, "n_jobs": 1}
    found = searched("xgboost", rows, 3, fixed=fixed)
    assert "subsample" not in found.space
    assert all("subsample" not in t.chosen for t in found.trials)
    assert found.options["subsample"] == 0.7
    with pytest.raises(ConfigError, match="nothing is left to search"):
        searched("logistic", rows, 3, fixed={"C": 0.1})


def test_a_space_may_depend_on_what_is_fixed(rows):
    found = searched(PATH + "Asking", rows, 3, fixed={"label": "high"})
    assert found.options == {"label": "high", "clear": 0.9}
    # The one choice is tried once: its twin costs nothing.
    assert len(Knob.fits) == 2 * 3


def test_options_that_are_refused_are_written_down_and_passed_over(rows):
    found = searched(PATH + "Touchy", rows, 12)
    failed = [t for t in found.trials if t.value is None]
    assert failed
    assert all("too much" in t.failed for t in failed)
    assert 0.3 < found.options["clear"] <= 0.5
    with pytest.raises(ConfigError, match="too much"):
        searched(PATH + "TouchyByDefault", rows, 3)


def test_of_a_cross_fit_the_score_is_the_mean_over_the_members():
    both = {f"fold-{k}": rows_of_roles(*studies(seed=k)) for k in range(2)}
    together = searched(PATH + "Knob", both, 3)
    alone = [searched(PATH + "Knob", {fold: one}, 3) for fold, one in both.items()]
    for trial, first, second in zip(together.trials, *(a.trials for a in alone), strict=True):
        assert trial.chosen == first.chosen
        assert trial.value == pytest.approx((first.value + second.value) / 2)


def test_a_label_that_held_out_patients_cannot_measure_is_left_out_for_all(rows):
    one = rows["all"]
    values = one.labels.values.copy()
    values[:, 1] = 0
    values[np.flatnonzero(one.roles["train"])[0], 1] = 1
    rare = {"all": HeadRows(one.table, Labels(one.labels.targets, values), one.roles)}
    found = searched("logistic", rare, 2)
    assert found.outputs == ["l0"]
    assert found.left_out == ["l1"]
    only = Labels((Target("l1"),), values[:, 1:])
    with pytest.raises(DataError, match="options cannot be compared"):
        searched("logistic", {"all": HeadRows(one.table, only, one.roles)}, 2)


def test_one_patient_cannot_be_held_out():
    table, labels = studies(30)
    alone = table_from_arrays(
        list(table.studies), {v: table.block(v) for v in table.views}, groups=["P0"] * 30
    )
    roles = {"train": np.ones(30, bool)}
    with pytest.raises(DataError, match="1 patient"):
        searched("logistic", {"all": HeadRows(alone, labels, roles)}, 2)


def test_without_optuna_the_extra_is_named(rows, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtraError, match=r"multiview-pipeline\[tune\]"):
        searched("logistic", rows)


def test_optuna_stays_as_quiet_as_it_was(rows, capsys):
    import optuna

    before = optuna.logging.get_verbosity()
    searched(PATH + "Knob", rows, 3)
    assert optuna.logging.get_verbosity() == before
    assert "Trial" not in capsys.readouterr().err


def test_every_built_in_learner_has_a_space_around_its_defaults():
    for name in learner_names():
        if not find_learner(name).__module__.startswith("mvp."):
            continue
        space = search_space(name, {})
        if name != "mean":
            make_learner(name, dict.fromkeys(space, 1))
            assert default_point(name, space) is not None, name
    assert list(search_space("mean", {})) == ["options.C"]
    assert "options.lr" in search_space("mean", {"of": "mlp"})
    with pytest.raises(ConfigError, match="another learner"):
        search_space("mean", {"of": "mean"})


def test_common_classifiers_have_a_space_and_others_say_how_to_give_one():
    for path in ("ensemble.RandomForestClassifier", "svm.SVC"):
        space = search_space(f"sklearn.{path}", {})
        assert dict(space) == SKLEARN_SPACES[path.rpartition(".")[2]]
        make_learner(f"sklearn.{path}", dict.fromkeys(space, 1))
    with pytest.raises(ConfigError, match="search_space"):
        search_space("sklearn.naive_bayes.GaussianNB", {})


def test_a_space_that_cannot_be_read_is_named():
    with pytest.raises(ConfigError, match="'clear'"):
        search_space(PATH + "Wrong", {})
    with pytest.raises(AssertionError, match="search_space cannot be read in 'clear'"):
        check_learner(PATH + "Wrong")


@pytest.mark.parametrize(
    "spec",
    [
        3,
        {"choices": []},
        {"choices": [[1]]},
        {"choices": [1], "low": 0},
        {"low": 0.0},
        {"low": 1, "high": 1},
        {"low": 0.0, "high": 1.0, "log": True},
        {"low": 1.0, "high": 2.0, "step": 1},
        {"low": 0.0, "high": float("inf")},
        {"low": False, "high": True},
    ],
)
def test_what_no_range_can_be(spec):
    assert what_is_wrong(spec)


def test_names_with_a_dot_stand_in_a_table():
    fixed = {"of": "mlp", "options": {"layers": 1}}
    assert with_options(fixed, {"options.lr": 0.1}) == {
        "of": "mlp",
        "options": {"layers": 1, "lr": 0.1},
    }
    assert fixed["options"] == {"layers": 1}


def test_one_trial_is_no_search(rows):
    with pytest.raises(ConfigError, match="two or more"):
        searched("logistic", rows, 1)
