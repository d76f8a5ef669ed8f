"""The contract test that authors of learners run in their own tests."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mvp.errors import MvpError
from mvp.features import FeatureTable, table_from_arrays
from mvp.learners.base import CONTRACT, Learner
from mvp.learners.head import Head
from mvp.learners.registry import find_learner, make_learner
from mvp.learners.search import what_is_wrong
from mvp.learners.watching import is_pickle, unchanged_random_states
from mvp.types import FloatArray, Labels, Target, output_slices

_CLOSE = 1e-5
_SEED = 7
TARGETS = (
    Target("complete"),
    Target("grade", ("low", "middle", "high")),
    Target("partly"),
)


def check_learner(
    factory: str | Callable[..., Learner], *, maps: bool | tuple[int, ...] = False, **options: Any
) -> None:
    """Run a learner through what every learner must hold; takes four small fits.

    Args:
        factory: the learner's class, or its name as `make_learner` takes it.
        maps: offer views that are maps of one shape, for learners of maps: (channel, position), or
            the shape given, of six numbers.
        options: its options; choose them so that a fit of 90 rows is quick.

    Raises:
        AssertionError: the learner breaks the contract; the message says how.
    """
    make = _maker(factory, options)
    _check_constructor(factory, make)
    table, labels, held_out = synthetic_studies(maps=maps)
    learner = _fitted(make, table, labels, held_out)
    values = _predicted(learner, table, labels, "predict")
    _check_rows(learner, table, labels, values)
    _check_views(learner, table, labels, values)
    # Watched the second time only: libraries that a first fit imports may draw numbers of theirs.
    with unchanged_random_states("fit or predict"):
        again = _predicted(_fitted(make, table, labels, held_out), table, labels, "a second fit")
    assert np.allclose(values, again, atol=_CLOSE), (
        "two fits with the same seed give different probabilities: use the seed for everything "
        "that is random"
    )
    _check_unknown(make, table, labels)
    _check_storage(learner, table, labels, values)
    blank = Labels(labels.targets, np.full_like(held_out[1].values, np.nan))
    _predicted(
        _fitted(make, table, labels, (held_out[0], blank)),
        table,
        labels,
        "a fit whose validation labels are all unknown",
    )


def check_labels_apart(factory: str | Callable[..., Learner], **options: Any) -> None:
    """Check that a learner fits a label with unknown rows as if it were alone; two small fits.

    It holds for learners that fit every label by itself. Those that share something between
    labels (a network) cannot and need not pass.

    Args:
        factory: see `check_learner`.
        options: see `check_learner`.

    Raises:
        AssertionError: other labels, or the rows in which it is unknown, change its fit.
    """
    make = _maker(factory, options)
    table, labels, _ = synthetic_studies()
    column = labels.targets.index(TARGETS[2])
    output = labels.outputs.index(TARGETS[2].name)
    known = labels.known[:, column]
    together = _fitted(make, table, labels, None)
    apart = _fitted(make, table.select(known), labels.only([column]).select(known), None)
    assert np.allclose(together.predict(table)[:, output], apart.predict(table)[:, 0], atol=1e-6), (
        f"a label that is known in {known.mean():.0%} of the rows is fitted otherwise than on "
        "these rows alone"
    )


def synthetic_studies(
    *, maps: bool | tuple[int, ...] = False
) -> tuple[FeatureTable, Labels, tuple[FeatureTable, Labels]]:
    """90 training and 30 validation studies of two views, some missing, with three targets.

    The targets are a complete binary one, one of three classes, and a binary one of which 60 %
    of the rows are unknown. Two studies have no view at all. The views have 6 and 4 features, or,
    as maps, 2 channels at 3 positions each.
    """
    shape = maps if isinstance(maps, tuple) else (2, 3)
    rng = np.random.default_rng(5)
    first, second = rng.normal(size=(120, 6)), rng.normal(size=(120, 6 if maps else 4))
    values = np.stack(
        [
            first[:, 0] + second[:, 0] > 0,
            np.digitize(second[:, 1], [-0.4, 0.4]),
            np.arange(120) % 2,
        ],
        axis=1,
    ).astype(np.float32)
    # Known rows are half positive; counting unknown ones as negative makes it a fifth.
    values[np.arange(120) % 10 >= 4, 2] = np.nan
    values[rng.random(120) < 0.1, 1] = np.nan
    first[rng.random(120) < 0.15] = np.nan
    second[rng.random(120) < 0.15] = np.nan
    first[[3, 100]] = second[[3, 100]] = np.nan
    table = table_from_arrays(
        [f"s{i}" for i in range(120)],
        {"first": first.astype(np.float32), "second": second.astype(np.float32)},
        shapes=dict.fromkeys(("first", "second"), shape) if maps else None,
    )
    labels = Labels(TARGETS, values)
    train, rest = np.arange(90), np.arange(90, 120)
    return table.select(train), labels.select(train), (table.select(rest), labels.select(rest))


def _maker(
    factory: str | Callable[..., Learner], options: dict[str, Any]
) -> Callable[..., Learner]:
    if isinstance(factory, str):
        find_learner(factory)
        return lambda **extra: make_learner(factory, {**options, **extra})
    return lambda **extra: factory(**{**options, **extra})


def _check_constructor(factory: str | Callable[..., Learner], make: Callable[..., Learner]) -> None:
    with unchanged_random_states("the constructor"):
        learner = make()
    for method in CONTRACT:
        assert callable(getattr(learner, method, None)), f"the learner has no method {method!r}"
    assert callable(getattr(type(learner), "load", None)), "load must be a classmethod"
    space = getattr(type(learner), "search_space", None)
    for option, spec in dict((space({}) if callable(space) else space) or {}).items():
        wrong = what_is_wrong(spec)
        assert not wrong, f"search_space cannot be read in {option!r}: {wrong}"
    if isinstance(factory, str):
        return
    for parameter in inspect.signature(factory).parameters.values():
        if parameter.default is parameter.empty:
            continue
        try:
            make(**{parameter.name: object()})
        except Exception as error:
            raise AssertionError(
                f"the constructor looks at the option {parameter.name!r} ({error!r}): it must "
                "only store its options, and leave it to fit to refuse them"
            ) from error


def _fitted(
    make: Callable[..., Learner],
    table: FeatureTable,
    labels: Labels,
    validation: tuple[FeatureTable, Labels] | None,
) -> Learner:
    learner = make()
    features, values = table.matrix(), labels.values.copy()
    learner.fit(table, labels, validation=validation, seed=_SEED)
    assert np.array_equal(labels.values, values, equal_nan=True), "fit changed the labels"
    assert np.array_equal(table.matrix(), features, equal_nan=True), "fit changed the features"
    return learner


def _predicted(learner: Learner, table: FeatureTable, labels: Labels, after: str) -> FloatArray:
    values = learner.predict(table)
    outputs = labels.outputs
    expected = (len(table), len(outputs))
    assert isinstance(values, np.ndarray), f"{after}: predict gave a {type(values).__name__}"
    assert values.shape == expected, (
        f"{after}: predict gave shape {values.shape}, expected (study, output) = {expected}; "
        f"the outputs are {', '.join(outputs)}"
    )
    assert values.dtype == np.float32, f"{after}: predict gave {values.dtype}, expected float32"
    assert np.isfinite(values).all(), (
        f"{after}: predict gave values that are not finite; missing views are NaN in the table, "
        "and a study may lack all of them"
    )
    assert (values >= 0).all() and (values <= 1).all(), f"{after}: probabilities outside [0, 1]"
    for target, columns in zip(labels.targets, output_slices(labels.targets), strict=True):
        if target.multiclass:
            sums = values[:, columns].sum(axis=1)
            assert np.allclose(sums, 1, atol=1e-3), (
                f"{after}: the probabilities of the classes of {target.name!r} do not sum to 1"
            )
    return values


def _check_rows(learner: Learner, table: FeatureTable, labels: Labels, values: FloatArray) -> None:
    order = np.random.default_rng(1).permutation(len(table))
    shuffled = _predicted(learner, table.select(order), labels, "shuffled rows")
    assert np.allclose(shuffled, values[order], atol=_CLOSE), (
        "a study's probabilities depend on the order of the rows"
    )
    one = _predicted(learner, table.select([2]), labels, "one row")
    assert np.allclose(one, values[[2]], atol=_CLOSE), (
        "a study's probabilities depend on the other studies in the table"
    )
    nothing = table.select(np.flatnonzero(~table.presence.any(axis=1)))
    assert len(nothing) > 0
    _predicted(learner, nothing, labels, "a study without any view")


def _check_views(learner: Learner, table: FeatureTable, labels: Labels, values: FloatArray) -> None:
    """Views that are missing everywhere, come in another order, or are others."""
    blocks = {view: table.block(view) for view in table.views}
    shapes = {view: table.shape(view) for view in table.views}
    for view in table.views:
        gone = {**blocks, view: np.full_like(blocks[view], np.nan)}
        without = table_from_arrays(list(table.studies), gone, shapes=shapes)
        _predicted(learner, without, labels, f"the view {view!r} missing in every study")
    head = Head(learner, "checked", {}, table.signature, labels.targets, _SEED, "0")
    turned = table.only(table.views[::-1])
    assert np.allclose(head.predict(turned), values, atol=_CLOSE), (
        "views in another order give other probabilities"
    )
    first, second = table.views
    exchanged = {first: table.keys[second], second: table.keys[first]}
    swapped = table_from_arrays(list(table.studies), blocks, keys=exchanged, shapes=shapes)
    for wrong in (swapped, table.only([first])):
        try:
            head.predict(wrong)
        except MvpError:
            continue
        raise AssertionError("features of other views are not refused")


def _check_unknown(make: Callable[..., Learner], table: FeatureTable, labels: Labels) -> None:
    values = labels.values.copy()
    # The classes are about equally frequent; counting unknown rows as one makes it 70 %.
    values[np.isnan(values[:, 2]), 1] = np.nan
    learner = _fitted(make, table, Labels(labels.targets, values), None)
    predicted = _predicted(learner, table, labels, "a fit without validation rows")
    level = predicted.mean(axis=0, dtype=np.float64)
    binary, classes = (output_slices(labels.targets)[index] for index in (2, 1))
    assert 0.3 < level[binary.start] < 0.7, (
        f"half of the known rows of a label are positive, but its mean probability is "
        f"{level[binary.start]:.2f}: unknown labels (NaN) seem to be trained on as a class"
    )
    assert level[classes].max() < 0.6, (
        f"the classes of a label are about equally frequent, but one has a mean probability of "
        f"{level[classes].max():.2f}: unknown labels (NaN) seem to be trained on as that class"
    )


def _check_storage(
    learner: Learner, table: FeatureTable, labels: Labels, values: FloatArray
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with unchanged_random_states("save"):
            learner.save(folder)
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert files, "save wrote no file into its folder"
        for path in files:
            assert not is_pickle(path), f"save wrote a pickle: {path.name}"
        with unchanged_random_states("load"):
            loaded = type(learner).load(folder)
        again = _predicted(loaded, table, labels, "save and load")
    assert np.allclose(values, again, atol=1e-6), "after save and load the probabilities are others"
