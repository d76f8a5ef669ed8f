"""Ids come out of a table as they were written, and what cannot be read is one clear line."""

import codecs

import numpy as np
import pandas as pd
import pytest

from mvp.data.tables import read_table
from mvp.errors import DataError

ROWS = [["study", "patient", "view"], ["0012", "007", "PA"], ["1e5", "0x1A", "L"]]


def text_of(rows, separator=","):
    return "".join(separator.join(cells) + "\n" for cells in rows)


def write(folder, content, name="table.csv"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refused(path):
    """The one line that a table is refused with."""
    with pytest.raises(DataError) as caught:
        read_table(path)
    line = str(caught.value)
    assert line.isprintable()
    assert str(path) in line
    return line


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_ids_stay_strings_whatever_separates_them(tmp_path, separator, end):
    text = text_of(ROWS, separator).replace("\n", end)
    table = read_table(write(tmp_path, text.encode()))
    assert table.separator == separator
    assert [list(table.frame.columns), *table.frame.to_numpy().tolist()] == ROWS


def test_tsv_is_separated_by_tabs_even_when_commas_abound(tmp_path):
    path = write(tmp_path, "study\tnote, or two, or three\n0012\ta,b,c\n", "table.tsv")
    assert read_table(path).frame.to_numpy().tolist() == [["0012", "a,b,c"]]


@pytest.mark.parametrize(
    ("encoding", "bom"),
    [("utf-8", b""), ("utf-8", codecs.BOM_UTF8), ("cp1252", b""), ("utf-16", b"")],
)
def test_encodings_of_common_programs(tmp_path, encoding, bom):
    raw = bom + "study,näme\n0012,Öl – x\n".encode(encoding)
    table = read_table(write(tmp_path, raw))
    assert list(table.frame.columns) == ["study", "näme"]
    assert table.frame.to_numpy().tolist() == [["0012", "Öl – x"]]


def test_cells_and_headers_lose_the_space_after_a_comma(tmp_path):
    table = read_table(write(tmp_path, 'study , "patient"\nS1, 007\n'))
    assert table.frame["patient"].tolist() == ["007"]
    assert "study" in table.frame


def test_words_for_missing_stay_as_written(tmp_path):
    """`NA` may be a name; what is blank is decided by who reads the column."""
    table = read_table(write(tmp_path, "study,x\nS1,NA\nS2,\nS3,nan\n"))
    assert table.frame["x"].tolist() == ["NA", "", "nan"]


def test_parquet_of_whole_numbers_reads_as_whole_numbers(tmp_path):
    path = tmp_path / "t.parquet"
    pd.DataFrame(
        {
            "text": ["0012", "007", None],
            "int": np.array([3, 12, 0]),
            "nullable": pd.array([3, None, 12345678901234567], dtype="Int64"),
            "float": [3.0, np.nan, 0.5],
            "float32": np.array([3.0, np.nan, 0.5], np.float32),
            "flag": [True, False, True],
        }
    ).to_parquet(path)
    frame = read_table(path).frame
    assert frame["text"].tolist() == ["0012", "007", ""]
    assert frame["int"].tolist() == ["3", "12", "0"]
    assert frame["nullable"].tolist() == ["3", "", "12345678901234567"]
    assert frame["float"].tolist() == ["3", "", "0.5"]
    assert frame["float32"].tolist() == ["3", "", "0.5"]
    assert frame["flag"].tolist() == ["True", "False", "True"]


def test_parquet_keeps_an_id_that_pandas_made_the_index(tmp_path):
    path = tmp_path / "t.parquet"
    pd.DataFrame({"study": ["0012"], "x": ["a"]}).set_index("study").to_parquet(path)
    assert read_table(path).frame["study"].tolist() == ["0012"]


@pytest.mark.parametrize("header", ["study,view,study", "study, study", "study ,study,view"])
def test_a_header_that_stands_twice_is_refused(tmp_path, header):
    row = ",".join("x" * len(header.split(",")))
    assert "'study' stands twice" in refused(write(tmp_path, f"{header}\n{row}\n"))


def test_nameless_columns_are_harmless(tmp_path):
    """NIH's table ends every line in a comma."""
    table = read_table(write(tmp_path, "study,,view,\nS1,x,PA,\n"))
    assert table.frame["view"].tolist() == ["PA"]


def test_a_trailing_comma_in_the_rows_alone_moves_no_column(tmp_path):
    table = read_table(write(tmp_path, "study,view\nS1,PA,\nS2,L,\n"))
    assert table.frame.to_numpy().tolist() == [["S1", "PA"], ["S2", "L"]]


def test_a_row_with_too_many_cells_is_refused_with_its_line(tmp_path):
    assert "line 3 has 3 cells, the header has 2" in refused(
        write(tmp_path, "study,view\nS1,PA\nS2,L,x\n")
    )
    assert "line 2" in refused(write(tmp_path, "study,view\nS1,PA,x\nS2,L,x\n"))


def test_lines_are_those_of_the_file_after_blank_lines_and_quoted_breaks(tmp_path):
    text = 'study,note\n\nS1,"two\nlines"\n\n\nS2,x\n'
    table = read_table(write(tmp_path, text))
    assert table.frame["study"].tolist() == ["S1", "S2"]
    assert table.frame["note"].tolist() == ["two\nlines", "x"]
    assert [table.line(row) for row in range(2)] == [3, 7]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b" \n \n", "empty"),
        (b"study,view\n", "no rows"),
        (b"study,view\n,\n\n", "no rows"),
        (b"study,view\n" + b"x" * 200_000 + b",PA\n", "cannot be read"),
    ],
)
def test_tables_without_a_row_are_refused(tmp_path, content, says):
    assert says in refused(write(tmp_path, content))


def test_a_missing_table_a_folder_and_a_false_parquet_are_refused(tmp_path):
    assert "not there" in refused(tmp_path / "none.csv")
    assert "data.table" in refused(tmp_path)
    assert "cannot be read" in refused(write(tmp_path, "study,view\n", "t.parquet"))


def test_a_parquet_without_rows_is_refused(tmp_path):
    path = tmp_path / "t.parquet"
    pd.DataFrame({"study": []}).to_parquet(path)
    assert "no rows" in refused(path)
