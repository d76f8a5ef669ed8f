"""A table in parts is the table: the same cells and lines, no study in two parts."""

import gzip
from itertools import pairwise

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvp.data.tables import encodings
from mvp.data.tables.parts import part_ids, table_parts
from mvp.data.tables.table import read_table
from mvp.errors import DataError

CELLS = st.sampled_from(["a", "b", " a", "nan", "ä", 'say "x", y', "two\nlines"])


def written(path, rows):
    frame = pd.DataFrame(rows, columns=["study", "path"])
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False)
    return path


def joined(parts):
    rows = [tuple(row) for part in parts for row in part.frame.to_numpy()]
    return rows, [part.line(i) for part in parts for i in range(len(part.frame))]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=40),
    st.integers(1, 12),
    st.sampled_from([".csv", ".parquet"]),
)
def test_parts_are_the_whole_and_no_study_is_parted(tmp_path_factory, rows, size, suffix):
    path = written(tmp_path_factory.mktemp("t") / f"t{suffix}", rows)
    whole = read_table(path)
    parts = list(table_parts(path, ["study"], size))
    assert joined(parts) == joined([whole])
    assert [part.how for part in parts] == [whole.how] * len(parts)
    for one, other in pairwise(parts):
        assert part_ids(one, ["study"])[-1] != part_ids(other, ["study"])[0]
    if len(rows) <= size:
        assert len(parts) == 1


@pytest.mark.parametrize("rows", [4, 5, 6])
def test_a_table_is_one_part_up_to_the_size_and_more_beyond(tmp_path, rows):
    path = written(tmp_path / "t.csv", [(f"s{n}", "x") for n in range(rows)])
    assert len(list(table_parts(path, ["study"], 5))) == 1 + (rows > 5)


def test_a_study_of_more_rows_than_a_part_is_one_part(tmp_path):
    path = written(tmp_path / "t.csv", [("a", "1"), *[("b", str(n)) for n in range(9)], ("c", "1")])
    assert [len(p.frame) for p in table_parts(path, ["study"], 2)] == [1, 9, 1]


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_the_encoding_is_that_of_the_whole_file(tmp_path, name, encoding, monkeypatch):
    monkeypatch.setattr(encodings, "_BLOCK", 7)
    text = "study;path\n" + "".join(f"s{n};x\n" for n in range(30)) + "müller;x\n"
    data = text.encode(encoding)
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    whole = read_table(tmp_path / name)
    parts = list(table_parts(tmp_path / name, ["study"], 4))
    assert len(parts) > 1
    assert joined(parts) == joined([whole])
    assert {part.how for part in parts} == {whole.how}


def test_what_is_wrong_further_down_is_told_as_ever(tmp_path):
    rows = "".join(f"s{n},x\n" for n in range(9))
    wrong = {
        "wide": (f"study,path\n{rows}a,b,c\n", "line 11 has 3 cells"),
        "open": (f'study,path\n{rows}a,"b\n', "never closed"),
        "none": ("study,path\n", "a header and no rows"),
        "empty": ("  \n", "is empty"),
    }
    for name, (text, says) in wrong.items():
        (tmp_path / f"{name}.csv").write_text(text)
        for read in (read_table, lambda path: list(table_parts(path, ["study"], 4))):
            with pytest.raises(DataError, match=says):
                read(tmp_path / f"{name}.csv")


def test_a_packed_table_that_was_cut_is_damage(tmp_path):
    rows = "".join(f"s{n * 7919},x{n}\n" for n in range(5000))
    packed = gzip.compress(f"study,path\n{rows}".encode())
    (tmp_path / "t.csv.gz").write_bytes(packed[:-40])
    with pytest.raises(DataError, match="damaged or cut off"):
        list(table_parts(tmp_path / "t.csv.gz", ["study"], 4))


def test_no_part_is_larger_than_asked(tmp_path):
    path = written(tmp_path / "t.csv", [(f"s{n}", "x") for n in range(1000)])
    assert max(len(part.frame) for part in table_parts(path, ["study"], 10)) == 10
