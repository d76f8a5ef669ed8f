"""The index finds what a dict would find."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvp.features import index, row_id
from mvp.features.index import RowIndex
from mvp.features.rows import pack, unpack
from mvp.files import digest_bytes

DIGESTS = [digest_bytes(b"image %d" % n) for n in range(6)]
ROWS = st.builds(row_id, st.sampled_from(DIGESTS), st.integers(0, 7) | st.just(2**32 - 1))
SEGMENTS = st.lists(
    st.lists(st.tuples(ROWS, st.booleans()), min_size=1, max_size=15, unique_by=lambda r: r[0]),
    max_size=5,
)


def built(segments):
    """The index over segments of (row, readable), and the dict that says the same."""
    model = {}
    for number, segment in enumerate(segments):
        for place, (row, readable) in enumerate(segment):
            if readable:
                model.setdefault(row, (3 * number, place))
    parts = [
        (3 * number, pack(r for r, _ in segment), np.array([ok for _, ok in segment], bool))
        for number, segment in enumerate(segments)
    ]
    return RowIndex(parts), model


def agree(segments, asked):
    found, model = built(segments)
    wanted = np.array([model.get(row, (-1, -1)) for row in asked], np.int64).reshape(-1, 2)
    np.testing.assert_array_equal(found.find(pack(asked)), wanted)
    assert len(found) == len(model)
    assert unpack(found.ids()) == sorted(model)


@settings(max_examples=200, deadline=None)
@given(SEGMENTS, st.lists(ROWS, max_size=40))
def test_it_finds_what_a_dict_finds(segments, asked):
    agree(segments, asked)


@pytest.mark.parametrize("modulus", [1, 2, 5])
@settings(max_examples=100, deadline=None)
@given(SEGMENTS, st.lists(ROWS, max_size=40))
def test_rows_that_share_a_hash_are_told_apart(modulus, segments, asked):
    true = index.hashes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index, "hashes", lambda ids: true(ids) % np.uint64(modulus))
        agree(segments, asked)


def test_the_largest_hash_is_found_and_one_past_the_end_is_not(monkeypatch):
    rows = [row_id(digest) for digest in DIGESTS]
    monkeypatch.setattr(index, "hashes", lambda ids: np.full(len(ids), 2**64 - 1, np.uint64))
    agree([[(row, True) for row in rows[:4]]], rows)


def test_one_image_of_many_instances_is_no_crowd():
    rows = [row_id(DIGESTS[0], i) for i in range(5000)]
    hashes = index.hashes(pack(rows))
    assert len(np.unique(hashes)) == len(rows)
    agree([[(row, i % 3 > 0) for i, row in enumerate(rows)]], rows[::-1])


def test_an_empty_index_finds_nothing():
    agree([], [row_id(DIGESTS[0])])
    agree([[(row_id(DIGESTS[0]), False)]], [row_id(DIGESTS[0])])
    assert RowIndex([]).find(pack([])).shape == (0, 2)
