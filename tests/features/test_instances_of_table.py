"""All instances of a study, and the shape of what is stored of each."""

import dataclasses

import numpy as np
import pytest
from cached import KEY, WIDTH, fill, ids, numbers_of, opened

from mvp.errors import DataError
from mvp.features import FeatureStore, FeatureTable, Writer, table_from_arrays, table_from_stores
from mvp.features.collect import collect, garbage
from mvp.features.compact import compact


def texts(n):
    return np.array([f"S{i}" for i in range(n)], dtype=object)


def table_of(store, rows, **settings):
    return table_from_stores(
        texts(len(rows)), texts(len(rows)), {"frontal": store}, {"frontal": rows}, **settings
    )


@pytest.fixture
def ragged(tmp_path):
    """Four studies with 3, 0, 1 and 4 stored rows; a fifth row of the last was rejected."""
    rows = ids(range(9))
    fill(opened(tmp_path), rows, rejected=[rows[8]])
    return tmp_path, [rows[:3], [], rows[3:4], rows[4:9]]


def test_bags_hold_every_stored_row_of_each_study(ragged):
    root, rows = ragged
    table = table_of(opened(root), rows, aggregate="max")
    assert table.instances("frontal").tolist() == [3, 0, 1, 4]
    bags = table.bags("frontal")
    assert bags.counts.tolist() == [3, 0, 1, 4]
    assert bags.offsets.tolist() == [0, 3, 3, 4, 8]
    np.testing.assert_array_equal(bags.values, numbers_of([r for some in rows for r in some][:8]))
    some = table.bags("frontal", [3, 0])
    wanted = numbers_of([*rows[3][:4], *rows[0]])
    np.testing.assert_array_equal(some.values, wanted)
    turned = table.select([3, 1, 0])
    np.testing.assert_array_equal(turned.bags("frontal").values, wanted)
    np.testing.assert_array_equal(turned.block("frontal")[0], numbers_of(rows[3][:4]).max(axis=0))
    assert table.shape("frontal") == (WIDTH,)
    with pytest.raises(DataError, match="no view 'lateral'"):
        table.bags("lateral")


def test_bags_survive_that_segments_are_merged(ragged):
    root, rows = ragged
    extra = ids(range(20, 23))
    fill(opened(root), extra)
    before = table_of(opened(root), rows).bags("frontal").values
    table = table_of(opened(root), rows)
    compact(opened(root), 4)
    store = FeatureStore(root)
    collect(store, garbage(store, {(KEY.view, KEY.digest)}), lambda: {(KEY.view, KEY.digest)})
    np.testing.assert_array_equal(table.bags("frontal").values, before)


def test_bags_of_draws_are_of_one_draw_or_of_their_mean(tmp_path):
    store, rows = opened(tmp_path), ids(range(4))
    drawn = numbers_of(rows, 3 * WIDTH).reshape(4, 3, WIDTH)
    with Writer(store) as writer:
        for task in writer.claimed(writer.plan(rows, (3, WIDTH), 4, {})):
            values = numbers_of(task.rows, 3 * WIDTH).reshape(-1, 3, WIDTH)
            writer.commit(task, values, {})
    store.refresh()
    table = table_of(store, [rows[:3], rows[3:]], draws={"frontal": 3})
    assert table.shape("frontal") == (WIDTH,)
    np.testing.assert_allclose(table.bags("frontal").values, drawn.mean(axis=1), rtol=1e-6)
    each = table.by_draw().bags("frontal")
    assert each.counts.tolist() == [3, 3, 3, 1, 1, 1]
    wanted = np.concatenate([*(drawn[:3, k] for k in range(3)), drawn[3]])
    np.testing.assert_array_equal(each.values, wanted)


def test_shape_of_a_map_is_that_of_the_store(tmp_path):
    store, rows = opened(tmp_path, dataclasses.replace(KEY, pooling="rows")), ids(range(2))
    with Writer(store) as writer:
        for task in writer.claimed(writer.plan(rows, (3, 5), 4, {})):
            writer.commit(task, numbers_of(task.rows, 15).reshape(-1, 3, 5), {})
    store.refresh()
    table = table_of(store, [[r] for r in rows])
    assert table.shape("frontal") == (3, 5)
    np.testing.assert_array_equal(table.matrix(), numbers_of(rows, 15))
    assert table_of(opened(tmp_path / "empty"), [[rows[0]]]).shape("frontal") == (0,)


def test_arrays_of_instances():
    bags = [np.arange(6.0).reshape(3, 2), np.empty((0, 2)), np.array([[9.0, 1.0]])]
    for aggregate, first in (("mean", [2, 3]), ("max", [4, 5])):
        table = table_from_arrays(["a", "b", "c"], {"v": bags}, aggregate=aggregate)
        assert table.presence[:, 0].tolist() == [True, False, True]
        np.testing.assert_array_equal(table.matrix(), [first, [np.nan] * 2, [9, 1]])
        np.testing.assert_array_equal(table.bags("v", [2, 0]).values, [[9, 1], *bags[0]])
    flat = table_from_arrays(["a", "b"], {"v": np.array([[1, 2], [np.nan] * 2], np.float32)})
    assert flat.bags("v").counts.tolist() == [1, 0]
    assert flat.instances("v").tolist() == [1, 0]
    np.testing.assert_array_equal(flat.bags("v").values, [[1, 2]])


def test_what_is_no_instance_is_refused():
    damaged = [np.array([[1.0, np.nan]]), np.ones((2, 2))]
    with pytest.raises(DataError, match="not finite") as caught:
        table_from_arrays(["a", "b"], {"v": damaged}).bags("v")
    assert "a" in str(caught.value)
    table = table_from_arrays(["a", "b"], {"v": [np.ones((1, 2)), np.ones((2, 2))]})
    lying = FeatureTable(
        table.studies, table.groups, table.blocks, np.array([[True], [False]]), table.keys
    )
    with pytest.raises(DataError, match="presence"):
        lying.bags("v")
    with pytest.raises(DataError, match=r"4 numbers are no maps \(3, 2\)"):
        table_from_arrays(["a"], {"v": np.ones((1, 4), np.float32)}, shapes={"v": (3, 2)})


def test_batches_of_wide_rows_are_small(monkeypatch):
    monkeypatch.setattr("mvp.features.table._BATCH_BYTES", 4 * 10 * 7)
    table = table_from_arrays(texts(20).tolist(), {"v": np.ones((20, 10), np.float32)})
    assert [rows.stop - rows.start for rows, _ in table.batches()] == [7, 7, 6]
    assert [rows.stop - rows.start for rows, _ in table.batches(12)] == [12, 8]
