"""A study's draws: their mean is its row, or each is a row of the same study."""

import dataclasses

import numpy as np
import pytest
from cached import KEY, fill, ids, numbers_of, opened

from mvp.errors import DataError, StaleError
from mvp.features import (
    ArrayBlock,
    FeatureTable,
    Writer,
    blocks,
    table_from_arrays,
    table_from_stores,
)

DRAWS, WIDTH = 3, 4
LATERAL = dataclasses.replace(KEY, view="lateral", transform="c" * 32)


@pytest.fixture
def drawn(tmp_path):
    """Five studies; the first has no frontal image, the second two; the lateral has no draws."""
    frontal, lateral = opened(tmp_path), opened(tmp_path, LATERAL)
    rows = ids(range(8))
    fill_draws(frontal, rows)
    fill(lateral, rows, width=2)
    wanted = {
        "frontal": [[], rows[:2], rows[2:3], rows[3:4], rows[4:5]],
        "lateral": [rows[:1], rows[1:2], [], rows[3:4], rows[4:5]],
    }
    return {"frontal": frontal, "lateral": lateral}, wanted


def draws_of(rows):
    """(row, draw, feature): what the network gives."""
    return numbers_of(rows, DRAWS * WIDTH).reshape(-1, DRAWS, WIDTH)


def fill_draws(store, rows):
    with Writer(store) as writer:
        tasks = writer.plan(rows, (DRAWS, WIDTH), 4, {})
        for task in writer.claimed(tasks):
            writer.commit(task, draws_of(task.rows), {})
    store.refresh()


def table_of(drawn, aggregate="mean"):
    stores, wanted = drawn
    studies = np.array([f"S{i}" for i in range(5)], dtype=object)
    patients = np.array(["p", "p", "q", "r", "s"], dtype=object)
    return table_from_stores(studies, patients, stores, wanted, aggregate, {"frontal": DRAWS})


def wanted_draws(drawn, aggregate="mean"):
    """(study, draw, feature) of both views, NaN where one is missing."""
    out = np.full((5, DRAWS, WIDTH + 2), np.nan, np.float32)
    for i, rows in enumerate(drawn[1]["frontal"]):
        if rows:
            out[i, :, :WIDTH] = getattr(draws_of(rows), aggregate)(axis=0)
    for i, rows in enumerate(drawn[1]["lateral"]):
        if rows:
            out[i, :, WIDTH:] = numbers_of(rows, 2)
    return out


@pytest.mark.parametrize("aggregate", ["mean", "max"])
@pytest.mark.parametrize("bytes_at_a_time", [1, 200, 1 << 20])
def test_a_row_is_the_mean_of_the_draws_or_one_of_them(
    drawn, aggregate, bytes_at_a_time, monkeypatch
):
    monkeypatch.setattr(blocks, "_DRAWN_BYTES", bytes_at_a_time)
    table, wanted = table_of(drawn, aggregate), wanted_draws(drawn, aggregate)
    assert (table.draws, len(table), table.signature.widths) == (DRAWS, 5, (WIDTH, 2))
    np.testing.assert_allclose(table.matrix(), wanted.mean(axis=1), rtol=1e-5, atol=1e-6)
    rows = table.by_draw()
    assert len(rows) == 5 * DRAWS
    assert rows.signature == table.signature
    np.testing.assert_allclose(rows.matrix(), wanted.reshape(-1, WIDTH + 2), rtol=1e-6, atol=1e-6)
    some = [4, 14, 0, 7, 7 + 1]
    np.testing.assert_array_equal(rows.select(some).matrix(), rows.matrix()[some])
    np.testing.assert_array_equal(table.select([3, 1]).by_draw().matrix()[:3], rows.matrix()[9:12])
    together = np.concatenate([part for _, part in rows.batches(4)])
    np.testing.assert_array_equal(together, rows.matrix())


def test_the_draws_of_a_study_stand_together_with_its_patient_and_views(drawn):
    rows = table_of(drawn).by_draw()
    assert rows.studies.tolist() == [f"S{i}" for i in range(5) for _ in range(DRAWS)]
    assert rows.groups.tolist() == [p for p in "ppqrs" for _ in range(DRAWS)]
    assert rows.presence[:DRAWS].tolist() == [[False, True]] * DRAWS
    lateral = rows.only(["lateral"]).matrix().reshape(5, DRAWS, 2)
    np.testing.assert_array_equal(lateral[1, 0], lateral[1, 2])
    assert np.isnan(lateral[2]).all()


def test_every_study_counts_one(drawn):
    table = table_of(drawn)
    assert table.row_weight == 1
    assert table.by_draw().row_weight * DRAWS == pytest.approx(1)
    assert table.by_draw().select([0, 1]).row_weight * DRAWS == pytest.approx(1)


def test_rows_by_draw_are_not_drawn_from_again(drawn):
    rows = table_of(drawn).by_draw()
    assert rows.by_draw() is rows


def test_a_table_without_draws_stays_as_it_is():
    table = table_from_arrays(["a", "b"], {"v": np.ones((2, 3), np.float32)})
    assert table.draws == 1
    assert table.by_draw() is table


def test_a_draw_of_a_study_stands_once(drawn):
    with pytest.raises(DataError, match="twice"):
        table_of(drawn).by_draw().select([0, 1, 0])


def test_a_store_of_other_draws_is_refused(drawn):
    stores, wanted = drawn
    names = np.array([f"S{i}" for i in range(5)], dtype=object)
    for draws in ({"frontal": DRAWS + 1}, {"lateral": DRAWS}):
        with pytest.raises(StaleError, match="not of"):
            table_from_stores(names, names, stores, wanted, "mean", draws)


def test_views_of_different_numbers_of_draws_are_refused():
    arrays = {f"v{n}": ArrayBlock(np.ones((2, n, 3), np.float32)) for n in (2, 4)}
    ids_of = np.array(["a", "b"], dtype=object)
    with pytest.raises(DataError, match="different numbers of draws"):
        FeatureTable(ids_of, ids_of, arrays, np.ones((2, 2), bool), {v: v for v in arrays})


def test_draws_in_memory_are_those_of_a_store():
    values = np.random.default_rng(0).normal(size=(4, DRAWS, WIDTH)).astype(np.float32)
    values[2] = np.nan
    table = table_from_arrays(list("abcd"), {"v": values})
    assert table.presence[:, 0].tolist() == [True, True, False, True]
    np.testing.assert_allclose(table.matrix(), values.mean(axis=1), rtol=1e-6)
    np.testing.assert_array_equal(table.by_draw().matrix(), values.reshape(-1, WIDTH))


def test_a_mean_of_draws_that_is_not_finite_is_an_error(tmp_path):
    store, rows = opened(tmp_path), ids(range(2))
    with Writer(store) as writer:
        for task in writer.claimed(writer.plan(rows, (DRAWS, WIDTH), 4, {})):
            writer.commit(task, np.full((2, DRAWS, WIDTH), 3e38, np.float32), {})
    store.refresh()
    names = np.array(["a", "b"], dtype=object)
    wanted = {"frontal": [[row] for row in rows]}
    table = table_from_stores(names, names, {"frontal": store}, wanted, "mean", {"frontal": DRAWS})
    with np.errstate(over="ignore"), pytest.raises(DataError, match="not finite"):
        table.matrix()
    assert np.isfinite(table.by_draw().matrix()).all()
