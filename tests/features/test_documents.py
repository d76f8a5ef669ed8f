"""A document that was changed in any way is no document."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvp.features.documents import dump, load

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("abcü\n", max_size=3), inner, max_size=3)
    ),
    max_leaves=9,
)
DOCUMENTS = st.dictionaries(st.text("abcdeü\n", max_size=4), VALUES, max_size=5)


@settings(max_examples=100, deadline=None)
@given(DOCUMENTS)
def test_a_document_comes_back_and_is_plain_json(value):
    data = dump(value)
    assert load(data) == value
    assert set(json.loads(data)) == {*value, "check"}


@settings(max_examples=30, deadline=None)
@given(DOCUMENTS)
def test_a_value_has_one_text_whatever_the_order_of_its_fields(value):
    assert dump(dict(reversed(value.items()))) == dump(value)


EXAMPLE = dump({"unit": 3, "rejected": {"1": "broken ü"}, "digest": "0a" * 8, "x": [1.5, None]})


def test_every_single_bit_counts():
    for bit in range(8 * len(EXAMPLE)):
        hurt = bytearray(EXAMPLE)
        hurt[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError):
            load(bytes(hurt))


def test_every_truncation_and_every_lost_or_doubled_byte_counts():
    for place in range(len(EXAMPLE)):
        for hurt in (
            EXAMPLE[:place],
            EXAMPLE[:place] + EXAMPLE[place + 1 :],
            EXAMPLE[: place + 1] + EXAMPLE[place:],
        ):
            # Of two equal bytes nobody can say which was lost; the text is another in any case.
            assert hurt != EXAMPLE
            with pytest.raises(ValueError):
                load(hurt)


@pytest.mark.parametrize(
    "text",
    [
        "", "null", "[]", "{}", '"check"', '{"check": 1}', '{"check": "x", "a": NaN}', "\0" * 9,
        '{"check": "\\ud800"}', "[" * 5000,
        json.dumps(json.loads(EXAMPLE)), EXAMPLE.decode() + " ", EXAMPLE.decode("utf-8") * 2,
    ],
)  # fmt: skip
def test_what_we_did_not_write_is_refused(text):
    with pytest.raises(ValueError):
        load(text.encode())
