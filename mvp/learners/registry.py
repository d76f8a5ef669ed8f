"""Learners by name: entry points, looked up lazily, or dotted paths."""

from __future__ import annotations

import difflib
import importlib
import inspect
import json
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from mvp.errors import ConfigError
from mvp.learners.base import CONTRACT, Learner, fulfils_contract

GROUP = "mvp.learners"


def learner_names() -> list[str]:
    """Names of all installed learners, ours and third parties', without importing them."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def find_learner(name: str) -> type[Learner]:
    """The class of a learner.

    Args:
        name: an entry point's name in the group `mvp.learners` (`mlp`, `xgboost`, `logistic`, …
            or a plugin's), or a dotted path `package.module.Class` to a class with the four
            methods of `Learner` or to a classifier of scikit-learn.

    Raises:
        ConfigError: no such learner, it cannot be imported, or it is not a learner.
    """
    points = list(entry_points(group=GROUP, name=name))
    if len({point.value for point in points}) > 1:
        raise ConfigError(
            f"several distributions offer a learner {name!r}: "
            + ", ".join(sorted(f"{_origin(point)} ({point.value})" for point in points)),
            remedy="use its dotted path instead of the name, or uninstall one",
        )
    if points:
        return _from_entry_point(points[0])
    if "." in name:
        return _from_dotted_path(name)
    raise ConfigError(
        f"there is no learner {name!r}; there are {', '.join(learner_names())}",
        remedy=_suggestion(name, learner_names())
        or "name one of these, or a dotted path such as sklearn.ensemble.RandomForestClassifier",
    )


def make_learner(name: str, options: Mapping[str, Any] | None = None) -> Learner:
    """A learner with its options set, not yet fitted.

    Raises:
        ConfigError: no such learner, or an option that it does not have.
    """
    learner = find_learner(name)
    options = dict(options or {})
    parameters = inspect.signature(learner).parameters.values()
    known = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    for option in options:
        if option not in known and not takes_any:
            raise ConfigError(
                f"the learner {name!r} has no option {option!r}; "
                f"its options are {', '.join(known) or 'none'}",
                remedy=_suggestion(option, known),
            )
    for parameter in parameters:
        required = parameter.default is parameter.empty and parameter.name in known
        if required and parameter.name not in options:
            raise ConfigError(
                f"the learner {name!r} needs the option {parameter.name!r}",
                remedy=f"--set {parameter.name}=VALUE",
            )
    try:
        return learner(**options)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"the learner {name!r} cannot be made with {options}", cause=_reason(error)
        ) from error


def parse_option(text: str) -> tuple[str, Any]:
    """`name=value` from the command line; the value is JSON if it parses, otherwise text.

    Raises:
        ConfigError: no `=`, or a name that cannot be a keyword.
    """
    name, equals, value = text.partition("=")
    name = name.strip().replace("-", "_")
    if not equals or not name.isidentifier():
        raise ConfigError(
            f"cannot read the option {text!r}", remedy="write --set name=value, e.g. --set lr=0.001"
        )
    try:
        return name, json.loads(value, parse_constant=_not_json)
    except ValueError:
        return name, value


def _from_entry_point(point: EntryPoint) -> type[Learner]:
    where = f"the learner {point.name!r} of {_origin(point)}"
    try:
        found = point.load()
    except Exception as error:
        raise ConfigError(
            f"{where} cannot be imported from {point.value!r}",
            cause=_reason(error),
            remedy="reinstall or remove that distribution",
        ) from error
    if not fulfils_contract(found):
        raise _not_a_learner(f"{where} ({point.value})", found)
    return found


def _from_dotted_path(path: str) -> type[Learner]:
    found = import_dotted(path)
    if fulfils_contract(found):
        return found
    # Only now: a learner that needs no scikit-learn should not wait for its import.
    from mvp.learners.sklearn import SklearnLearner, is_classifier_class

    if is_classifier_class(found):
        return SklearnLearner.of(path)
    raise _not_a_learner(path, found)


def import_dotted(path: str) -> Any:
    """What a dotted path `package.module.Name` names.

    Raises:
        ConfigError: the module cannot be imported or has no such name.
    """
    module_name, _, attribute = path.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise ConfigError(
            f"cannot import {module_name!r} for the learner {path!r}",
            cause=_reason(error),
            remedy="check the spelling, and that its package is installed in this environment",
        ) from error
    try:
        return getattr(module, attribute)
    except AttributeError as error:
        names = [n for n, value in vars(module).items() if isinstance(value, type)]
        raise ConfigError(
            f"the module {module_name!r} has no {attribute!r}",
            remedy=_suggestion(attribute, names) or "check the spelling",
        ) from error


def _not_a_learner(where: str, found: object) -> ConfigError:
    missing = [m for m in CONTRACT if not callable(getattr(found, m, None))]
    kind = f"it lacks {', '.join(missing)}" if isinstance(found, type) else "it is not a class"
    return ConfigError(
        f"{where} is not a learner",
        cause=f"{kind}, and is no scikit-learn classifier",
        remedy="see mvp.learners.Learner for the four methods",
    )


def _origin(point: EntryPoint) -> str:
    return f"distribution {point.dist.name!r}" if point.dist else "an unnamed distribution"


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _suggestion(name: str, known: Iterable[str]) -> str | None:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else None


def _not_json(constant: str) -> None:
    raise ValueError(constant)
