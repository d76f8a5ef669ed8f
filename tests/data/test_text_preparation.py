"""From characters to numbers, and texts out of files."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mvp.config import TextConfig
from mvp.config.network import ALPHABET
from mvp.data.inputs import TextInputs
from mvp.data.loading import Request
from mvp.data.reading.limits import Limits
from mvp.data.reading.texts import normalised, read_text, text_digest
from mvp.data.text_preparation import END, LONGER, PADDING, START, TextPreparation
from mvp.errors import ImageError
from mvp.files import digest_file


def prepare(text, **changes):
    return TextPreparation(TextConfig(**{"length": 8, **changes})).prepare(text).tolist()


def test_start_end_and_padding_stand_around_the_text():
    row = prepare("ab")
    assert row[0] == START
    assert row[3] == END
    assert row[4:] == [PADDING] * 6
    assert len(row) == 10


def test_a_text_that_is_cut_off_says_so():
    assert prepare("12345678")[-1] == END
    assert prepare("123456789")[-1] == LONGER
    assert prepare("123456789")[:-1] == prepare("12345678")[:-1]


def test_case_counts_unless_it_is_switched_off():
    assert prepare("Ab") != prepare("ab")
    assert prepare("Ab", lower=True) == prepare("ab", lower=True)


@given(st.text(max_size=30))
def test_any_text_becomes_numbers_of_the_alphabet(text):
    row = prepare(text)
    assert all(0 <= n < ALPHABET for n in row)
    assert row == prepare(normalised(text))


def test_what_is_written_in_two_ways_is_one_text():
    assert normalised("Ame\u0301lie") == normalised("Am\u00e9lie")
    assert normalised(" a\t\n b ") == "a b"
    assert text_digest(normalised("Ame\u0301lie")) == text_digest(normalised("Am\u00e9lie"))


def test_the_digest_tells_preparations_apart_and_not_networks():
    one = TextPreparation(TextConfig())
    assert one.digest != TextPreparation(TextConfig(length=100)).digest
    assert one.digest != TextPreparation(TextConfig(lower=True)).digest
    assert one.digest == TextPreparation(TextConfig(channels=7)).digest


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_files_of_several_encodings(tmp_path, encoding):
    path = tmp_path / "report.txt"
    path.write_bytes("Pleuraerguß\r\nlinks".encode(encoding))
    assert read_text(path, Limits()) == "Pleuraerguß links"


@pytest.mark.parametrize("content", [b"", b" \n\t", b"a\0b", b"\xff\xfea"])
def test_what_is_no_text_is_refused(tmp_path, content):
    path = tmp_path / "report.txt"
    path.write_bytes(content)
    with pytest.raises(ImageError):
        read_text(path, Limits())


def test_a_long_file_is_refused(tmp_path):
    path = tmp_path / "report.txt"
    path.write_text("x" * 1_000_001)
    with pytest.raises(ImageError, match="1000001 characters"):
        read_text(path, Limits())


def test_inputs_of_cells_and_files(tmp_path):
    path = tmp_path / "report.txt"
    path.write_text("from a file")
    inputs = TextInputs(TextPreparation(TextConfig()), Limits(), {"d": "from a cell"})
    requests = [
        Request("", "d", (0,)),
        Request(str(path), digest_file(path), (0,)),
        Request(str(path), "another", (0,)),
        Request(str(tmp_path / "none.txt"), None, (0,)),
    ]
    cell, file, changed, missing = inputs.load(requests, 2, 4)
    assert torch.equal(cell, inputs.preparation.prepare("from a cell"))
    assert torch.equal(file, inputs.preparation.prepare("from a file"))
    assert isinstance(changed, ImageError)
    assert "changed" in changed.what
    assert isinstance(missing, ImageError)
