"""Several images of a study become one row; what is not stored is a missing view."""

import numpy as np
import pytest
from cached import KEY, WIDTH, fill, flip, ids, numbers_of, opened
from hypothesis import given, settings
from hypothesis import strategies as st

from mvp.errors import StoreDamagedError
from mvp.features import FeatureStore, table_from_stores
from mvp.features.collect import collect, garbage
from mvp.features.compact import compact


def texts(n):
    return np.array([f"S{i}" for i in range(n)], dtype=object)


def table_of(stores, rows, aggregate="mean"):
    n = len(next(iter(rows.values())))
    return table_from_stores(texts(n), texts(n), stores, rows, aggregate)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 15), max_size=5), min_size=1, max_size=12),
    st.sampled_from(["mean", "max"]),
    st.data(),
)
def test_aggregation_is_that_of_numpy(tmp_path_factory, studies, aggregate, data):
    store = opened(tmp_path_factory.mktemp("s"))
    fill(store, ids(range(16)), unit_rows=5)
    rows = [ids(numbers) for numbers in studies]
    table = table_of({"frontal": store}, {"frontal": rows}, aggregate)
    wanted = np.full((len(rows), WIDTH), np.nan, np.float32)
    for i, some in enumerate(rows):
        if some:
            wanted[i] = getattr(numbers_of(some), aggregate)(axis=0)
    np.testing.assert_allclose(table.matrix(), wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(table.presence[:, 0], [bool(s) for s in studies])
    chosen = data.draw(st.permutations(range(len(rows))))
    np.testing.assert_array_equal(table.select(chosen).matrix(), table.matrix()[chosen])


def test_rows_that_are_not_stored_are_left_out(tmp_path):
    store = opened(tmp_path)
    rows = ids(range(4))
    fill(store, rows, rejected=[rows[1], rows[3]])
    table = table_of({"frontal": store}, {"frontal": [rows[:2], [rows[1], rows[3]], rows[2:]]})
    assert table.presence.tolist() == [[True], [False], [True]]
    matrix = table.matrix()
    np.testing.assert_array_equal(matrix[[0, 2]], numbers_of([rows[0], rows[2]]))
    assert np.isnan(matrix[1]).all()


def test_views_are_joined_by_study_and_keep_their_keys(tmp_path):
    import dataclasses

    frontal = opened(tmp_path)
    lateral = opened(tmp_path, dataclasses.replace(KEY, view="lateral"))
    rows = ids(range(6))
    fill(frontal, rows[:3])
    fill(lateral, rows[::-1])
    by_view = {"frontal": [[rows[2]], [rows[0]]], "lateral": [[rows[5]], []]}
    table = table_of({"lateral": lateral, "frontal": frontal}, by_view)
    assert table.views == ("lateral", "frontal")
    assert table.keys == {"lateral": lateral.key.digest, "frontal": frontal.key.digest}
    np.testing.assert_array_equal(table.block("frontal"), numbers_of([rows[2], rows[0]]))
    np.testing.assert_array_equal(table.block("lateral")[0], numbers_of([rows[5]])[0])
    assert np.isnan(table.block("lateral")[1]).all()


def test_damage_under_a_table_is_an_error_not_a_missing_view(tmp_path):
    store = opened(tmp_path)
    rows = ids(range(4))
    fill(store, rows)
    table = table_of({"frontal": store}, {"frontal": [[r] for r in rows]})
    segment = store.segments[0]
    segment.storage.local(segment.chunk(0)).unlink()
    with pytest.raises(StoreDamagedError):
        table.matrix()


def test_an_empty_store_gives_a_table_without_columns(tmp_path):
    table = table_of({"frontal": opened(tmp_path)}, {"frontal": [ids([1]), []]})
    assert table.matrix().shape == (2, 0)
    assert not table.presence.any()


def test_rows_that_are_not_found_in_a_damaged_store_are_an_error_too(tmp_path):
    rows = ids(range(4))
    for some in (rows[:2], rows[2:]):
        fill(opened(tmp_path), some)
    store = opened(tmp_path)
    segment = store.segments[0]
    flip(segment.storage.local(f"{segment.folder}/plan.npy"))
    with pytest.raises(StoreDamagedError):
        table_of({"frontal": opened(tmp_path)}, {"frontal": [[r] for r in rows]})
    table = table_of(
        {"frontal": opened(tmp_path)}, {"frontal": [[r] for r in store.segments[1].rows]}
    )
    assert table.presence.all()


@pytest.mark.parametrize("leftovers", [False, True])
def test_a_table_goes_on_when_its_segments_are_merged_and_taken_away(tmp_path, leftovers):
    rows = ids(range(6))
    for some in (rows[:2], rows[2:4], rows[4:]):
        fill(opened(tmp_path), some)
    store, lists = opened(tmp_path), [rows[:1], rows[1:3], rows[3:]]
    table, old = table_of({"frontal": store}, {"frontal": lists}), store.segments[0].folder
    direct = opened(tmp_path)
    compact(opened(tmp_path), 4)
    root = FeatureStore(tmp_path)
    collect(root, garbage(root, {(KEY.view, KEY.digest)}), lambda: {(KEY.view, KEY.digest)})
    if leftovers:  # collecting was broken off
        (tmp_path / old / "ledger").mkdir(parents=True)
    wanted = [numbers_of(some).mean(axis=0) for some in lists]
    np.testing.assert_allclose(table.matrix(), wanted, rtol=1e-6)
    np.testing.assert_array_equal(direct.read(rows), numbers_of(rows))


def test_a_table_whose_rows_were_deleted_says_so(tmp_path):
    rows = ids(range(4))
    fill(opened(tmp_path), rows)
    store = opened(tmp_path)
    table = table_of({"frontal": store}, {"frontal": [[r] for r in rows]})
    root = FeatureStore(tmp_path)
    collect(root, garbage(root, set()), set)
    with pytest.raises(StoreDamagedError, match="deleted"):
        table.matrix()
