"""Values to features, by what the training rows hold and by nothing else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvp.config import ViewConfig
from mvp.data.table_encoder import (
    LIMIT,
    MAX_LEVELS,
    TableEncoder,
    fit_encoder,
    parse_cells,
    parse_number,
    values_digest,
)

VIEW = ViewConfig(kind="table", numbers=["age", "size"], categories=["sex"])


def values(*cells):
    parsed, wrong = parse_cells(VIEW, cells)
    assert not wrong
    return parsed


def fitted(*rows):
    return fit_encoder(VIEW, [values(*row) for row in rows])


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("63", 63),
        (" 63.5 ", 63.5),
        ("63,5", 63.5),
        ("-1e3", -1000),
        ("063Y", 63),
        ("018M", 1.5),
        ("014D", 14 / 365.25),
        ("1_0", None),
        ("inf", None),
        ("nan", None),
        ("1,000.5", None),
        ("63 years", None),
        ("63Y", None),
    ],
)
def test_numbers_as_people_write_them(text, number):
    assert parse_number(text) == number


def test_numbers_are_standardised_and_blanks_say_so():
    encoder = fitted(("40", "", "F"), ("60", "", "M"))
    features = encoder.encode([values("50", "", ""), values("", "", "f"), values("70", "", "X")])
    table = dict(zip(encoder.columns, features.T, strict=True))
    assert table["age"].tolist() == [0, 0, 2]
    assert table["age: blank"].tolist() == [0, 1, 0]
    assert table["size: blank"].tolist() == [1, 1, 1]
    assert table["sex=f"].tolist() == [0, 1, 0]
    assert table["sex: other"].tolist() == [0, 0, 1]
    assert table["sex: blank"].tolist() == [1, 0, 0]


def test_a_slip_of_the_pen_is_limited():
    encoder = fitted(("40", "", "F"), ("60", "", "M"))
    assert encoder.encode([values("4120", "", "")])[0, 0] == LIMIT


def test_a_constant_column_gives_zeros():
    encoder = fitted(("40", "3", "F"), ("40", "3", "F"))
    assert encoder.encode([values("40", "3", "F")])[0, 0] == 0


def test_rare_values_share_a_column():
    encoder = fit_encoder(VIEW, [values("1", "1", f"level {i}") for i in range(MAX_LEVELS + 5)])
    name, levels = encoder.categories[0]
    assert name == "sex"
    assert len(levels) == MAX_LEVELS


def test_wrong_cells_are_named():
    parsed, wrong = parse_cells(VIEW, ["old", "3", "F"])
    assert "'age'" in wrong
    assert "'old'" in wrong
    assert parsed[1:] == (3.0, "f")


def test_what_is_written_in_two_ways_is_one_row():
    assert values_digest(values("63", "1", "F")) == values_digest(values("63.0", "1,0", " f "))
    assert values_digest(values("63", "1", "F")) != values_digest(values("1", "63", "F"))


@given(
    st.lists(
        st.tuples(
            st.one_of(st.just(""), st.floats(-1e6, 1e6).map(str)),
            st.one_of(st.just(""), st.integers(-5, 5).map(str)),
            st.sampled_from(["", "F", "M", "x"]),
        ),
        max_size=20,
    ),
    st.randoms(),
)
def test_the_encoder_depends_on_the_set_of_training_rows_alone(rows, random):
    encoder = fitted(*rows)
    shuffled = list(rows)
    random.shuffle(shuffled)
    again = fitted(*shuffled)
    assert again.columns == encoder.columns
    assert TableEncoder.from_json(encoder.to_json()).digest == encoder.digest
    features = encoder.encode([values(*row) for row in rows])
    assert features.shape == (len(rows), len(encoder.columns))
    assert np.isfinite(features).all()
    assert np.abs(features).max(initial=0) <= LIMIT
