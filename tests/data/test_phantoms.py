"""Phantom studies: deterministic, and each film knows what it should and nothing else."""

import csv
from collections import defaultdict
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from mvp.data.chords import Ellipsoid
from mvp.data.phantoms import (
    ALIASES,
    COLUMNS,
    LABELS,
    LUNG,
    SOFT,
    VIEWS,
    Phantom,
    attenuation,
    draw_build,
    draw_phantom,
    labels_of,
    render,
    visits,
    write_phantoms,
)

STUDIES = 300


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantoms(tmp_path_factory.mktemp("phantoms"), STUDIES, seed=3)


@pytest.fixture(scope="module")
def rows(table: Path) -> list[dict[str, str]]:
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def truths() -> np.ndarray:
    """(3000, 6) labels without blanks."""
    return np.array(
        [list(labels_of(phantom).values()) for _, phantom, _ in islice(visits(5), 3000)]
    )


@pytest.fixture
def phantom() -> Phantom:
    rng = np.random.default_rng(0)
    drawn = draw_phantom(draw_build(rng), rng)
    return replace(drawn, build=replace(drawn.build, shift=(0.0, 0.0, 0.0)))


def _files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_same_seed_gives_same_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    for name, seed in (("one", 3), ("two", 3), ("other", 4)):
        write_phantoms(tmp_path / name, 12, seed=seed)
    assert _files(tmp_path / "one") == _files(tmp_path / "two")
    assert _files(tmp_path / "one") != _files(tmp_path / "other")


def test_study_is_the_same_however_many_are_asked_for(tmp_path: Path, table: Path) -> None:
    short = write_phantoms(tmp_path, 25, seed=3)
    lines = short.read_text(encoding="utf-8").splitlines()
    assert table.read_text(encoding="utf-8").splitlines()[: len(lines)] == lines
    for image in sorted((tmp_path / "images").iterdir()):
        assert image.read_bytes() == (table.parent / "images" / image.name).read_bytes()


def test_table_names_existing_films_with_dirty_aliases(
    table: Path, rows: list[dict[str, str]]
) -> None:
    assert tuple(rows[0]) == COLUMNS
    assert {row["view"] for row in rows} == set(ALIASES.values())
    assert all((table.parent / row["path"]).is_file() for row in rows)
    assert len({row["path"] for row in rows}) == len(rows)


def test_ids_keep_leading_zeros(rows: list[dict[str, str]]) -> None:
    assert rows[0]["study"] == "S00000"
    assert rows[0]["patient"] == "0000"


def test_some_views_are_missing_and_never_all(rows: list[dict[str, str]]) -> None:
    views = defaultdict(set)
    for row in rows:
        views[row["study"]].add(row["view"])
    assert len(views) == STUDIES
    for alias in ALIASES.values():
        missing = sum(alias not in present for present in views.values())
        assert 0.02 < missing / STUDIES < 0.09


def test_some_labels_are_unknown_and_films_of_a_study_agree(rows: list[dict[str, str]]) -> None:
    cells = [row[label] for row in rows for label in LABELS]
    assert set(cells) == {"", "0", "1"}
    assert 0.03 < cells.count("") / len(cells) < 0.07
    of_study = defaultdict(set)
    for row in rows:
        of_study[row["study"]].add((row["patient"], *(row[label] for label in LABELS)))
    assert all(len(different) == 1 for different in of_study.values())


def test_some_patients_return(rows: list[dict[str, str]]) -> None:
    studies = defaultdict(set)
    for row in rows:
        studies[row["patient"]].add(row["study"])
    numbers = np.array([len(own) for own in studies.values()])
    assert 0.12 < (numbers > 1).mean() < 0.28
    assert numbers.max() == 3


def test_returning_patient_keeps_the_build_with_small_variation() -> None:
    hearts = defaultdict(list)
    for patient, phantom, _ in islice(visits(0), 600):
        hearts[patient].append(phantom.build.heart.half[0])
    within = np.concatenate([np.subtract(h, np.mean(h)) for h in hearts.values() if len(h) > 1])
    between = np.std([h[0] for h in hearts.values()])
    assert np.abs(within).max() > 0
    assert within.std() < between / 3


def test_labels_are_neither_rare_nor_common(truths: np.ndarray) -> None:
    assert ((truths.mean(axis=0) > 0.3) & (truths.mean(axis=0) < 0.7)).all()


def test_misplaced_is_the_agreement_of_side_and_depth(truths: np.ndarray) -> None:
    side, depth, misplaced = (truths[:, LABELS.index(f"tube_{w}")] for w in _TUBE)
    np.testing.assert_array_equal(misplaced, (side == depth).astype(int))


def test_no_other_label_tells_of_misplacement(truths: np.ndarray) -> None:
    correlations = np.corrcoef(truths.T)[LABELS.index("tube_misplaced"), :-1]
    # Four standard errors of a correlation of zero.
    assert np.abs(correlations).max() < 4 / np.sqrt(len(truths))


def test_side_of_the_tube_moves_on_the_frontal_film_only(phantom: Phantom) -> None:
    left = replace(phantom, tube_left=True)
    right = replace(phantom, tube_left=False)
    np.testing.assert_array_equal(render(left)["lateral"], render(right)["lateral"])
    change = attenuation(left, "frontal") - attenuation(right, "frontal")
    # The patient's left is on the right of the film.
    assert change[:, :28].min() < -0.1
    assert change[:, :28].max() <= 1e-9
    assert change[:, 36:].max() > 0.1
    assert change[:, 36:].min() >= -1e-9


def test_depth_of_the_tube_moves_on_the_lateral_film_only(phantom: Phantom) -> None:
    front = replace(phantom, tube_front=True)
    back = replace(phantom, tube_front=False)
    np.testing.assert_array_equal(render(front)["frontal"], render(back)["frontal"])
    change = attenuation(front, "lateral") - attenuation(back, "lateral")
    # The patient looks to the left of the film.
    assert change[:, :28].max() > 0.1
    assert change[:, 35:].min() < -0.1


def test_noise_is_drawn_for_each_film_by_itself(phantom: Phantom) -> None:
    clean = render(phantom)
    noisy, again = (render(phantom, rng=np.random.default_rng(1)) for _ in range(2))
    other = render(phantom, rng=np.random.default_rng(2))
    for view in VIEWS:
        assert noisy[view].dtype == np.uint8
        assert noisy[view].shape == (64, 64)
        np.testing.assert_array_equal(noisy[view], again[view])
        assert (noisy[view] != other[view]).any()
        assert (noisy[view] != clean[view]).any()
    assert render(phantom, size=32)["frontal"].shape == (32, 32)


def test_attenuation_adds_up_along_the_beam(phantom: Phantom) -> None:
    """A lump of known thickness adds its chord times its attenuation (Beer-Lambert)."""
    lump = Ellipsoid((5.0, 0.0, 6.0), (2.0, 3.0, 2.0))
    build = replace(phantom.build, density=1.0)
    bare = replace(phantom, build=build, apical_nodule=None)
    added = attenuation(replace(bare, apical_nodule=lump), "frontal", 240) - attenuation(
        bare, "frontal", 240
    )
    chord = 2 * lump.half[1]
    assert added.max() == pytest.approx(chord * (SOFT - LUNG), rel=0.01)
    assert added.min() == pytest.approx(0, abs=1e-9)


_TUBE = ("side", "depth", "misplaced")
