"""The contract test that authors of learners run in their own tests."""

from __future__ import annotations

import inspect
import pickletools
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mvp.features.table import FeatureTable, table_from_arrays
from mvp.learners.base import CONTRACT, Learner
from mvp.types import FloatArray, Labels, Target, output_slices

_CLOSE = 1e-5
_PICKLE_SUFFIXES = {".pkl", ".pickle", ".joblib", ".pt", ".pth", ".ckpt"}
_SEED = 7
_UNLIKELY = 918_273_645
TARGETS = (
    Target("complete"),
    Target("grade", ("low", "middle", "high")),
    Target("partly"),
)


def check_learner(factory: str | Callable[..., Learner], **options: Any) -> None:
    """Run a learner through what every learner must hold; takes four small fits.

    Args:
        factory: the learner's class, or its name as `make_learner` takes it.
        options: its options; choose them so that a fit of 90 rows is quick.

    Raises:
        AssertionError: the learner breaks the contract; the message says how.
    """
    make = _maker(factory, options)
    _check_constructor(factory, make)
    table, labels, held_out = synthetic_studies()
    learner = _fitted(make, table, labels, held_out)
    values = _predicted(learner, table, labels, "predict")
    _check_rows(learner, table, labels, values)
    # Watched the second time only: libraries that a first fit imports may draw numbers of theirs.
    with _unchanged_random_states("fit or predict"):
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


def synthetic_studies() -> tuple[FeatureTable, Labels, tuple[FeatureTable, Labels]]:
    """90 training and 30 validation studies of two views, some missing, with three targets.

    The targets are a complete binary one, one of three classes, and a binary one of which 60 %
    of the rows are unknown. Two studies have no view at all.
    """
    rng = np.random.default_rng(5)
    first, second = rng.normal(size=(120, 6)), rng.normal(size=(120, 4))
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
    )
    labels = Labels(TARGETS, values)
    train, rest = np.arange(90), np.arange(90, 120)
    return table.select(train), labels.select(train), (table.select(rest), labels.select(rest))


def _maker(
    factory: str | Callable[..., Learner], options: dict[str, Any]
) -> Callable[..., Learner]:
    from mvp.learners.registry import find_learner, make_learner

    if isinstance(factory, str):
        find_learner(factory)
        return lambda **extra: make_learner(factory, {**options, **extra})
    return lambda **extra: factory(**{**options, **extra})


def _check_constructor(factory: str | Callable[..., Learner], make: Callable[..., Learner]) -> None:
    with _unchanged_random_states("the constructor"):
        learner = make()
    for method in CONTRACT:
        assert callable(getattr(learner, method, None)), f"the learner has no method {method!r}"
    assert callable(getattr(type(learner), "load", None)), "load must be a classmethod"
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


def _check_unknown(make: Callable[..., Learner], table: FeatureTable, labels: Labels) -> None:
    learner = _fitted(make, table, labels, None)
    values = _predicted(learner, table, labels, "a fit without validation rows")
    level = float(values[:, labels.outputs.index("partly")].mean())
    assert 0.3 < level < 0.7, (
        f"half of the known rows of a label are positive, but its mean probability is {level:.2f}: "
        "unknown labels (NaN) seem to be trained on as a class"
    )


def _check_storage(
    learner: Learner, table: FeatureTable, labels: Labels, values: FloatArray
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with _unchanged_random_states("save"):
            learner.save(folder)
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert files, "save wrote no file into its folder"
        for path in files:
            assert not _is_pickle(path), f"save wrote a pickle: {path.name}"
        with _unchanged_random_states("load"):
            loaded = type(learner).load(folder)
        again = _predicted(loaded, table, labels, "save and load")
    assert np.allclose(values, again, atol=1e-6), "after save and load the probabilities are others"


def _is_pickle(path: Path) -> bool:
    """Whether a file is a pickle or holds one; nothing in it is run."""
    if path.suffix.lower() in _PICKLE_SUFFIXES:
        return True
    data = path.read_bytes()
    if data[:6] == b"\x93NUMPY":
        return b"'O'" in data[:256] or b"|O" in data[:256]
    if data[:2] == b"PK":
        import zipfile

        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                head = archive.read(member)
                if Path(member).suffix in _PICKLE_SUFFIXES or head[:1] == b"\x80":
                    return True
                if head[:6] == b"\x93NUMPY" and b"|O" in head[:256]:
                    return True
        return False
    if data[:1] != b"\x80":
        return False
    try:
        return any(code.name == "STOP" for code, _, _ in pickletools.genops(data))
    except ValueError:
        return False


@contextmanager
def _unchanged_random_states(doing: str) -> Iterator[None]:
    """Assert that the global random states stay; the caller's are given back in any case."""
    torch = sys.modules.get("torch")
    callers = random.getstate(), np.random.get_state(), torch and torch.get_rng_state()
    # An unlikely state: a learner that seeds globally must not happen to set the one it found.
    random.seed(_UNLIKELY)
    np.random.seed(_UNLIKELY)
    if torch:
        torch.default_generator.manual_seed(_UNLIKELY)
    before = _random_states()
    try:
        yield
        for library, state in _random_states().items():
            assert state == before.get(library, state), (
                f"{doing} changed the global random state of {library}: use generators of your own"
            )
    finally:
        random.setstate(callers[0])
        np.random.set_state(callers[1])
        if torch:
            torch.set_rng_state(callers[2])


def _random_states() -> dict[str, str]:
    states = {
        "random": repr(random.getstate()),
        "numpy": repr([np.asarray(part).tolist() for part in np.random.get_state()]),
    }
    if torch := sys.modules.get("torch"):
        states["torch"] = repr(torch.get_rng_state().tolist())
    return states
