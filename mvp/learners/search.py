"""Which options of a learner may be searched, and where: plain data that a learner says of itself.

A learner's class may have `search_space`: a mapping, or a classmethod that is given the options
that are fixed and returns one. For each option it holds

* `{"low": 1, "high": 8}`: whole numbers, both ends included, as both are written whole;
* `{"low": 0.0, "high": 0.6}`: numbers;
* `{"low": 1e-4, "high": 1e-2, "log": True}`: either of them, evenly by order of magnitude;
* `{"choices": ["gini", "entropy"]}`: one of some plain values.

A name with a dot, `options.C`, is a key of an option that is a table.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

from mvp.errors import ConfigError
from mvp.learners.registry import find_learner

Spec = Mapping[str, Any]

# Of scikit-learn's classifiers by class name; `sklearn.py` gives them to their learners.
SKLEARN_SPACES: dict[str, dict[str, Spec]] = {
    "RandomForestClassifier": {
        "n_estimators": {"low": 50, "high": 500, "log": True},
        "max_features": {"low": 0.01, "high": 1.0, "log": True},
        "min_samples_leaf": {"low": 1, "high": 30, "log": True},
    },
    "ExtraTreesClassifier": {
        "n_estimators": {"low": 50, "high": 500, "log": True},
        "max_features": {"low": 0.01, "high": 1.0, "log": True},
        "min_samples_leaf": {"low": 1, "high": 30, "log": True},
    },
    "HistGradientBoostingClassifier": {
        "learning_rate": {"low": 0.01, "high": 0.3, "log": True},
        "max_iter": {"low": 30, "high": 300, "log": True},
        "max_leaf_nodes": {"low": 4, "high": 64, "log": True},
        "min_samples_leaf": {"low": 5, "high": 100, "log": True},
        "l2_regularization": {"low": 1e-3, "high": 100.0, "log": True},
    },
    "SVC": {
        "C": {"low": 1e-2, "high": 100.0, "log": True},
        "gamma": {"low": 1e-5, "high": 0.1, "log": True},
    },
    "LogisticRegression": {"C": {"low": 1e-5, "high": 10.0, "log": True}},
}


def search_space(learner: str, fixed: Mapping[str, Any]) -> dict[str, Spec]:
    """What may be searched of a learner's options, without those that are fixed.

    Args:
        learner: a registered name or a dotted path.
        fixed: options that stand already.

    Raises:
        ConfigError: there is no such learner, it says no space, one that cannot be read, or every
            option of it is fixed.
    """
    own = getattr(find_learner(learner), "search_space", None)
    if own is None:
        raise ConfigError(
            f"the learner {learner!r} has no search space",
            cause="it does not say which of its options may be searched, and from where to where",
            remedy="leave --trials out and set options with --set, or give its class a "
            "`search_space`, as docs/tuning.md shows",
        )
    try:
        space = dict(own(dict(fixed)) if callable(own) else own)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"the search space of the learner {learner!r} cannot be read",
            cause=f"{type(error).__name__}: {error}",
            remedy="see docs/tuning.md for what it may hold",
        ) from error
    for option, spec in space.items():
        if wrong := what_is_wrong(spec):
            raise ConfigError(
                f"the search space of the learner {learner!r} is wrong in {option!r}",
                cause=wrong,
                remedy="see docs/tuning.md for what it may hold",
            )
    left = {option: spec for option, spec in space.items() if option not in fixed}
    if not left:
        raise ConfigError(
            f"nothing is left to search: every option of {learner!r} that could be is fixed",
            cause=f"it may be searched in {', '.join(space) or 'none'}",
            remedy="fix fewer with --set or head.options, or leave --trials out",
        )
    return left


def with_options(fixed: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Fixed options together with chosen ones, whose names may have a dot."""
    options = dict(fixed)
    for name, value in chosen.items():
        table, dot, key = name.partition(".")
        options[table] = {**(options.get(table) or {}), key: value} if dot else value
    return options


def default_point(learner: str, space: Mapping[str, Spec]) -> dict[str, Any] | None:
    """Where a learner's defaults stand in a space; None where they are outside of it or unknown."""
    defaults = inspect.signature(find_learner(learner)).parameters
    point = {}
    for option, spec in space.items():
        value = defaults[option].default if option in defaults else inspect.Parameter.empty
        if not _inside(value, spec):
            return None
        point[option] = value
    return point


def _inside(value: Any, spec: Spec) -> bool:
    if "choices" in spec:
        return any(value is one or value == one for one in spec["choices"])
    whole = isinstance(spec["low"], int) and isinstance(spec["high"], int)
    return _number(value, whole) and spec["low"] <= value <= spec["high"]


def what_is_wrong(spec: object) -> str | None:
    """What cannot be read of one option's range, None where nothing is wrong."""
    if not isinstance(spec, Mapping):
        return f"expected a table with low and high, or with choices, not {spec!r}"
    if "choices" in spec:
        some = spec["choices"]
        if set(spec) != {"choices"}:
            return "choices stand alone"
        plain = isinstance(some, list | tuple) and some
        if not plain or not all(v is None or isinstance(v, bool | int | float | str) for v in some):
            return f"choices must be a list of plain values, not {some!r}"
        return None
    if strange := set(spec) - {"low", "high", "log"}:
        return f"it has no {', '.join(sorted(map(str, strange)))}; low, high, log or choices"
    low, high = spec.get("low"), spec.get("high")
    if not _number(low) or not _number(high) or not low < high:  # type: ignore[operator]
        return f"low and high must be numbers in that order, not {low!r} and {high!r}"
    if not isinstance(spec.get("log", False), bool):
        return f"log must be true or false, not {spec['log']!r}"
    if spec.get("log") and low <= 0:  # type: ignore[operator]
        return f"orders of magnitude begin above 0, not at {low!r}"
    return None


def _number(value: object, whole: bool = False) -> bool:
    kind: Any = int if whole else int | float
    return isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value)
