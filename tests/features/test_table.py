"""One row order for all views, asserted; a missing view is NaN and nothing else is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvp.errors import DataError
from mvp.features import ArrayBlock, FeatureTable, table_from_arrays

FRONTAL = np.arange(12, dtype=np.float32).reshape(4, 3)
LATERAL = np.arange(100, 108, dtype=np.float32).reshape(4, 2)
STUDIES = ["0012", "12", "S3", "S4"]


def two_views(**more):
    lateral = LATERAL.copy()
    lateral[1] = np.nan
    return table_from_arrays(STUDIES, {"frontal": FRONTAL, "lateral": lateral}, **more)


def test_views_stand_side_by_side_with_names():
    table = two_views()
    assert table.columns == ("frontal/0", "frontal/1", "frontal/2", "lateral/0", "lateral/1")
    assert table.signature.slices == {"frontal": slice(0, 3), "lateral": slice(3, 5)}
    matrix = table.matrix()
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix[:, table.signature.slices["frontal"]], FRONTAL)
    np.testing.assert_array_equal(matrix[[0, 2, 3], 3:], LATERAL[[0, 2, 3]])


def test_a_missing_view_is_nan_and_marked():
    table = two_views()
    assert table.presence.tolist() == [[True, True], [True, False], [True, True], [True, True]]
    assert np.isnan(table.matrix()[1]).tolist() == [False] * 3 + [True] * 2
    assert table.studies.tolist() == STUDIES


def test_views_are_addressed_by_name_whatever_their_order():
    table = two_views()
    swapped = table.only(["lateral", "frontal"])
    assert swapped.columns[:2] == ("lateral/0", "lateral/1")
    assert swapped.signature != table.signature
    for view in table.views:
        np.testing.assert_array_equal(swapped.block(view), table.block(view))
    np.testing.assert_array_equal(swapped.matrix(), table.matrix()[:, [3, 4, 0, 1, 2]])
    assert swapped.presence[1].tolist() == [False, True]
    assert dict(swapped.keys) == dict(table.keys)
    with pytest.raises(DataError, match="axial"):
        table.only(["axial"])


def test_the_signature_changes_with_views_widths_and_keys():
    table = two_views()
    other_key = two_views(keys={"frontal": "x", "lateral": "lateral"})
    narrow = table_from_arrays(STUDIES, {"frontal": FRONTAL[:, :2], "lateral": LATERAL})
    signatures = [table.signature, other_key.signature, narrow.signature]
    assert len(set(signatures)) == 3
    assert two_views().signature == table.signature


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_select_only_batches_and_matrix_agree(data):
    n = data.draw(st.integers(1, 20))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    blocks = {v: rng.normal(size=(n, w)).astype(np.float32) for v, w in [("a", 2), ("b", 3)]}
    for block in blocks.values():
        block[rng.random(n) < 0.3] = np.nan
    table = table_from_arrays([f"S{i}" for i in range(n)], blocks)
    whole = np.concatenate([blocks["a"], blocks["b"]], axis=1)
    rows = np.arange(n)
    for _ in range(data.draw(st.integers(0, 3))):
        chosen = np.array(
            data.draw(st.lists(st.integers(0, len(rows) - 1), unique=True)), dtype=np.int64
        )
        if data.draw(st.booleans()):
            mask = np.zeros(len(rows), bool)
            mask[chosen] = True
            table, rows = table.select(mask), rows[mask]
        else:
            table, rows = table.select(chosen), rows[chosen]
        if not len(rows):
            break
    assert table.studies.tolist() == [f"S{i}" for i in rows]
    np.testing.assert_array_equal(table.matrix(), whole[rows])
    np.testing.assert_array_equal(table.only(["b"]).matrix(), whole[rows][:, 2:])
    size = data.draw(st.integers(1, 25))
    seen = np.full_like(whole[rows], -1)
    for place, values in table.batches(size):
        assert len(values) <= size
        seen[place] = values
    np.testing.assert_array_equal(seen, whole[rows])
    np.testing.assert_array_equal(
        table.presence, ~np.isnan(np.stack([whole[rows, 0], whole[rows, 2]], 1))
    )


def test_the_digest_is_of_the_row_order():
    table = two_views()
    assert table.digest == two_views().digest
    assert table.digest == table.only(["lateral"]).digest
    assert table.select([1, 0, 2, 3]).digest != table.digest
    assert table.select([0, 1]).digest != table.digest


def test_a_study_that_stands_twice_is_refused():
    with pytest.raises(DataError, match="twice"):
        table_from_arrays(["S1", "S1"], {"a": FRONTAL[:2]})
    with pytest.raises(DataError, match="twice"):
        two_views().select([0, 0])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_feature_that_is_not_finite_where_the_view_is_present_is_an_error(value):
    values = FRONTAL.copy()
    values[2, 1] = value
    table = table_from_arrays(STUDIES, {"lateral": LATERAL, "frontal": values})
    for read in (table.matrix, lambda: table.block("frontal"), lambda: list(table.batches(1))):
        with pytest.raises(DataError) as caught:
            read()
        assert (caught.value.study, caught.value.view) == ("S3", "frontal")
    np.testing.assert_array_equal(table.block("lateral"), LATERAL)
    with pytest.raises(DataError) as caught:
        table.select([3, 2]).matrix()
    assert caught.value.study == "S3"


def test_numbers_where_the_view_is_missing_are_an_error():
    presence = np.array([[True], [False], [True], [True]])
    ids = np.array(STUDIES, dtype=object)
    table = FeatureTable(ids, ids, {"a": ArrayBlock(FRONTAL)}, presence, {"a": "k"})
    with pytest.raises(DataError) as caught:
        table.matrix()
    assert caught.value.study == "12"


def test_misaligned_views_are_refused():
    ids = np.array(STUDIES, dtype=object)
    whole = np.ones((4, 1), bool)
    block = {"a": ArrayBlock(FRONTAL)}
    for make in (
        lambda: FeatureTable(ids, ids[:3], block, whole, {"a": "k"}),
        lambda: FeatureTable(ids, ids, block, whole[:3], {"a": "k"}),
        lambda: FeatureTable(ids, ids, block, np.ones((4, 2), bool), {"a": "k"}),
        lambda: FeatureTable(ids, ids, block, whole, {"b": "k"}),
        lambda: FeatureTable(ids, ids, {"a": ArrayBlock(FRONTAL[:3])}, whole, {"a": "k"}),
        lambda: FeatureTable(ids[:3], ids[:3], block, whole[:3], {"a": "k"}),
        lambda: table_from_arrays(STUDIES, {"a": FRONTAL, "b": LATERAL[:3]}),
        lambda: table_from_arrays(STUDIES[:3], {"a": FRONTAL}),
        lambda: table_from_arrays(STUDIES, {"a": FRONTAL}, groups=["P"]),
    ):
        with pytest.raises(DataError):
            make()


def test_a_mask_of_another_length_is_refused():
    for length in (3, 5):
        with pytest.raises(DataError, match="mask"):
            two_views().select(np.ones(length, bool))


def test_groups_follow_their_studies():
    table = two_views(groups=["P1", "P1", "P2", "P3"])
    assert table.select([3, 0]).groups.tolist() == ["P3", "P1"]
    assert two_views().groups.tolist() == STUDIES
