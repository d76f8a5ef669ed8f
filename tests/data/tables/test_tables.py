"""Ids come out of a table as they were written, and what cannot be read is one clear line."""

import codecs
import csv
import gzip
import io
import zipfile

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvp.data.tables import encodings
from mvp.data.tables.table import read_table
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
    said = "utf-8-sig" if encoding == "utf-8" else encoding
    assert table.how == f"{said}, separator ','"
    assert table.frame.to_numpy().tolist() == [["0012", "Öl – x"]]


def test_cells_and_headers_lose_the_space_after_a_comma(tmp_path):
    table = read_table(write(tmp_path, 'study , "patient"\nS1, 007\n'))
    assert table.frame["patient"].tolist() == ["007"]
    assert "study" in table.frame


def test_semicolons_with_decimal_commas(tmp_path):
    table = read_table(write(tmp_path, "study;age, years;x, y, z\n0012;63,5;1,0\n"))
    assert table.separator == ";"
    assert table.frame.to_numpy().tolist() == [["0012", "63,5", "1,0"]]


def test_a_header_with_a_line_break_in_quotes_has_its_separator(tmp_path):
    table = read_table(write(tmp_path, '"study, or\nexam; any";x;y\nS1;1;2\n'))
    assert table.separator == ";"
    assert table.frame["y"].tolist() == ["2"]
    assert table.line(0) == 3


@pytest.mark.parametrize("name", ["t.csv.gz", "t.tsv.gz", "t.csv"])
def test_packed_tables_are_unpacked_whatever_they_are_called(tmp_path, name):
    separator = "\t" if ".tsv" in name else ","
    packed = gzip.compress(text_of(ROWS, separator).encode())
    table = read_table(write(tmp_path, packed, name))
    assert table.frame.to_numpy().tolist() == ROWS[1:]
    assert table.how == f"gzip, utf-8-sig, separator {separator!r}"


def test_a_packed_table_that_is_cut_or_damaged_is_refused(tmp_path):
    packed = gzip.compress(b"study,view\n" + bytes(range(48, 100)) * 999)
    for raw in (packed[:-9], packed[:20], packed[:30] + b"xx" + packed[32:]):
        assert "damaged or cut off" in refused(write(tmp_path, raw, "t.csv.gz"))


@pytest.mark.parametrize("packed", [False, True])
def test_a_table_of_endless_text_is_refused_before_it_fills_the_memory(
    tmp_path, monkeypatch, packed
):
    monkeypatch.setattr(encodings, "MAX_BYTES", 10_000)
    monkeypatch.setattr(encodings, "_BLOCK", 1_000)
    raw = b"study,view\n" + b"0012,PA\n" * 10_000
    raw = gzip.compress(raw) if packed else raw
    assert "more than 10,000 bytes" in refused(write(tmp_path, raw))


def test_workbooks_and_archives_are_refused_with_the_remedy(tmp_path):
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        archive.writestr("xl/workbook.xml", "<x/>")
    zipped = (tmp_path / "zip").read_bytes()
    for raw, name in [(zipped, "t.xlsx"), (zipped, "t.csv"), (b"\xd0\xcf\x11\xe0", "t.csv")]:
        assert "save the sheet as CSV" in refused(write(tmp_path, raw, name))
    assert "save the sheet as CSV" in refused(write(tmp_path, b"anything", "t.xls"))


def test_utf_16_without_a_mark_is_refused(tmp_path):
    assert "UTF-16 without a mark" in refused(
        write(tmp_path, "study,view\nS1,PA\n".encode("utf-16-le"))
    )


@pytest.mark.parametrize("end", ["", "\n", "\nS3,PA\n", "\n\n\n"])
def test_a_quote_that_is_never_closed_is_refused_with_its_line(tmp_path, end):
    """Left alone, the rest of the table would be one cell."""
    line = refused(write(tmp_path, f'study,view\nS1,PA\nS2,"LL{end}'))
    assert "line 3" in line
    assert "never closed" in line


def test_quotes_that_belong_to_cells_stay(tmp_path):
    text = 'study,note\nS1,5" long\nS2,"5"" long"\nS3,x"'
    assert read_table(write(tmp_path, text)).frame["note"].tolist() == ['5" long', '5" long', 'x"']


@pytest.mark.parametrize("rows", [127, 128, 129, 300])
def test_long_tables_keep_rows_and_lines(tmp_path, rows):
    text = "study,a,b\n" + "".join(f'{i:04},{i % 3},"x\n{i}"\n' for i in range(rows))
    table = read_table(write(tmp_path, text))
    assert table.frame["study"].tolist() == [f"{i:04}" for i in range(rows)]
    assert table.frame["a"].tolist() == [str(i % 3) for i in range(rows)]
    assert table.frame["b"].tolist() == [f"x\n{i}" for i in range(rows)]
    assert [table.line(i) for i in range(rows)] == [2 + 2 * i for i in range(rows)]


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


@settings(max_examples=300, deadline=None)
@given(raw=st.binary(max_size=60) | st.text('a,;\t|"\n\r\0\u00e9 ', max_size=60).map(str.encode))
def test_any_bytes_are_a_table_or_one_clear_line(tmp_path_factory, raw):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(raw)
    try:
        table = read_table(path)
    except DataError as error:
        assert str(error).isprintable()
    else:
        assert all(isinstance(cell, str) for cell in table.frame.to_numpy().ravel())
        assert len(table.frame) == len([table.line(row) for row in range(len(table.frame))])


CELL = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1, max_size=8)


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(st.lists(CELL, min_size=3, max_size=3), min_size=1, max_size=5),
    separator=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_what_a_program_writes_is_what_is_read(tmp_path_factory, rows, separator, encoding):
    rows = [[f"x{cell.strip()}x" for cell in cells] for cells in rows]
    text = io.StringIO()
    csv.writer(text, delimiter=separator).writerows([["study", "view", "path"], *rows])
    path = tmp_path_factory.getbasetemp() / "written.csv"
    path.write_bytes(text.getvalue().encode(encoding))
    table = read_table(path)
    assert table.frame.to_numpy().tolist() == rows
    assert table.separator == separator
