from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from mvp.errors import ConfigError
from mvp.learners import find_learner, learner_names, make_learner, parse_option, registry


def test_our_learners_come_through_the_entry_points() -> None:
    assert {"logistic", "mean", "mlp", "xgboost"} <= set(learner_names())
    assert find_learner("xgboost").__name__ == "XGBoostLearner"


def test_importing_the_room_imports_no_framework() -> None:
    code = (
        "import sys, mvp.learners, mvp.statistics; mvp.learners.learner_names();"
        "print([m for m in ('torch', 'sklearn', 'xgboost', 'skops', 'pandas') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_only_the_asked_for_learner_is_imported() -> None:
    code = (
        "import sys, mvp.learners as l; l.find_learner('logistic');"
        "print([m for m in ('torch', 'xgboost') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_unknown_name_lists_what_there_is_and_offers_the_nearest() -> None:
    with pytest.raises(
        ConfigError, match=r"logistic, maps, mean, mlp.*did you mean 'xgboost'"
    ) as caught:
        find_learner("xgbost")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no_such_package.Thing", "cannot import 'no_such_package'.*ModuleNotFoundError"),
        ("sklearn.ensemble.RandomForestClasifier", "did you mean 'RandomForestClassifier'"),
        ("sklearn.ensemble.RandomForestRegressor", "not a learner"),
        ("math.sqrt", "not a class"),
        (".x", "cannot import"),
    ],
)
def test_dotted_paths_that_lead_nowhere(path: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find_learner(path)


def test_module_that_fails_while_importing(module) -> None:
    module("explodes", "raise RuntimeError('no licence')")
    with pytest.raises(ConfigError, match=r"explodes.*RuntimeError: no licence"):
        find_learner("explodes.Learner")


def test_classifier_outside_scikit_learn_is_refused_before_fitting(module) -> None:
    module(
        "outside",
        "from sklearn.linear_model import LogisticRegression\n"
        "class Mine(LogisticRegression):\n    pass\n",
    )
    with pytest.raises(ConfigError, match="without pickle"):
        find_learner("outside.Mine")


def test_broken_plugin_is_named_with_its_distribution(module, monkeypatch) -> None:
    module("plugin_explodes", "import a_library_that_is_not_there")

    class Distribution:
        name = "radiomics-head"

    point = EntryPoint("radiomics", "plugin_explodes:Learner", registry.GROUP)
    vars(point).update(dist=Distribution())
    monkeypatch.setattr(registry, "entry_points", lambda **_: [point])
    with pytest.raises(ConfigError, match="'radiomics' of distribution 'radiomics-head'") as caught:
        find_learner("radiomics")
    assert "a_library_that_is_not_there" in str(caught.value)


def test_two_plugins_of_one_name_are_refused(monkeypatch) -> None:
    points = [EntryPoint("mlp", f"{name}:Learner", registry.GROUP) for name in ("one", "two")]
    monkeypatch.setattr(registry, "entry_points", lambda **_: points)
    with pytest.raises(ConfigError, match=r"several distributions.*one:Learner.*two:Learner"):
        find_learner("mlp")


def test_unknown_option_lists_the_options() -> None:
    with pytest.raises(ConfigError, match=r"no option 'droput'.*did you mean 'dropout'"):
        make_learner("mlp", {"droput": 0.1})
    with pytest.raises(ConfigError, match=r"no option 'n_trees'.*n_estimators"):
        make_learner("sklearn.ensemble.RandomForestClassifier", {"n_trees": 5})
    with pytest.raises(ConfigError, match="needs the option 'estimators'"):
        make_learner("sklearn.ensemble.VotingClassifier")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lr=0.001", ("lr", 0.001)),
        ("layers=2", ("layers", 2)),
        ("class_weight=balanced", ("class_weight", "balanced")),
        ("class-weight=null", ("class_weight", None)),
        ("path=a=b", ("path", "a=b")),
        ("x=NaN", ("x", "NaN")),
        ("x=", ("x", "")),
    ],
)
def test_options_from_the_command_line(text: str, expected) -> None:
    assert parse_option(text) == expected


@pytest.mark.parametrize("text", ["lr", "=3", "a b=3"])
def test_unreadable_options(text: str) -> None:
    with pytest.raises(ConfigError, match="name=value"):
        parse_option(text)
